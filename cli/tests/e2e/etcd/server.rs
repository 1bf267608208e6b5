//! An etcd of the test's own, and what stands in it, asked by its JSON over HTTP: what `wasmatrix` says to it goes
//! another way.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Lines, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{PATIENCE, Process, any_port};

/// What etcd logs when it answers.
const ANSWERS: &str = "serving client traffic insecurely";

/// See the module's head. It ends with the value.
pub(super) struct Etcd {
    folder: TempDir,
    /// Where it is asked by the test, in plain text, and where by others over TLS.
    plain: String,
    secured: Option<(String, PathBuf)>,
    peer: String,
    process: Process,
}

/// What stands at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) value: String,
    /// The lease that it vanishes with; 0: none.
    pub(super) lease: String,
}

pub(super) type Entries = BTreeMap<String, Entry>;

impl Etcd {
    /// One with nothing in it.
    pub(super) fn start() -> Self {
        Self::begin(None)
    }

    /// One that asks whoever comes over TLS for a certificate of the authority in `certs`, and shows the one there.
    pub(super) fn secured(certs: &Path) -> Self {
        Self::begin(Some((free_address(), certs.to_owned())))
    }

    fn begin(secured: Option<(String, PathBuf)>) -> Self {
        let folder = tempfile::tempdir().expect("there is room for a directory");
        let (plain, peer) = (free_address(), free_address());
        let process = spawn(folder.path(), &plain, secured.as_ref(), &peer);
        Self { folder, plain, secured, peer, process }
    }

    /// Where it is found.
    pub(super) fn url(&self) -> String {
        match &self.secured {
            Some((address, _)) => format!("https://{address}"),
            None => format!("http://{}", self.plain),
        }
    }

    /// Ends it as a power cut would.
    pub(super) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again at the same address, with what it had.
    pub(super) fn restart(&mut self) {
        self.process = spawn(self.folder.path(), &self.plain, self.secured.as_ref(), &self.peer);
    }

    /// Starts it again at the same address, with nothing in it.
    pub(super) fn restart_empty(&mut self) {
        self.folder = tempfile::tempdir().expect("there is room for a directory");
        self.restart();
    }

    /// All that stands in it.
    pub(super) fn entries(&self) -> Entries {
        let answer = self.ask("kv/range", &json!({"key": "AA==", "range_end": "AA=="})).next();
        let answer = answer.expect("it answers").expect("it can be read");
        let answer: Value = serde_json::from_str(&answer).expect("it is JSON");
        let entries = answer["kvs"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().map(unpacked).unwrap_or_default();
        entries
            .map(|entry| {
                let lease = entry["lease"].as_str().unwrap_or("0").to_owned();
                (text(&entry["key"]), Entry { value: text(&entry["value"]), lease })
            })
            .collect()
    }

    /// All that stands in it, as soon as that is as it should be.
    pub(super) fn entries_when(&self, what: &str, as_it_should_be: impl Fn(&Entries) -> bool) -> Entries {
        // The first line says that it watches: from then on no change is missed.
        let everything = json!({"create_request": {"key": "AA==", "range_end": "AA=="}});
        let mut changes = self.ask("watch", &everything);
        loop {
            let changed = changes.next();
            let entries = self.entries();
            if as_it_should_be(&entries) {
                return entries;
            }
            assert!(matches!(changed, Some(Ok(_))), "{what} never came about: {changed:?}, {entries:#?}");
        }
    }

    fn ask(&self, what: &str, request: &Value) -> Lines<BufReader<TcpStream>> {
        let mut stream = TcpStream::connect(&self.plain).expect("etcd answers");
        stream.set_read_timeout(Some(PATIENCE)).expect("it is open");
        let body = request.to_string();
        // In this old version an answer has no other end than the connection's.
        let head =
            format!("POST /v3/{what} HTTP/1.0\r\nHost: etcd\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).expect("etcd listens");
        let mut lines = BufReader::new(stream).lines();
        let status = lines.next().expect("it answers").expect("it can be read");
        assert!(status.contains("200"), "{status}");
        let ends = lines.by_ref().any(|line| line.is_ok_and(|line| line.is_empty()));
        assert!(ends, "a head ends");
        lines
    }
}

fn free_address() -> String {
    loop {
        let address = any_port();
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

fn spawn(folder: &Path, plain: &str, secured: Option<&(String, PathBuf)>, peer: &str) -> Process {
    let (plain, peer) = (format!("http://{plain}"), format!("http://{peer}"));
    let mut etcd = Command::new("etcd");
    etcd.arg("--data-dir").arg(folder).args(["--logger", "zap"]).stdin(Stdio::null());
    etcd.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    etcd.args(["--initial-cluster", &format!("default={peer}"), "--advertise-client-urls", &plain]);
    let mut listen = plain;
    if let Some((address, certs)) = secured {
        listen += &format!(",https://{address}");
        etcd.arg("--client-cert-auth").arg("--trusted-ca-file").arg(certs.join("ca.pem"));
        etcd.arg("--cert-file").arg(certs.join("cert.pem")).arg("--key-file").arg(certs.join("key.pem"));
    }
    etcd.args(["--listen-client-urls", &listen]);
    let mut process = Process::spawn(etcd);
    process.stderr.until("that etcd answers", |line| line.contains(ANSWERS));
    process
}

/// Text that was packed in base 64.
fn unpacked(packed: &str) -> String {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = packed.bytes().filter(|byte| *byte != b'=').map(digit).collect();
    let bytes = digits.chunks(4).flat_map(|four| {
        let bits = (0..4).fold(0_u32, |bits, at| bits << 6 | u32::from(four.get(at).copied().unwrap_or(0)));
        bits.to_be_bytes()[1..four.len()].to_vec()
    });
    String::from_utf8(bytes.collect()).expect("it is text")
}
