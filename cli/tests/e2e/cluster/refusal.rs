//! Who is not let in, and that it is said why: to him, and in the log.

use std::time::{Duration, Instant};

use super::Cluster;
use crate::{guest, run, text, wasmatrix};

#[test]
fn a_viewer_looks_and_changes_nothing() {
    let mut cluster = Cluster::start();
    let _a = cluster.join("a");
    cluster.tell(&["start", &guest("sleeper"), "--name", "sleeper"]);
    let viewer = cluster.issue("viewer", &["--name", "eve"]);
    let seen = cluster.ask_as(&viewer, &["ps", "-o", "name"]);
    assert_eq!(text(&seen.stdout), "sleeper\n", "{}", text(&seen.stderr));
    for change in [
        &["stop", "sleeper"][..],
        &["rm", "sleeper"],
        &["grant", "sleeper", "kv:read"],
        &["node", "drain", "a"],
        &["token", "create"],
    ] {
        let refused = cluster.ask_as(&viewer, change);
        assert_eq!(refused.status.code(), Some(4), "{change:?}: {}", text(&refused.stderr));
    }
    let operator = cluster.issue("operator", &[]);
    assert_eq!(cluster.ask_as(&operator, &["node", "cordon", "a"]).status.code(), Some(4));
    cluster.fact("access-refused", |fact| {
        fact["method"].as_str().is_some_and(|method| method.contains("StopInstance"))
    });
    cluster
        .control
        .stderr
        .until("the refusal in the log", |line| line.contains("StopInstance") && line.contains("viewer"));
    assert_eq!(cluster.json(&["get", "sleeper"])["phase"], "running");
    assert!(cluster.ask_as(&operator, &["stop", "sleeper"]).status.success());
}

#[test]
fn a_stranger_is_refused_and_told_why() {
    let mut cluster = Cluster::start();
    let other = cluster.word("other");
    assert!(run(&["certs", "init", &other]).status.success());
    let stranger = cluster.ask_as("other/admin", &["ps"]);
    assert_eq!(stranger.status.code(), Some(4), "{}", text(&stranger.stderr));
    assert!(text(&stranger.stderr).contains("authority"), "{}", text(&stranger.stderr));

    let tls = format!("http://{}", cluster.authority());
    let plain = wasmatrix().args(["--addr", &tls, "ps"]).output().unwrap();
    assert_eq!(plain.status.code(), Some(2), "{}", text(&plain.stderr));
    assert!(text(&plain.stderr).contains("write https://"), "{}", text(&plain.stderr));
    cluster.control.stderr.until("the refusal in the log", |line| line.contains("refused"));

    let here = format!("https://{}", cluster.plain());
    let certs = cluster.word("control/certs/admin");
    let reverse = wasmatrix().args(["--addr", &here, "--certs", &certs, "ps"]).output().unwrap();
    assert_eq!(reverse.status.code(), Some(4), "{}", text(&reverse.stderr));
    assert!(text(&reverse.stderr).contains("--cluster-listen"), "{}", text(&reverse.stderr));

    // A node is no user.
    let _a = cluster.join("a");
    let node = cluster.ask_as("a/certs/node", &["ps"]);
    assert_eq!(node.status.code(), Some(4), "{}", text(&node.stderr));
}

#[test]
fn a_certificate_that_ends_opens_nothing_any_more() {
    let cluster = Cluster::start();
    let viewer = cluster.issue("viewer", &["--valid-for", "2s"]);
    let end = Instant::now() + Duration::from_secs(60);
    let said = loop {
        let output = cluster.ask_as(&viewer, &["ps"]);
        if output.status.code() == Some(4) {
            break text(&output.stderr);
        }
        assert!(Instant::now() < end, "{}", text(&output.stderr));
    };
    assert!(said.contains("expired"), "{said}");
}

#[test]
fn a_token_is_good_once_and_for_the_node_that_it_names() {
    let mut cluster = Cluster::start();
    let authority = cluster.authority().to_owned();
    let join = |dir: &str, node: &str, token: &str| {
        let dir = cluster.word(dir);
        run(&["join", &authority, "--token", token, "--node", node, "--data-dir", &dir, "--enroll-only"])
    };
    assert!(join("b", "b", &cluster.token).status.success());
    let replayed = join("c", "c", &cluster.token);
    assert!(!replayed.status.success());
    assert!(text(&replayed.stderr).contains("used before"), "{}", text(&replayed.stderr));
    assert!(!cluster.path("c/certs/node/key.pem").exists());
    let bound = cluster.tell(&["token", "create", "--node", "d"]);
    let other = join("e", "e", bound.trim());
    assert!(!other.status.success() && text(&other.stderr).contains('d'), "{}", text(&other.stderr));
    let nonsense = join("f", "f", "wmx1.nonsense");
    assert_eq!(nonsense.status.code(), Some(2), "{}", text(&nonsense.stderr));
    cluster.control.stderr.until("the replay in the log", |line| line.contains("used before"));
}
