//! Certificates over time: renewed before their end, taken up when they are replaced, and what becomes of those who let
//! theirs end.

use std::{fs, path::Path};

use rustix::process::Signal;
use serde_json::Value;

use super::{Cluster, Process};
use crate::{guest, run, text};

const RENEWED: &str = "the node's certificate was renewed";
const IN_USE: &str = "new credentials are in use";
const NOT_USED: &str = "new credentials are not used";

impl Cluster {
    /// A node by its certificate, in the way of those who make certificates themselves.
    fn agent(&self, certs: &str, more: &[&str]) -> Process {
        let (url, data) = (format!("https://{}", self.authority()), self.word(&format!("{certs}-data")));
        let certs = self.word(certs);
        let agent = ["agent", "--control-plane", &url, "--certs", &certs, "--data-dir", &data];
        let rest = ["--listen", "127.0.0.1:0", "--kv", "memory"];
        let mut process = Process::start(&[&agent[..], &rest, more].concat());
        process.stderr.until("that the node is known", |line| line.contains("is known to its control plane"));
        process
    }

    /// Puts a node's certificate into a directory.
    fn issue_node(&self, node: &str, more: &[&str]) {
        let out = self.word(node);
        self.issue(&format!("node/{node}"), &[&["--out", &out], more].concat());
    }
}

/// What a directory of certificates says of itself.
fn shown(dir: &Path) -> Value {
    let output = run(&["certs", "show", &dir.display().to_string(), "-o", "json"]);
    let list: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    list["items"][0].clone()
}

