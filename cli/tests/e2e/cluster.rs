//! Several processes that are one cluster: a control plane and agents on loopback ports, with certificates on both
//! ends of every connection.

mod certificates;
mod loss;
mod nodes;
mod recovery;
mod refusal;
mod revoking;

use std::{
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{text, wasmatrix};

/// Longest wait for what must happen. A test that needs a tenth of it on an idle machine may need half on a busy one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Lines that wait to be looked at; what writes more waits.
const LINES_MAX: usize = 4096;

/// A process, and what it writes, line by line.
pub(crate) struct Process {
    child: Child,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

pub(crate) struct Lines {
    lines: Receiver<String>,
    /// All that was looked at.
    pub(crate) seen: Vec<String>,
}

impl Lines {
    fn of(from: impl Read + Send + 'static) -> Self {
        let (send, lines) = sync_channel(LINES_MAX);
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Self { lines, seen: Vec::new() }
    }

    /// A line that is wanted, whether it was looked at before or comes now.
    pub(crate) fn ever(&mut self, what: &str, mut wanted: impl FnMut(&str) -> bool) -> String {
        match self.seen.iter().find(|line| wanted(line)) {
            Some(line) => line.clone(),
            None => self.until(what, wanted),
        }
    }

    /// The next line that is wanted, whatever comes before it.
    pub(crate) fn until(&mut self, what: &str, mut wanted: impl FnMut(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if wanted(&line) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("{what} was never said:\n{}", self.seen.join("\n"))
                }
            }
        }
    }
}

