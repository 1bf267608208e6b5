//! A control plane with the real etcd: what it writes there, what it finds there, and that nothing depends on it. Only
//! with the feature `etcd`, and then etcd must be installed.

mod server;

use std::fs;

use serde_json::Value;

use crate::{
    cluster::{Cluster, placed},
    guest, text, wasmatrix,
};
use server::{Entries, Etcd};

/// The only keys that may be there with these nodes.
fn keys_of(nodes: &[&str]) -> Vec<String> {
    let keys = nodes.iter().map(|node| format!("/wasmatrix/nodes/{node}"));
    keys.chain(nodes.iter().map(|node| format!("/wasmatrix/providers/{node}/kv"))).collect()
}

fn are(entries: &Entries, nodes: &[&str]) -> bool {
    entries.keys().eq(keys_of(nodes).iter())
}

/// What must not change while etcd does what it likes.
fn essence(list: &Value) -> Vec<[Value; 5]> {
    let items = list["items"].as_array().expect("it is a list").iter();
    items
        .map(|i| ["id", "node", "phase", "restart_count", "started_at"].map(|field| i[field].clone()))
        .collect()
}

fn nodes(cluster: &Cluster) -> Vec<(String, String)> {
    let list = cluster.json(&["node", "list"]);
    let nodes = list["items"].as_array().expect("it is a list").iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    nodes.map(|node| (text(&node["id"]), text(&node["phase"]))).collect()
}

fn ready(names: &[&str]) -> Vec<(String, String)> {
    names.iter().map(|name| ((*name).to_owned(), "ready".to_owned())).collect()
}