/// Of the certificate there; empty while the files are being replaced.
fn fingerprint(dir: &Path) -> String {
    shown(dir)["fingerprint"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_node_renews_its_certificate_again_and_again_and_nobody_notices() {
    let (probe, sleeper) = (guest("probe"), guest("sleeper"));
    let cluster = Cluster::start_with(&["--node-certs-valid-for", "15s"]);
    let mut a = cluster.join("a");
    cluster.tell(&["start", &probe, "--name", "says", "--", "out here", "sleep 3600000"]);
    let before = cluster.json(&["get", "says"]);
    let mut log = cluster.follow(&["logs", "-f", "says"]);
    log.stdout.until("what it says", |line| line == "here");
    let dir = cluster.path("a/certs/node");
    let mut seen = vec![fingerprint(&dir)];
    for round in 0..4 {
        a.stderr.until("that it was renewed", |line| line.contains(RENEWED));
        cluster.until("another certificate lies there", || {
            let now = fingerprint(&dir);
            let new = !now.is_empty() && !seen.contains(&now);
            if new {
                seen.push(now);
            }
            new
        });
        // Both ways: the node attends with the new one, and is asked by the control plane.
        let name = format!("round-{round}");
        cluster.tell(&["start", &sleeper, "--name", &name, "--node", "a"]);
        let now = cluster.json(&["get", "says"]);
        for field in ["id", "phase", "started_at", "restart_count"] {
            assert_eq!(now[field], before[field], "{field}");
        }
    }
    // Over more than two lifetimes nobody was refused, and the node was never lost.
    let events = cluster.tell(&["events"]);
    assert!(!events.contains("access-refused") && !events.contains("node-lost"), "{events}");
    assert_eq!(log.stderr.seen, Vec::<String>::new());
    assert_eq!(a.terminate(), Some(0));
}

#[test]
fn an_agent_renews_the_certificate_that_it_was_given() {
    let cluster = Cluster::start();
    cluster.issue_node("b", &["--valid-for", "15s"]);
    let dir = cluster.path("b");
    let given = shown(&dir);
    let mut b = cluster.agent("b", &[]);
    b.stderr.until("that it was renewed", |line| line.contains(RENEWED));
    let renewed = shown(&dir);
    assert_ne!(renewed["fingerprint"], given["fingerprint"]);
    assert!(renewed["expires_at"].as_str() > given["expires_at"].as_str(), "{given} {renewed}");
    cluster.until("it attends with that", || cluster.json(&["node", "list"])["items"][0]["phase"] == "ready");
    assert_eq!(b.terminate(), Some(0));
}

#[test]
fn an_agent_that_leaves_its_certificate_says_when_it_ends_and_what_to_do() {
    let sleeper = guest("sleeper");
    let cluster = Cluster::start();
    cluster.issue_node("b", &["--valid-for", "20s"]);
    let expires = shown(&cluster.path("b"))["expires_at"].as_str().expect("it is a time").to_owned();
    let mut b = cluster.agent("b", &["--no-renew"]);
    cluster.tell(&["start", &sleeper, "--name", "sleeper"]);
    let said = b.stderr.ever("that it is left", |line| line.contains("is not renewed by this process"));
    assert!(said.contains(&expires) && said.contains("certs issue node/b --force"), "{said}");

    // Nobody does it. The control plane says so and records it, and the node is lost.
    let refused = cluster.fact("access-refused", |fact| {
        fact["method"].as_str().is_some_and(|method| method.ends_with("/Attend"))
    });
    let part = |field: &str, part: &str| refused[field].as_str().is_some_and(|text| text.contains(part));
    assert!(part("peer", "node b") && part("reason", "expired"), "{refused}");
    b.stderr.until("what to do", |line| {
        line.contains("the certificate has expired") && line.contains("join again")
    });
    cluster.fact("node-phase-changed", |fact| fact["about"] == "b" && fact["phase"] == "lost");
    assert_eq!(cluster.json(&["get", "sleeper"])["phase"], "unknown");

    // Another certificate is put there: it is the same process, and the same instance.
    cluster.issue_node("b", &[]);
    b.signal(Signal::HUP);
    cluster.until("it is back", || cluster.phase("sleeper") == "running");
    assert_eq!(b.terminate(), Some(0));
}

/// A new authority takes the place of the old one, as the documentation says, under processes that go on: each step is
/// taken up from the files, on the server's side and on the client's, and broken files are not.
#[test]
fn what_is_replaced_on_disk_is_taken_up_and_what_is_broken_is_not() {
    let mut cluster = Cluster::start();
    cluster.issue_node("a", &[]);
    let mut a = cluster.agent("a", &[]);
    cluster.tell(&["start", &guest("sleeper"), "--name", "sleeper"]);
    let before = cluster.json(&["get", "sleeper"]);
    let (control, node) = (cluster.path("control/certs/control-plane"), cluster.path("a"));
    let new = cluster.word("new");
    assert!(run(&["certs", "init", &new, "--host", "127.0.0.1"]).status.success());
    let both = ["control/certs/authority", "new/authority"]
        .map(|authority| fs::read_to_string(cluster.path(authority).join("ca.pem")).unwrap())
        .concat();
    // An admin of the new authority who believes both.
    fs::write(cluster.path("new/admin/ca.pem"), &both).unwrap();
    let admin = "new/admin";
    assert_eq!(cluster.ask_as(admin, &["ps"]).status.code(), Some(4), "nobody believes the new one yet");

    // Both processes believe both: the server at a signal, the node without one.
    fs::write(control.join("ca.pem"), &both).unwrap();
    cluster.control.signal(Signal::HUP);
    cluster.control.stderr.until("that it believes both", |line| line.contains(IN_USE));
    assert!(cluster.ask_as(admin, &["ps"]).status.success());
    fs::write(node.join("ca.pem"), &both).unwrap();
    a.stderr.until("that it believes both", |line| line.contains(IN_USE));

    // A certificate of the new one for the node, whose key comes a moment too late, and garbage before it.
    fs::write(node.join("cert.pem"), "half a certif").unwrap();
    a.signal(Signal::HUP);
    let said = a.stderr.until("why it is not taken", |line| line.contains(NOT_USED));
    assert!(said.contains("cert.pem holds no certificate"), "{said}");
    cluster.tell(&["start", &guest("sleeper"), "--name", "meanwhile"]);
    let issued = cluster.word("issued");
    let issue = ["certs", "issue", "node/a", "--dir", &new, "--out", &issued];
    assert!(run(&issue).status.success());
    fs::copy(cluster.path("issued/cert.pem"), node.join("cert.pem")).unwrap();
    a.signal(Signal::HUP);
    let said = a.stderr.until("why it is not taken", |line| line.contains(NOT_USED));
    assert!(said.contains("key.pem is not the key of cert.pem"), "{said}");
    fs::copy(cluster.path("issued/key.pem"), node.join("key.pem")).unwrap();
    a.signal(Signal::HUP);
    let said = a.stderr.until("that it is another", |line| line.contains(IN_USE));
    assert!(said.contains(&fingerprint(&cluster.path("issued"))), "{said}");
    // It attends anew with that, over a connection whose other end has the certificate of the old one.
    cluster.until("it attends", || cluster.json(&["node", "list"])["items"][0]["phase"] == "ready");

    // And the control plane's own. Who believes the new one alone is answered from then on.
    let only_new = fs::read_to_string(cluster.path("new/authority/ca.pem")).unwrap();
    fs::write(cluster.path("new/admin/ca.pem"), only_new).unwrap();
    assert_eq!(cluster.ask_as(admin, &["ps"]).status.code(), Some(4));
    fs::write(control.join("key.pem"), "no key").unwrap();
    cluster.control.signal(Signal::HUP);
    let said = cluster.control.stderr.until("why it is not taken", |line| line.contains(NOT_USED));
    assert!(said.contains("key.pem holds no private key"), "{said}");
    cluster.tell(&["ps"]);
    for file in ["cert.pem", "key.pem"] {
        fs::copy(cluster.path("new/control-plane").join(file), control.join(file)).unwrap();
    }
    cluster.control.signal(Signal::HUP);
    cluster.control.stderr.until("that it is another", |line| line.contains(IN_USE));
    let seen = cluster.ask_as(admin, &["get", "sleeper", "-o", "json"]);
    assert!(seen.status.success(), "{}", text(&seen.stderr));
    let after: Value = serde_json::from_slice(&seen.stdout).unwrap();
    assert_eq!(
        (&after["id"], &after["phase"], &after["started_at"]),
        (&before["id"], &before["phase"], &before["started_at"])
    );
    assert_eq!(a.terminate(), Some(0));
}
