//! Runs the micro-VM executor's tests on a stock Debian kernel's `kvm-amd`, on a processor that QEMU emulates.
//!
//! A build machine has one KVM, and it need not be the one that users have: it may be paravirtual, nested or missing.
//! Here the tests meet AMD-V with nested paging wherever they are built, at 10 to 50 times their duration, so this
//! proves function and no figure.
//!
//! ```text
//! tests ─> emulated processor with SVM ─> Debian's kernel, kvm-amd ─> test binary ─> micro-VM ─> guest
//!          (QEMU, no KVM needed)                                      (one after another, from /init)
//! ```
//!
//! | room | what it is |
//! |---|---|
//! | [`needs`] | the programs and the kernel, and where they come from |
//! | [`suite`] | which tests, and the binaries that hold them |
//! | [`initramfs`] | everything that the emulated machine sees of the host, in one file |
//! | [`emulator`] | the emulated machine, its console and its end |

pub mod emulator;
pub mod initramfs;
pub mod needs;
pub mod suite;

use std::{env, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use self::{
    initramfs::{EXECUTABLE, Initramfs, PLAIN},
    needs::{Cache, Kernel, MODULES},
    suite::Suite,
};
use crate::examples;

/// Tests that try many guests, each of which takes about as long as a launch: who says how many, and how many.
const RUNS: [(&str, &str); 2] = [("WASMATRIX_HOSTILE_RUNS", "10"), ("WASMATRIX_ORACLE_RUNS", "10")];
/// What the emulated machine's init writes before a suite's name and exit status.
const ENDED: &str = "kvm-amd: ended: ";

/// Whether what is built here can run there.
const HOST: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));
/// Several times what the usual choice takes.
const LIMIT_SECONDS: u64 = 1200;

/// `cargo xtask kvm-amd`
#[derive(Debug, Args)]
pub struct KvmAmd {
    /// Give up after this time
    #[arg(long, value_name = "SECONDS", default_value_t = LIMIT_SECONDS)]
    limit: u64,
    /// Every test, the slow ones too (allow an hour: --limit 3600)
    #[arg(long, conflicts_with = "arguments")]
    all: bool,
    /// Handed on to the test binaries in place of the usual choice: parts of tests' names, --skip, --exact
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Default for KvmAmd {
    /// The usual choice of tests.
    fn default() -> Self {
        Self { limit: LIMIT_SECONDS, all: false, arguments: Vec::new() }
    }
}

impl KvmAmd {
    /// Whether this machine has what [`KvmAmd::run`] needs, or may get it, the network permitting.
    ///
    /// # Errors
    /// `/proc` can't be read.
    pub fn is_possible() -> Result<bool> {
        Ok(HOST && needs::are_obtainable()?)
    }

