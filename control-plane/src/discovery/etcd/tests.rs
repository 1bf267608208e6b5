//! Discovery with the real etcd, on loopback, in a folder that goes with the test. It must be installed where the feature
//! `etcd` is tested; without it these tests fail.

mod keys;
mod outages;
mod server;

use std::{collections::BTreeMap, time::Duration};

use futures::{FutureExt as _, StreamExt as _};
use wasmatrix_model::{
    Capability, Capacity, Labels, ProtocolVersion, ProviderPhase, ProviderStatus, RunId, Timestamp,
};

use super::*;
use server::Server;

/// No test waits longer for anything.
const BOUND: Duration = Duration::from_secs(60);

pub(super) fn registration(node: &NodeId, address: &str) -> Registration {
    let kv = ProviderStatus {
        capability: Capability::Kv,
        backend: "redb".to_owned(),
        phase: ProviderPhase::Running,
    };
    Registration {
        id: node.clone(),
        run: RunId::generate(),
        address: address.to_owned(),
        version: "0.1.0".to_owned(),
        protocol: ProtocolVersion { major: 1, minor: 1 },
        started_at: Timestamp::UNIX_EPOCH,
        labels: Labels::default(),
        executors: Vec::new(),
        providers: vec![kv],
        capacity: Capacity::default(),
        cordoned: false,
    }
}

fn id(node: &str) -> NodeId {
    node.parse().unwrap()
}

fn seen(node: &str, address: &str) -> Sighting {
    Sighting::Seen { node: id(node), address: address.to_owned() }
}

fn gone(node: &str) -> Sighting {
    Sighting::Gone { node: id(node) }
}

/// As usual, but quick to notice that etcd is silent.
fn config(server: &Server) -> Config {
    let patience = Duration::from_secs(1);
    Config { patience, lease: Duration::from_secs(4), ..Config::new(vec![server.url()]) }
}

async fn bounded<T>(what: &str, event: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(BOUND, event).await;
    waited.unwrap_or_else(|_| panic!("waited for {BOUND:?}: {what}"))
}

async fn next(stream: &mut BoxStream<'static, Sighting>) -> Sighting {
    bounded("a sighting", stream.next()).await.unwrap()
}

async fn reached(etcd: &Etcd, reached: bool) {
    bounded("etcd is reached, or not", etcd.reached().wait_for(|now| *now == reached)).await.unwrap();
}

#[tokio::test]
async fn what_one_publishes_another_sees() {
    let server = Server::start().await;
    let (one, other) = (Etcd::begin(config(&server)).unwrap(), Etcd::begin(config(&server)).unwrap());
    let mut stream = other.watch();
    one.publish(&registration(&id("a"), "http://127.0.0.1:1"));
    assert_eq!(next(&mut stream).await, seen("a", "http://127.0.0.1:1"));
    let stands: BTreeMap<_, _> = server.entries_when(|entries| entries.len() == 2).await;
    assert_eq!(stands["/wasmatrix/nodes/a"], r#"{"address":"http://127.0.0.1:1","version":"0.1.0"}"#);
    assert_eq!(stands["/wasmatrix/providers/a/kv"], r#"{"backend":"redb","phase":"running"}"#);

    // It moves, its provider stops, another provider is gone for good, it leaves.
    let mut moved = registration(&id("a"), "http://127.0.0.1:2");
    moved.providers[0].phase = ProviderPhase::Stopped;
    one.publish(&moved);
    assert_eq!(next(&mut stream).await, seen("a", "http://127.0.0.1:2"));
    let stopped = r#"{"backend":"redb","phase":"stopped"}"#;
    server.entries_when(|entries| entries["/wasmatrix/providers/a/kv"] == stopped).await;
    moved.providers.clear();
    one.publish(&moved);
    server.entries_when(|entries| entries.len() == 1).await;
    one.withdraw(&id("a"));
    assert_eq!(next(&mut stream).await, gone("a"));
    server.entries_when(BTreeMap::is_empty).await;
    assert_eq!(stream.next().now_or_never(), None);
}

#[tokio::test]
async fn many_nodes_are_listed_in_parts() {
    let server = Server::start().await;
    let one = Etcd::begin(config(&server)).unwrap();
    let nodes: Vec<String> = (0..2_345).map(|number| format!("n{number:04}")).collect();
    for node in &nodes {
        one.publish(&registration(&id(node), "http://127.0.0.1:1"));
    }
    server.entries_when(|entries| entries.len() == 2 * nodes.len()).await;
    let other = Etcd::begin(config(&server)).unwrap();
    let mut stream = other.watch();
    for node in &nodes {
        assert_eq!(next(&mut stream).await, seen(node, "http://127.0.0.1:1"));
    }
}

#[tokio::test]
async fn what_others_wrote_at_our_keys_is_left_alone() {
    let server = Server::start().await;
    let long = "x".repeat(1000);
    for (key, value) in [
        ("/wasmatrix/nodes/a", "no JSON"),
        ("/wasmatrix/nodes/NOT-A-NODE", r#"{"address":"http://h:1"}"#),
        ("/wasmatrix/nodes/b/c", r#"{"address":"http://h:1"}"#),
        ("/wasmatrix/nodes/long", &format!(r#"{{"address":"{long}"}}"#)),
        ("/wasmatrix/nodes/good", r#"{"address":"http://h:1","of a newer version":{}}"#),
    ] {
        server.client().await.put(key, value, None).await.unwrap();
    }
    let etcd = Etcd::begin(config(&server)).unwrap();
    let mut stream = etcd.watch();
    assert_eq!(next(&mut stream).await, seen("good", "http://h:1"));
    server.client().await.put("/wasmatrix/nodes/a", r#"{"address":"http://h:2"}"#, None).await.unwrap();
    assert_eq!(next(&mut stream).await, seen("a", "http://h:2"));
    assert_eq!(server.entries().await.len(), 5, "nothing was written or deleted");
}

#[test]
fn endpoints_and_times_that_will_not_do_are_refused_by_name() {
    let with = |endpoint: &str| Config::new(vec![endpoint.to_owned()]);
    for endpoint in ["http://127.0.0.1:2379", "http://[::1]:2379", "http://localhost:2379"] {
        assert_eq!(with(endpoint).validate(), Ok(()), "{endpoint}");
    }
    let tls = Some(Tls { authority: "ca.pem".into(), identity: None });
    let secured = |endpoint: &str| Config { tls: tls.clone(), ..with(endpoint) };
    assert_eq!(secured("https://etcd.example:2379").validate(), Ok(()));
    let insisting = Config { plaintext_beyond_loopback: true, ..with("http://10.0.0.1:2379") };
    assert_eq!(insisting.validate(), Ok(()));
    let good = with("http://127.0.0.1:2379");
    for (bad, field) in [
        (Config::new(Vec::new()), "endpoints"),
        (with("127.0.0.1:2379"), "endpoints"),
        (with("http://10.0.0.1:2379"), "endpoints"),
        (with("https://10.0.0.1:2379"), "endpoints"),
        (secured("http://127.0.0.1:2379"), "endpoints"),
        (Config { lease: Duration::from_secs(1), ..good.clone() }, "lease"),
        (Config { lease: Duration::from_millis(2_500), ..good.clone() }, "lease"),
        (Config { patience: Duration::from_millis(1), ..good.clone() }, "patience"),
        (Config { patience: Duration::from_secs(31), ..good }, "patience"),
    ] {
        assert_eq!(bad.validate().unwrap_err().field, field, "{bad:?}");
    }
}
