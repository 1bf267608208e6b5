//! Certificates that are taken back: what they opened is shut, and they open nothing more.

use rustix::process::Signal;
use serde_json::Value;

use super::Cluster;
use crate::{guest, run, text};

impl Cluster {
    /// What `certs` with these words says of each certificate.
    fn certs(&self, arguments: &[&str]) -> Vec<Value> {
        let output = run(&[&["certs"], arguments, &["-o", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        let list: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        list["items"].as_array().expect("it is a list").clone()
    }

    fn revoke(&self, arguments: &[&str]) -> Vec<Value> {
        self.certs(&[&["revoke", "--dir", &self.word("control/certs")], arguments].concat())
    }

    /// That somebody was refused because of it, by that method.
    fn refused_as_revoked(&self, method: &str) -> Value {
        self.fact("access-refused", |fact| {
            let part = |field: &str, part: &str| fact[field].as_str().is_some_and(|text| text.contains(part));
            part("method", method) && part("reason", "revoked")
        })
    }
}

#[test]
fn a_viewer_that_watches_is_cut_off_and_does_not_come_back() {
    let mut cluster = Cluster::start();
    let (dir, mallory_dir) = (cluster.word("control/certs"), cluster.word("mallory"));
    let eve = cluster.issue("viewer", &["--name", "eve"]);
    cluster.issue("viewer", &["--name", "mallory", "--out", &mallory_dir]);
    let mut watches = [&eve, "mallory"].map(|viewer| {
        let mut watch = cluster.follow_as(viewer, &["events", "--watch"]);
        watch.stdout.until("what happened", |line| line.contains("control-plane-started"));
        watch
    });

    // Of two viewers one must be named, and then it is that one alone.
    let both = run(&["certs", "revoke", "viewer", "--dir", &dir]);
    assert_eq!(both.status.code(), Some(2), "{}", text(&both.stderr));
    assert!(text(&both.stderr).contains("eve, mallory"), "{}", text(&both.stderr));
    let revoked = cluster.revoke(&["viewer", "--name", "eve"]);
    assert_eq!(revoked.len(), 1, "{revoked:?}");
    assert_eq!((&revoked[0]["name"], &revoked[0]["state"]), (&"eve".into(), &"revoked".into()));
    // No signal: the file is followed.
    assert_eq!(watches[0].ended(), Some(4));
    watches[0].stderr.until("why it ended", |line| line.contains("the certificate was revoked"));
    let back = cluster.ask_as(&eve, &["ps"]);
    assert_eq!(back.status.code(), Some(4), "{}", text(&back.stderr));
    assert!(text(&back.stderr).contains("our certificate was revoked"), "{}", text(&back.stderr));
    cluster.refused_as_revoked("/WatchFacts");
    cluster.refused_as_revoked("TLS handshake");
    cluster.control.stderr.until("it in the log", |line| line.contains("WatchFacts") && line.contains("eve"));

    // Once more changes nothing, and says so; it is seen where one looks.
    let again = cluster.revoke(&["viewer", "--name", "eve"]);
    assert_eq!(again[0]["state"], "already-revoked");
    let shown = cluster.certs(&["show", &dir]);
    let viewer = shown.iter().find(|one| one["role"] == "viewer").expect("it lies there");
    assert!(viewer["problem"].as_str().is_some_and(|problem| problem.contains("revoked")), "{viewer}");
    let issued = cluster.certs(&["show", "--issued", &dir]);
    let state = |name: &str| issued.iter().find(|one| one["name"] == name).map(|one| one["state"].clone());
    assert_eq!((state("eve"), state("mallory")), (Some("revoked".into()), Some("in-force".into())));

    // The other one has heard all of it. By its serial number, and at once by a signal.
    watches[1].stdout.until("the refusal", |line| line.contains("access-refused"));
    let serial = cluster.certs(&["show", "--issued", &dir]);
    let serial = serial.iter().find(|one| one["name"] == "mallory").expect("it is listed")["serial"].clone();
    cluster.revoke(&[serial.as_str().expect("it is text")]);
    cluster.control.signal(Signal::HUP);
    assert_eq!(watches[1].ended(), Some(4));
    cluster.tell(&["ps"]);
}

#[test]
fn what_is_not_there_can_not_be_taken_back() {
    let cluster = Cluster::start();
    let dir = cluster.word("control/certs");
    let (unknown, elsewhere) = (format!("{:032x}", 7), cluster.word("elsewhere"));
    for (which, at, code, part) in [
        ("node/nobody", &dir, 3, "certs show --issued"),
        ("viewer", &dir, 3, "no certificate of viewer"),
        (&unknown, &dir, 3, "fingerprint"),
        ("king", &dir, 2, "`king` names no certificate"),
        ("control-plane", &dir, 2, "--list"),
        ("admin", &elsewhere, 3, "--list"),
    ] {
        let output = run(&["certs", "revoke", which, "--dir", at]);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(code) && said.contains(part), "{which}: {said}");
    }
    assert!(!cluster.path("control/certs/control-plane/revoked.txt").exists());
    // Of one that the authority did not note, the fingerprint will do.
    let strange = format!("sha256:{:064x}", 7);
    assert_eq!(cluster.revoke(&[&strange])[0]["state"], "revoked");
    // A list that would not be used is not added to.
    let list = cluster.path("control/certs/control-plane/revoked.txt");
    std::fs::write(&list, "sha256:12\n").unwrap();
    let output = run(&["certs", "revoke", &strange, "--dir", &dir]);
    assert!(!output.status.success() && text(&output.stderr).contains("line 1"), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_to_string(&list).unwrap(), "sha256:12\n");
}

#[test]
fn a_node_that_was_revoked_is_refused_and_lost_until_it_has_another_certificate() {
    let mut cluster = Cluster::start();
    let (_a, mut b) = (cluster.join("a"), cluster.join("b"));
    let sleeper = guest("sleeper");
    cluster.tell(&["start", &sleeper, "--name", "there", "--node", "b"]);
    cluster.tell(&["start", &sleeper, "--name", "here", "--node", "a"]);
    let revoked = cluster.revoke(&["node/b"]);
    assert_eq!((revoked.len(), &revoked[0]["role"]), (1, &"node b".into()), "{revoked:?}");

    cluster.refused_as_revoked("/Attend");
    b.stderr.until("that it is refused", |line| line.contains("revoked"));
    cluster.refused_as_revoked("TLS handshake");
    cluster.control.stderr.until("the refusal in the log", |line| {
        line.contains("a TLS handshake was refused") && line.contains("revoked")
    });
    cluster.fact("node-phase-changed", |fact| fact["about"] == "b" && fact["phase"] == "lost");
    assert_eq!(cluster.json(&["get", "there"])["phase"], "unknown");
    assert_eq!(cluster.json(&["get", "here"])["phase"], "running");
    let nowhere = cluster.ask(&["start", &sleeper, "--name", "more", "--node", "b"]);
    assert!(!nowhere.status.success());

    // It was a mistake, or it was cleaned: a token that is bound to it gets it another certificate, which the process
    // that is there takes up.
    let token = cluster.tell(&["token", "create", "--node", "b"]);
    let (authority, data) = (cluster.authority().to_owned(), cluster.word("b"));
    let join =
        ["join", &authority, "--token", token.trim(), "--node", "b", "--data-dir", &data, "--enroll-only"];
    let joined = run(&join);
    assert!(joined.status.success(), "{}", text(&joined.stderr));
    b.signal(Signal::HUP);
    cluster.until("node b is back, and what it ran is known", || cluster.phase("there") == "running");
    assert_eq!(b.terminate(), Some(0));
}