    /// Builds the tests, boots the emulated machine with them and repeats its console, each line with its time.
    ///
    /// # Errors
    /// A test fails, no test was chosen, the time is over, or something that this needs is missing; the message says
    /// what to do.
    pub fn run(&self) -> Result<()> {
        if !HOST {
            bail!(
                "the tests are built for the machine that this runs on, and it has to be x86-64 with Linux"
            );
        }
        let programs = needs::programs()?;
        let suites = suite::chosen(self.all, &self.arguments)?;
        let cache = Cache::open()?;
        let kernel = cache.kernel()?;
        let initramfs = cache.folder().join("initramfs.cpio");
        pack(&initramfs, &kernel, &programs.busybox, &suites)
            .with_context(|| format!("can't write {}", initramfs.display()))?;

        println!("booting {} on an emulated processor", kernel.name());
        let mut endings = Endings::default();
        let boot = emulator::Boot {
            programs: &programs,
            kernel: &kernel.image,
            initramfs: &initramfs,
            append: BOOT_LINE,
        };
        emulator::run(&boot, Duration::from_secs(self.limit), |at, line| {
            endings.hear(line);
            println!("{:7.1} s  {line}", at.as_secs_f64());
        })?;
        endings.verdict(&suites)
    }
}

/// A panic ends the machine at once: its console has said why.
const BOOT_LINE: &str = "console=ttyS0 panic=-1 quiet";

/// Writes what the emulated machine starts with: busybox, modules, guests, test binaries and what they link to.
fn pack(to: &Path, kernel: &Kernel, busybox: &Path, suites: &[Suite]) -> Result<()> {
    let mut initramfs = Initramfs::create(to)?;
    for folder in ["dev", "proc", "root", "sys", "tmp"] {
        initramfs.folder(folder)?;
    }
    initramfs.program("bin/busybox", busybox)?;
    for module in MODULES {
        initramfs.bytes(&format!("{module}.ko"), PLAIN, &kernel.module(module)?)?;
    }
    for suite in suites {
        initramfs.program(&format!("suites/{}", suite.name), &suite.binary)?;
    }
    if suites.iter().any(|suite| suite.runs_examples) {
        for guest in examples::rust(&[])? {
            let name = guest.file_name().context("a guest's path ends in its name")?.to_string_lossy();
            initramfs.bytes(&format!("guests/{name}"), PLAIN, &fs::read(&guest)?)?;
        }
    }
    let runs = RUNS.map(|(name, runs)| (name, env::var(name).unwrap_or_else(|_| runs.to_owned())));
    initramfs.bytes("init", EXECUTABLE, init(suites, &runs).as_bytes())?;
    initramfs.finish()
}

/// The emulated machine's first process, a script for busybox. It has one processor, so tests run one at a time; on
/// their own lines, they are told as they end.
fn init(suites: &[Suite], runs: &[(&str, String)]) -> String {
    let mut script = String::from(
        "#!/bin/busybox sh\n\
         /bin/busybox mount -t proc proc /proc\n\
         /bin/busybox mount -t sysfs sys /sys\n\
         /bin/busybox mount -t devtmpfs dev /dev\n\
         /bin/busybox mount -t tmpfs tmp /tmp\n\
         /bin/busybox ifconfig lo up\n\
         ulimit -n 65536\n\
         export HOME=/root TMPDIR=/tmp WASMATRIX_REQUIRE_KVM=1 WASMATRIX_GUESTS_DIR=/guests\n\
         export WASMATRIX_TEST_CACHE_DIR=/tmp/compiled\n",
    );
    for (name, runs) in runs {
        script.push_str(&format!("export {name}={}\n", shell_word(runs)));
    }
    for module in MODULES {
        script.push_str(&format!("/bin/busybox insmod /{module}.ko\n"));
    }
    script.extend(suites.iter().map(lines));
    script.push_str("/bin/busybox poweroff -f\n");
    script
}

/// The lines that run a suite. An empty one keeps each mark at the start of its own, whatever came before.
fn lines(suite: &Suite) -> String {
    let (name, program) = (suite.name, shell_word(&format!("/suites/{}", suite.name)));
    let arguments: Vec<String> = suite.arguments.iter().map(|word| shell_word(word)).collect();
    format!(
        "echo; echo 'kvm-amd: {name}'\n\
         {program} --test-threads=1 --color=never {}\n\
         status=$?; echo; echo \"{ENDED}{name} $status\"\n",
        arguments.join(" "),
    )
}

/// A word that a shell takes as it is.
fn shell_word(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// What the console said of the suites: name and exit status of each that has ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Endings(Vec<(String, i32)>);

impl Endings {
    fn hear(&mut self, line: &str) {
        if let Some((name, status)) = line.strip_prefix(ENDED).and_then(|rest| rest.rsplit_once(' '))
            && let Ok(status) = status.parse()
        {
            self.0.push((name.to_owned(), status));
        }
    }

    /// Whether every suite has ended, and well.
    fn verdict(&self, suites: &[Suite]) -> Result<()> {
        for suite in suites {
            match self.0.iter().find(|(name, _)| *name == suite.name) {
                Some((_, 0)) => {}
                Some((name, status)) => {
                    bail!("the suite {name} failed under kvm-amd (exit status {status}); see above")
                }
                None => bail!(
                    "the emulated machine ended before the suite {} did; see its last lines",
                    suite.name
                ),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(name: &'static str) -> Suite {
        Suite { name, binary: "/bin/true".into(), arguments: vec!["it's".into()], runs_examples: false }
    }

    #[test]
    fn a_suite_has_passed_if_the_console_says_so_and_not_otherwise() {
        let suites = [suite("one"), suite("two")];
        let mut endings = Endings::default();
        for line in ["kvm-amd: one", "test result: ok", "kvm-amd: ended: one 0", "kvm-amd: ended: two"] {
            endings.hear(line);
        }
        let missing = endings.verdict(&suites).unwrap_err().to_string();
        assert!(missing.contains("ended before the suite two"), "{missing}");
        endings.hear("kvm-amd: ended: two 101");
        let failed = endings.verdict(&suites).unwrap_err().to_string();
        assert!(failed.contains("two failed") && failed.contains("101"), "{failed}");
        assert!(endings.verdict(&suites[..1]).is_ok());
    }

    #[test]
    fn the_script_tells_the_status_of_the_suite() {
        // The suite is not there, on a host, and that has a status of its own.
        let output = std::process::Command::new("sh").args(["-c", &lines(&suite("one"))]).output().unwrap();
        let mut endings = Endings::default();
        String::from_utf8(output.stdout).unwrap().lines().for_each(|line| endings.hear(line));
        assert_eq!(endings, Endings(vec![("one".to_owned(), 127)]));
    }

    #[test]
    fn the_first_process_is_a_script_that_a_shell_understands() {
        let script = init(&[suite("one")], &[("RUNS", "3; reboot".to_owned())]);
        assert!(script.contains("'it'\\''s'") && script.contains("='3; reboot'"), "{script}");
        let checked = std::process::Command::new("sh").args(["-n", "-c", &script]).status().unwrap();
        assert!(checked.success(), "{script}");
    }
}
