//! A control plane that is killed: nobody's instance notices, and it knows all again.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Cluster;
use crate::guest;

/// What must be the same before and after.
fn essence(list: &Value) -> Vec<[Value; 5]> {
    let items = list["items"].as_array().expect("it is a list").iter();
    items.map(|i| ["id", "node", "phase", "grants", "started_at"].map(|field| i[field].clone())).collect()
}

#[test]
fn a_control_plane_that_was_killed_knows_all_again() {
    let mut cluster = Cluster::start();
    let (_a, _b) = (cluster.join("a"), cluster.join("b"));
    let sleeper = guest("sleeper");
    cluster.tell(&["start", &sleeper, "--name", "web", "--replicas", "4"]);
    cluster.tell(&["start", &guest("probe"), "--name", "says", "--", "out here", "sleep 3600000"]);
    cluster.tell(&["grant", "web-1", "kv:read:settings/*"]);
    cluster.tell(&["stop", "web-3"]);
    cluster.tell(&["node", "cordon", "b"]);
    let before = cluster.json(&["ps"]);
    let mut events = cluster.follow(&["events", "--watch", "-o", "json"]);
    events.stdout.until("the stop", |line| line.contains("instance-stopped") && line.contains("web-3"));
    let mut log = cluster.follow(&["logs", "-f", "says"]);
    log.stdout.until("what it says", |line| line == "here");

    cluster.kill_control_plane();
    // Asked for while nobody answers; it is tried again until somebody does, and is one instance.
    let mut start = cluster.follow(&["start", &sleeper, "--name", "late", "--timeout", "100s"]);
    cluster.begin_control_plane_again();
    events.stderr.until("that it is back", |line| line.contains("is back after"));
    assert_eq!(essence(&cluster.json(&["ps"])), essence(&before));
    let nodes = cluster.json(&["node", "list"]);
    let cordoned = nodes["items"].as_array().expect("it is a list").iter();
    let cordoned: Vec<_> = cordoned.filter(|node| node["cordoned"] == true).map(|node| &node["id"]).collect();
    assert_eq!(cordoned, ["b"]);
    let _ = start.terminate(); // what became of it is asked of the server
    cluster.tell(&["start", &sleeper, "--name", "new"]);
    events.stdout.until("the new one", |line| line.contains("instance-started") && line.contains("\"new\""));
    let facts: Vec<Value> =
        events.stdout.seen.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: BTreeSet<String> =
        facts.iter().map(|fact| format!("{} {} {}", fact["node"], fact["at"], fact["seq"])).collect();
    assert_eq!(told.len(), facts.len(), "a fact was told twice");
    assert_eq!(events.stderr.seen.len(), 1, "{:?}", events.stderr.seen);
    log.stderr.until("that the log goes on", |line| line.contains("says is heard again"));
}
