//! A node that is gone.

use super::Cluster;
use crate::guest;

#[test]
fn what_a_lost_node_ran_is_unknown_and_what_may_be_is_started_elsewhere() {
    let cluster = Cluster::start();
    let (_a, mut b) = (cluster.join("a"), cluster.join("b"));
    let sleeper = guest("sleeper");
    cluster.tell(&["start", &sleeper, "--name", "stays", "--node", "b"]);
    cluster.tell(&["node", "cordon", "a"]);
    let says = [guest("probe"), "out here".to_owned(), "sleep 3600000".to_owned()];
    let mover = ["start", &says[0], "--name", "moves", "--on-node-loss", "restart-elsewhere", "--"];
    cluster.tell(&[&mover[..], &[&says[1], &says[2]]].concat());
    cluster.tell(&["node", "uncordon", "a"]);
    let before = cluster.json(&["get", "moves"]);
    assert_eq!(before["node"], "b");
    let mut log = cluster.follow(&["logs", "-f", "moves"]);
    log.stdout.until("what it says", |line| line == "here");
    let mut watch = cluster.follow(&["ps", "--watch"]);
    watch.stdout.until("the list", |line| line.starts_with("listed") && line.contains("stays"));

    b.kill();
    cluster.fact("node-phase-changed", |fact| fact["phase"] == "lost");
    cluster.fact("instance-succeeded", |fact| fact["instance"]["name"] == "moves");
    let stays = cluster.json(&["get", "stays"]);
    assert_eq!((&stays["phase"], &stays["unknown"]["last_phase"]), (&"unknown".into(), &"running".into()));
    let told = cluster.tell(&["get", "stays"]);
    for part in ["Why:", "silent", "last seen running", "on-node-loss is leave", "wasmatrix node rm b"] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    watch.stdout.until("that it is unknown", |line| line.starts_with("changed") && line.contains("unknown"));
    let after = cluster.json(&["get", "moves"]);
    assert_eq!((&after["node"], &after["generation"]), (&"a".into(), &2.into()));
    assert_eq!(after["predecessor"], before["id"]);
    // Who followed the log is told, and goes on with the successor's.
    log.stderr.until("that it is another", |line| line.contains("another instance now, of generation 2"));
    log.stdout.until("what it says", |line| line == "here");

    // With its certificate and without a token it is there again; what it ran before is not.
    let _b = cluster.join_with("b", &[]);
    cluster.fact("instance-lost", |fact| fact["instance"]["name"] == "stays");
    cluster.fact("node-phase-changed", |fact| fact["phase"] == "ready");
    let gone = cluster.ask(&["get", "stays"]);
    assert_eq!(gone.status.code(), Some(3), "{}", crate::text(&gone.stderr));
}
