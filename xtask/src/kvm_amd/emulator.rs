//! The emulated machine: one QEMU process, whose console is read line by line until it ends or its time is over.
//!
//! It can't outlive us. Leaving [`run`] by any way ends it and waits for it; and should this process die by a signal,
//! the kernel ends it, which `setpriv` asked for.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError, SyncSender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::needs::Programs;

/// Every feature that can be emulated, nested virtualisation of AMD's kind among them.
const PROCESSOR: &str = "max,+svm";
/// Room for the initramfs twice, for compilers, and for machines within the machine.
const MEMORY_MIB: &str = "4096";
/// Lines that may wait for us before the machine does.
const LINES_MAX: usize = 1024;

/// What is booted.
#[derive(Debug)]
pub struct Boot<'a> {
    /// QEMU and what starts it.
    pub programs: &'a Programs,
    /// The kernel's image.
    pub kernel: &'a Path,
    /// What it unpacks and runs.
    pub initramfs: &'a Path,
    /// The kernel's command line.
    pub append: &'a str,
}

/// A process that ends with its owner.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // It may have ended by itself, and then neither has anything to do.
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Boots, hands over each line of the console with the time since the start, and returns when the machine has
/// switched itself off.
///
/// # Errors
/// QEMU can't be started or fails, or the machine still runs after `limit`.
pub fn run(boot: &Boot<'_>, limit: Duration, mut hear: impl FnMut(Duration, &str)) -> Result<()> {
    let begun = Instant::now();
    let mut qemu = Owned(command(boot).spawn().context("can't start QEMU")?);
    let console = qemu.0.stdout.take().context("QEMU's output was piped")?;
    let (sender, lines) = mpsc::sync_channel(LINES_MAX);
    thread::spawn(move || read(console, &sender));
    loop {
        match lines.recv_timeout(limit.saturating_sub(begun.elapsed())) {
            Ok(line) => hear(begun.elapsed(), &line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => bail!(
                "the emulated machine was ended after {} s: choose fewer tests, or allow more with --limit",
                limit.as_secs()
            ),
        }
    }
    let status = qemu.0.wait().context("can't wait for QEMU")?;
    if !status.success() {
        bail!("QEMU failed ({status}); what it said is above");
    }
    Ok(())
}

fn command(boot: &Boot<'_>) -> Command {
    let mut command = Command::new(&boot.programs.setpriv);
    command.args(["--pdeathsig", "KILL", "--"]).arg(&boot.programs.qemu);
    command.args(["-accel", "tcg,thread=multi", "-cpu", PROCESSOR, "-smp", "1", "-m", MEMORY_MIB]);
    command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"]);
    command.arg("-kernel").arg(boot.kernel).arg("-initrd").arg(boot.initramfs).args(["-append", boot.append]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// Reads the console to its end, or until nobody listens any more.
fn read(console: ChildStdout, lines: &SyncSender<String>) {
    for line in BufReader::new(console).split(b'\n') {
        let Ok(line) = line else { return };
        if lines.send(String::from_utf8_lossy(&line).trim_end().replace('\r', "")).is_err() {
            return;
        }
    }
}