impl Process {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = wasmatrix();
        command.args(arguments);
        Self::spawn(command)
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let stdout = Lines::of(child.stdout.take().expect("it is piped"));
        let stderr = Lines::of(child.stderr.take().expect("it is piped"));
        Self { child, stdout, stderr }
    }

    /// Kills it as a power failure would.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.ended()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("it is a process id");
        kill_process(Pid::from_raw(id).expect("it runs"), signal).expect("it runs");
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A control plane, which can be killed and begun again at the same addresses, and its agents.
pub(crate) struct Cluster {
    dir: tempfile::TempDir,
    plain: String,
    tls: String,
    /// What the control plane is told beside where it listens.
    more: Vec<String>,
    pub(crate) control: Process,
    /// The token that it printed when it began.
    pub(crate) token: String,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With these flags of the control plane too.
    pub(crate) fn start_with(more: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().expect("there is room for a directory"), more)
    }

    /// The same in a directory in which something may lie already.
    pub(crate) fn start_in(dir: tempfile::TempDir, more: &[&str]) -> Self {
        let more: Vec<String> = more.iter().map(|&flag| flag.to_owned()).collect();
        loop {
            let (plain, tls) = (any_port(), any_port());
            if let Some((control, token)) = control_plane(dir.path(), &plain, &tls, &more) {
                return Self { dir, plain, tls, more, control, token };
            }
        }
    }

    pub(crate) fn kill_control_plane(&mut self) {
        self.control.kill();
    }

    pub(crate) fn begin_control_plane_again(&mut self) {
        let begun = control_plane(self.dir.path(), &self.plain, &self.tls, &self.more);
        (self.control, self.token) = begun.expect("its ports are still its own");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A path as an argument.
    pub(crate) fn word(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Where it speaks plain text.
    pub(crate) fn plain(&self) -> &str {
        &self.plain
    }

    /// Where it speaks TLS.
    pub(crate) fn authority(&self) -> &str {
        &self.tls
    }

    /// Lets a node join with a fresh token, and waits until the control plane knows it.
    pub(crate) fn join(&self, node: &str) -> Process {
        let token = self.tell(&["token", "create", "--node", node]);
        self.join_with(node, &["--token", token.trim()])
    }

    pub(crate) fn join_with(&self, node: &str, more: &[&str]) -> Process {
        let (dir, cache, label) = (self.word(node), self.word("cache"), format!("zone={node}"));
        let join = ["join", &self.tls, "--node", node, "--data-dir", &dir, "--cache-dir", &cache];
        let rest = ["--listen", "127.0.0.1:0", "--kv", "memory", "--label", &label];
        let mut process = Process::start(&[&join[..], &rest, more].concat());
        process.stderr.until("that the node is known", |line| line.contains("is known to its control plane"));
        process
    }

    /// Runs a client's verb over TLS as whoever's certificate lies there.
    pub(crate) fn ask_as(&self, certs: &str, arguments: &[&str]) -> Output {
        let addr = format!("https://{}", self.tls);
        let certs = self.word(certs);
        let flags = ["--addr", &addr, "--certs", &certs];
        wasmatrix().args(flags).args(arguments).output().expect("the binary starts")
    }

    pub(crate) fn ask(&self, arguments: &[&str]) -> Output {
        self.ask_as("control/certs/admin", arguments)
    }

    /// Runs a client's verb that must succeed, and gives its standard output.
    pub(crate) fn tell(&self, arguments: &[&str]) -> String {
        let output = self.ask(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.tell(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&output).unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{output}"))
    }

    /// Starts a client's verb that goes on.
    pub(crate) fn follow(&self, arguments: &[&str]) -> Process {
        self.follow_as("control/certs/admin", arguments)
    }

    /// The same as whoever's certificate lies there.
    pub(crate) fn follow_as(&self, certs: &str, arguments: &[&str]) -> Process {
        let addr = format!("https://{}", self.tls);
        let certs = self.word(certs);
        Process::start(&[&["--addr", &addr, "--certs", &certs], arguments].concat())
    }

    /// Makes a certificate and gives its directory's name.
    pub(crate) fn issue(&self, role: &str, more: &[&str]) -> String {
        let dir = self.word("control/certs");
        let issue = ["certs", "issue", role, "--force", "--dir", &dir];
        let output = crate::run(&[&issue[..], more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        format!("control/certs/{role}")
    }

    /// The phase that an instance is said to be in; empty if it is not listed.
    pub(crate) fn phase(&self, instance: &str) -> String {
        let listed = self.json(&["ps"]);
        let items = listed["items"].as_array().expect("it is a list");
        let found = items.iter().find(|item| item["spec"]["name"] == instance);
        found.and_then(|item| item["phase"].as_str()).unwrap_or_default().to_owned()
    }

    /// Asks again and again until it is so.
    pub(crate) fn until(&self, what: &str, mut so: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !so() {
            assert!(Instant::now() < end, "it never came about: {what}\n{}", self.tell(&["node", "list"]));
        }
    }

    /// What a fact says, once it was recorded.
    pub(crate) fn fact(&self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let mut events = self.follow(&["events", "--watch", "-o", "json"]);
        let line = events.stdout.until(what, |line| {
            serde_json::from_str(line).is_ok_and(|fact: Value| fact["fact"] == what && wanted(&fact))
        });
        serde_json::from_str(&line).expect("it was read already")
    }
}

/// A control plane that answers there, and the token that it prints; `None`: somebody else listens there.
fn control_plane(dir: &Path, plain: &str, tls: &str, more: &[String]) -> Option<(Process, String)> {
    let data = dir.join("control").display().to_string();
    let doors = ["control-plane", "--listen", plain, "--cluster-listen", tls, "--data-dir", &data];
    let times = ["--heartbeat", "200ms", "--suspect-after", "2s", "--lost-after", "4s", "--settle", "2s"];
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let mut process = Process::start(&[&doors[..], &times, &more].concat());
    let begins = |line: &str| line.contains("--token") || line.contains("is in use");
    let invitation = process.stderr.until("how to join", begins);
    if invitation.contains("is in use") {
        return None;
    }
    let token = invitation.split_whitespace().last().expect("it ends with the token").to_owned();
    Some((process, token))
}

/// `ADDR:PORT` at which probably nobody listens, and which the kernel gives to nobody by itself: it is to be the same
/// after a restart.
pub(crate) fn any_port() -> String {
    format!("127.0.0.1:{}", rand::random_range(10_000..32_000))
}

/// The names of a list's instances on each of those nodes.
pub(crate) fn placed(list: &Value, node: &str) -> Vec<String> {
    let items = list["items"].as_array().expect("it is a list");
    let on_node = items.iter().filter(|item| item["node"] == node);
    on_node.filter_map(|item| Some(item["spec"]["name"].as_str()?.to_owned())).collect()
}
