//! The binary as its user meets it: real processes, real sockets, real files.
#![expect(clippy::panic, reason = "a test that can't go on says why")]

mod certs;
mod cluster;
mod crash;
#[cfg(feature = "etcd")]
mod etcd;
mod server;
mod single;

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

/// The binary under test, with none of the caller's settings.
fn wasmatrix() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wasmatrix"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WASMATRIX_")) {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn guest(name: &str) -> String {
    wasmatrix_tests::guests::guest(name).display().to_string()
}

/// Runs it to its end.
fn run(arguments: &[&str]) -> Output {
    wasmatrix().args(arguments).output().expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `wasmatrix up` on a port of its own, ended with the value.
struct Up {
    process: Child,
    address: String,
}

impl Up {
    /// Starts it with its data in `directory`, and waits until it says where it listens.
    fn start(directory: &Path) -> Self {
        let mut process = wasmatrix()
            .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(directory)
            .arg("--cache-dir")
            .arg(directory.join("cache"))
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(process.stderr.take().expect("it is piped")).lines();
        let address = lines
            .by_ref()
            .map(|line| line.expect("it is text"))
            .find_map(|line| {
                line.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned)
            })
            .expect("it says where it listens");
        // Whoever does not read makes the other wait.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address }
    }

    /// Runs a client's verb against it.
    fn ask(&self, arguments: &[&str]) -> Output {
        wasmatrix().args(["--addr", &self.address]).args(arguments).output().expect("the binary starts")
    }

    /// Runs a client's verb that must succeed, and gives its standard output.
    fn tell(&self, arguments: &[&str]) -> String {
        let output = self.ask(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The same as JSON documents, one on each line or one alone.
    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.tell(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&output).unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{output}"))
    }

    /// Follows an instance's log until a line contains `wanted`.
    fn hear(&self, instance: &str, wanted: &str) {
        let mut follow = wasmatrix()
            .args(["--addr", &self.address, "logs", "-f", instance])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(follow.stdout.take().expect("it is piped")).lines();
        assert!(
            lines.any(|line| line.is_ok_and(|line| line.contains(wanted))),
            "{instance} never said {wanted}"
        );
        // It follows until it is told to stop.
        let _ = follow.kill();
        let _ = follow.wait();
    }

    /// Kills it as a power failure would.
    fn kill(mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it has ended");
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // It may have ended by itself, or been killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