#[test]
fn nodes_stand_in_etcd_under_a_lease_and_another_control_plane_finds_them() {
    let etcd = Etcd::start();
    let url = etcd.url();
    let mut one = Cluster::start_with(&["--etcd", &url]);
    one.control.stderr.ever("that etcd is in use", |line| line.contains("etcd is in use"));
    let (_a, mut b) = (one.join("a"), one.join("b"));
    one.tell(&["start", &guest("sleeper"), "--name", "web", "--replicas", "2", "--grant", "kv:read"]);
    let stands = etcd.entries_when("both nodes", |entries| are(entries, &["a", "b"]));
    for (key, entry) in &stands {
        assert_ne!(entry.lease, "0", "{key} would stay for ever");
    }
    let node: Value = serde_json::from_str(&stands["/wasmatrix/nodes/a"].value).unwrap();
    let address = node["address"].as_str().unwrap().to_owned();
    assert!(address.starts_with("https://127.0.0.1:"), "{address}");
    assert_eq!(stands["/wasmatrix/providers/a/kv"].value, r#"{"backend":"memory","phase":"running"}"#);
    // What becomes of a provider is seen there; what becomes of an instance is not.
    one.tell(&["provider", "stop", "kv", "--node", "a"]);
    one.tell(&["stop", "web-0"]);
    etcd.entries_when("that the provider stopped", |entries| {
        entries["/wasmatrix/providers/a/kv"].value.contains("stopped") && are(entries, &["a", "b"])
    });

    // Another one of the same authority, whom nobody attends.
    let directory = tempfile::tempdir().unwrap();
    let authority = directory.path().join("control/certs/authority");
    fs::create_dir_all(&authority).unwrap();
    for file in ["ca.pem", "ca-key.pem"] {
        fs::copy(one.path("control/certs/authority").join(file), authority.join(file)).unwrap();
    }
    let mut other = Cluster::start_in(directory, &["--etcd", &url]);
    other.control.stderr.ever("that etcd is in use", |line| line.contains("etcd is in use"));
    let found = other.tell(&["node", "list", "-o", "wide"]);
    assert!(found.contains(&address) && found.contains("has not attended"), "{found}");
    assert_eq!(nodes(&other).iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let nowhere = other.ask(&["start", &guest("sleeper"), "--name", "x", "--timeout", "10s"]);
    assert!(!nowhere.status.success(), "a node that was only seen is none to run something on");

    // One that leaves is withdrawn there once it is lost here.
    assert_eq!(b.terminate(), Some(0));
    etcd.entries_when("that one left", |entries| are(entries, &["a"]));
    assert_eq!(nodes(&one), [ready(&["a"]), vec![("b".to_owned(), "lost".to_owned())]].concat());
}

#[test]
fn an_etcd_that_dies_and_returns_with_and_without_its_data_disturbs_nothing() {
    let mut etcd = Etcd::start();
    let mut cluster = Cluster::start_with(&["--etcd", &etcd.url()]);
    let (_a, _b) = (cluster.join("a"), cluster.join("b"));
    let sleeper = guest("sleeper");
    cluster.tell(&["start", &sleeper, "--name", "web", "--replicas", "4"]);
    etcd.entries_when("both nodes", |entries| are(entries, &["a", "b"]));
    let before = essence(&cluster.json(&["ps"]));

    etcd.kill();
    let gone = cluster.control.stderr.until("that etcd is gone", |line| line.contains("etcd can't be used"));
    assert!(gone.contains(&etcd.url()), "{gone}");
    cluster.tell(&["start", &sleeper, "--name", "without-etcd", "--node", "a"]);
    cluster.tell(&["stop", "without-etcd"]);
    cluster.tell(&["rm", "without-etcd"]);
    let _c = cluster.join("c");
    assert_eq!(nodes(&cluster), ready(&["a", "b", "c"]));
    assert_eq!(essence(&cluster.json(&["ps"])), before);

    etcd.restart();
    etcd.entries_when("the node that came meanwhile", |entries| are(entries, &["a", "b", "c"]));
    cluster.control.stderr.until("that it is back", |line| line.contains("etcd is in use"));
    cluster.tell(&["start", &sleeper, "--name", "with-etcd", "--node", "c"]);
    assert_eq!(placed(&cluster.json(&["ps"]), "c"), ["with-etcd"]);
    cluster.tell(&["stop", "with-etcd"]);
    cluster.tell(&["rm", "with-etcd"]);

    etcd.kill();
    cluster.control.stderr.until("that it is gone again", |line| line.contains("etcd can't be used"));
    // Neither does the control plane need it when it begins.
    cluster.kill_control_plane();
    cluster.begin_control_plane_again();
    cluster.until("all is known again", || essence(&cluster.json(&["ps"])) == before);
    etcd.restart_empty();
    etcd.entries_when("all of them, in an empty one", |entries| are(entries, &["a", "b", "c"]));
    assert_eq!(nodes(&cluster), ready(&["a", "b", "c"]));
    assert_eq!(essence(&cluster.json(&["ps"])), before);
}

#[test]
fn an_etcd_that_is_not_there_is_said_once_and_is_found_when_it_is() {
    let mut etcd = Etcd::start();
    etcd.kill();
    let mut cluster = Cluster::start_with(&["--etcd", &etcd.url()]);
    let said =
        cluster.control.stderr.ever("that it is not there", |line| line.contains("etcd can't be used"));
    assert!(said.contains(&etcd.url()) && said.contains("refused"), "{said}");
    let _a = cluster.join("a");
    cluster.tell(&["start", &guest("sleeper"), "--name", "sleeper"]);
    etcd.restart();
    etcd.entries_when("the node", |entries| are(entries, &["a"]));
    cluster.control.stderr.until("that it is found", |line| line.contains("etcd is in use"));
    let lines = cluster.control.stderr.seen.iter();
    assert_eq!(lines.filter(|line| line.contains("etcd can't be used")).count(), 1);
}

#[test]
fn an_etcd_that_asks_for_certificates_is_shown_them() {
    let certs = tempfile::tempdir().unwrap();
    let dir = certs.path().display().to_string();
    let say = |arguments: &[&str]| {
        let output = crate::run(arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    // Any authority will do; this one makes certificates that say 127.0.0.1.
    say(&["certs", "init", &dir]);
    let etcd = Etcd::secured(&certs.path().join("control-plane"));
    let ours = certs.path().join("admin").display().to_string();
    let cluster = Cluster::start_with(&["--etcd", &etcd.url(), "--etcd-certs", &ours]);
    let _a = cluster.join("a");
    etcd.entries_when("the node", |entries| are(entries, &["a"]));

    // Without one of our own, and with another authority's, it is said and the rest works.
    let bare = certs.path().join("bare");
    fs::create_dir(&bare).unwrap();
    fs::copy(certs.path().join("admin/ca.pem"), bare.join("ca.pem")).unwrap();
    let bare = bare.display().to_string();
    let mut without = Cluster::start_with(&["--etcd", &etcd.url(), "--etcd-certs", &bare]);
    without.control.stderr.ever("that it is refused", |line| line.contains("etcd can't be used"));
    assert_eq!(nodes(&without), []);
}

#[test]
fn what_can_not_be_an_etcd_is_refused_with_the_flag_that_mends_it() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().display().to_string();
    let refused = |more: &[&str]| {
        let output = wasmatrix()
            .args(["control-plane", "--listen", "127.0.0.1:0", "--data-dir", &data])
            .args(more)
            .output()
            .unwrap();
        (output.status.code(), text(&output.stderr))
    };
    let empty = directory.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let empty = empty.display().to_string();
    for (flags, code, parts) in [
        (&["--etcd", "127.0.0.1:2379"][..], 2, &["--etcd", "https://HOST:PORT"][..]),
        (&["--etcd", "http://10.0.0.9:2379"], 2, &["--etcd", "10.0.0.9", "--etcd-certs"]),
        (&["--etcd", "https://10.0.0.9:2379"], 2, &["--etcd-certs"]),
        (&["--etcd", "https://127.0.0.1:2379", "--etcd-certs", &empty], 3, &["ca.pem"]),
        (&["--etcd-certs", &empty], 2, &["--etcd <URL>"]),
        (&["--etcd", "http://127.0.0.1:2379", "--static", "a=http://127.0.0.1:1"], 2, &["--static"]),
    ] {
        let (found, said) = refused(flags);
        assert_eq!(found, Some(code), "{flags:?}: {said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{flags:?}: {said}");
    }
}
