//! Nodes that are there: who runs what, and who takes no more.

use super::{Cluster, placed};
use crate::{guest, text};

#[test]
fn instances_go_where_they_may_and_spread() {
    let cluster = Cluster::start();
    let (_a, _b) = (cluster.join("a"), cluster.join("b"));
    let sleeper = guest("sleeper");

    cluster.tell(&["start", &sleeper, "--name", "only-b", "--label", "zone=b"]);
    assert_eq!(cluster.json(&["get", "only-b"])["node"], "b");
    cluster.tell(&["start", &sleeper, "--name", "by-name", "--node", "a"]);
    assert_eq!(cluster.json(&["get", "by-name"])["node"], "a");
    let nowhere = cluster.ask(&["start", &sleeper, "--name", "nowhere", "--label", "zone=c"]);
    let said = text(&nowhere.stderr);
    assert!(!nowhere.status.success() && said.contains("zone=c"), "{said}");

    let said = text(&cluster.ask(&["start", &sleeper, "--name", "web", "--replicas", "4"]).stderr);
    for replica in 0..4 {
        assert!(said.contains(&format!("web-{replica} is running on node")), "{said}");
    }
    for node in ["a", "b"] {
        let there = placed(&cluster.json(&["ps", "--node", node]), node);
        assert_eq!(there.iter().filter(|name| name.starts_with("web-")).count(), 2, "{node}: {there:?}");
    }
    let table = cluster.tell(&["ps"]);
    assert!(table.lines().next().unwrap().split_whitespace().any(|head| head == "NODE"), "{table}");
    // Some of several fail: each is told, and the others run.
    let output = cluster.ask(&["start", &sleeper, "--name", "web", "--replicas", "5"]);
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(said.contains("web-4 is running") && said.contains("error: web-0: "), "{said}");
    assert!(said.contains("4 of 5 failed"), "{said}");
}

#[test]
fn a_node_that_is_cordoned_takes_nothing_and_one_that_is_drained_keeps_nothing() {
    let cluster = Cluster::start();
    let (_a, mut b) = (cluster.join("a"), cluster.join("b"));
    let sleeper = guest("sleeper");
    let on_b = ["--label", "zone=b"];
    cluster.tell(&[&["start", &sleeper, "--name", "stays"], &on_b[..]].concat());
    let mover = ["start", &sleeper, "--name", "moves", "--on-node-loss", "restart-elsewhere"];
    cluster.tell(&["node", "cordon", "a"]);
    cluster.tell(&mover);
    assert_eq!(cluster.json(&["get", "moves"])["node"], "b");
    cluster.tell(&["node", "uncordon", "a"]);

    let drained = cluster.ask(&["node", "drain", "b", "--grace", "1s"]);
    let (steps, sum) = (text(&drained.stdout), text(&drained.stderr));
    assert!(drained.status.success(), "{steps}{sum}");
    assert!(steps.contains("stopped  stays"), "{steps}");
    assert!(steps.contains("moved    moves to node a"), "{steps}");
    assert!(sum.contains("1 moved, 1 stopped, 0 failed"), "{sum}");
    let moved = cluster.json(&["get", "moves"]);
    assert_eq!(
        (&moved["node"], &moved["phase"], &moved["generation"]),
        (&"a".into(), &"running".into(), &2.into())
    );
    assert_eq!(cluster.json(&["get", "stays"])["phase"], "stopped");
    let table = cluster.tell(&["node", "list"]);
    assert!(table.lines().any(|line| line.starts_with("b") && line.contains("ready,cordoned")), "{table}");
    cluster.tell(&["start", &sleeper, "--name", "later"]);
    assert_eq!(cluster.json(&["get", "later"])["node"], "a");
    // A node that is there is not forgotten; one that has left in peace is, once it is lost.
    assert!(!cluster.ask(&["node", "rm", "b"]).status.success());
    assert_eq!(b.terminate(), Some(0));
    cluster.fact("node-phase-changed", |fact| fact["phase"] == "lost");
    cluster.tell(&["node", "rm", "b"]);
    let nodes = cluster.json(&["node", "list"]);
    assert_eq!(nodes["items"].as_array().unwrap().len(), 1, "{nodes}");
}

#[test]
fn a_provider_is_stopped_on_the_node_that_is_named() {
    let cluster = Cluster::start();
    let (_a, _b) = (cluster.join("a"), cluster.join("b"));
    cluster.tell(&["provider", "stop", "kv", "--node", "b"]);
    let providers = cluster.json(&["provider", "list"]);
    let phase = |node: &str| {
        let items = providers["items"].as_array().unwrap();
        let one = items.iter().find(|item| item["node"] == node && item["capability"] == "kv");
        one.map(|provider| provider["phase"].to_string())
    };
    assert_eq!((phase("a").unwrap(), phase("b").unwrap()), ("\"running\"".into(), "\"stopped\"".into()));
    cluster.tell(&["provider", "start", "kv", "--node", "b"]);
    assert!(!cluster.ask(&["provider", "stop", "kv"]).status.success(), "of two nodes one must be named");
}
