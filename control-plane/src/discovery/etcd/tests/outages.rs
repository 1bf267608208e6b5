//! What etcd can do to us: die, come back, come back empty, fall silent, forget, end a lease. Nothing of it disturbs.

use std::{
    io,
    sync::{Arc, Mutex},
};

use etcd_client::CompactionOptions;

use super::{
    super::store::{Fault, Store},
    *,
};

/// What was logged, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Logs of this thread, from warnings on, for as long as the guard lives.
    fn begin(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(move || log.clone());
        tracing::subscriber::set_default(subscriber.finish())
    }

    fn lines(&self) -> usize {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().count()
    }
}

#[tokio::test]
async fn an_etcd_that_dies_disturbs_nothing_and_what_changed_is_told_when_it_is_back() {
    let mut server = Server::start().await;
    let log = Log::default();
    let _logging = log.begin();
    let etcd = Etcd::begin(config(&server)).unwrap();
    let mut stream = etcd.watch();
    for node in ["a", "b"] {
        etcd.publish(&registration(&id(node), "http://127.0.0.1:1"));
        assert_eq!(next(&mut stream).await, seen(node, "http://127.0.0.1:1"));
    }
    assert_eq!(log.lines(), 0);

    server.kill().await;
    reached(&etcd, false).await;
    etcd.withdraw(&id("a"));
    etcd.publish(&registration(&id("c"), "http://127.0.0.1:3"));
    // Long enough for several attempts; nothing is told.
    assert!(tokio::time::timeout(Duration::from_secs(2), stream.next()).await.is_err());
    assert_eq!(log.lines(), 1, "that it is gone is said once");

    server.restart().await;
    assert_eq!(next(&mut stream).await, gone("a"));
    assert_eq!(next(&mut stream).await, seen("c", "http://127.0.0.1:3"));
    let stands = server.entries().await;
    assert_eq!(stands.keys().filter(|key| key.contains("/nodes/")).count(), 2, "{stands:?}");

    // A second outage is a new one.
    server.kill().await;
    reached(&etcd, false).await;
    assert_eq!(log.lines(), 2);
    server.restart().await;
    reached(&etcd, true).await;
    assert_eq!(stream.next().now_or_never(), None, "nothing had changed");
}

#[tokio::test]
async fn an_etcd_that_comes_back_empty_is_filled_again() {
    let mut server = Server::start().await;
    // The node of another control plane is there for that one alone to write again.
    server.client().await.put("/wasmatrix/nodes/other", r#"{"address":"http://h:9"}"#, None).await.unwrap();
    let etcd = Etcd::begin(config(&server)).unwrap();
    let mut stream = etcd.watch();
    assert_eq!(next(&mut stream).await, seen("other", "http://h:9"));
    etcd.publish(&registration(&id("a"), "http://127.0.0.1:1"));
    assert_eq!(next(&mut stream).await, seen("a", "http://127.0.0.1:1"));

    server.kill().await;
    reached(&etcd, false).await;
    server.restart_empty().await;
    assert_eq!(next(&mut stream).await, gone("other"));
    reached(&etcd, true).await;
    assert_eq!(server.entries().await.len(), 2);
    assert_eq!(stream.next().now_or_never(), None, "our own never looked gone");
}

#[tokio::test]
async fn an_etcd_that_is_not_there_at_first_is_found_later() {
    let mut server = Server::start().await;
    server.kill().await;
    let etcd = Etcd::begin(config(&server)).unwrap();
    let mut stream = etcd.watch();
    etcd.publish(&registration(&id("a"), "http://127.0.0.1:1"));
    assert_eq!(stream.next().now_or_never(), None);
    server.restart().await;
    assert_eq!(next(&mut stream).await, seen("a", "http://127.0.0.1:1"));
}

#[tokio::test]
async fn an_etcd_that_falls_silent_is_left_and_found_again() {
    let server = Server::start().await;
    let etcd = Etcd::begin(config(&server)).unwrap();
    let mut stream = etcd.watch();
    etcd.publish(&registration(&id("a"), "http://127.0.0.1:1"));
    assert_eq!(next(&mut stream).await, seen("a", "http://127.0.0.1:1"));
    server.freeze();
    // Its connections are all open; that it says nothing is all that can be noticed.
    reached(&etcd, false).await;
    etcd.publish(&registration(&id("b"), "http://127.0.0.1:2"));
    assert_eq!(stream.next().now_or_never(), None);
    server.thaw();
    assert_eq!(next(&mut stream).await, seen("b", "http://127.0.0.1:2"));
}

#[tokio::test]
async fn a_lease_that_was_lost_is_taken_anew_and_one_that_nobody_keeps_ends() {
    let server = Server::start().await;
    let (one, other) = (Etcd::begin(config(&server)).unwrap(), Etcd::begin(config(&server)).unwrap());
    let mut stream = other.watch();
    reached(&other, true).await;
    one.publish(&registration(&id("a"), "http://127.0.0.1:1"));
    assert_eq!(next(&mut stream).await, seen("a", "http://127.0.0.1:1"));

    let mut client = server.client().await;
    for lease in client.leases().await.unwrap().leases() {
        client.lease_revoke(lease.id()).await.unwrap();
    }
    // Its keys went with it, and come again with another.
    assert_eq!(next(&mut stream).await, gone("a"));
    assert_eq!(next(&mut stream).await, seen("a", "http://127.0.0.1:1"));

    drop(one);
    assert_eq!(next(&mut stream).await, gone("a"), "its lease ended");
    server.entries_when(BTreeMap::is_empty).await;
}

#[tokio::test]
async fn a_watch_that_begins_before_a_compaction_is_told_so() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for address in ["http://h:1", "http://h:2"] {
        let value = format!(r#"{{"address":"{address}"}}"#);
        client.put("/wasmatrix/nodes/a", value, None).await.unwrap();
    }
    let mut store = Store::connect(&config(&server)).await.unwrap();
    let (nodes, revision) = store.nodes().await.unwrap();
    assert_eq!(nodes, BTreeMap::from([(id("a"), "http://h:2".to_owned())]));
    let physical = CompactionOptions::new().with_physical();
    client.compact(revision, Some(physical)).await.unwrap();
    let mut watching = store.watch(1).await.unwrap();
    let fault = loop {
        match bounded("the compaction is told", watching.changes()).await {
            Ok(changes) => assert_eq!(changes, []),
            Err(fault) => break fault,
        }
    };
    assert!(matches!(fault, Fault::Compacted(at) if at == revision), "{fault}");

    // A session, which begins with a listing, has nothing to miss.
    let etcd = Etcd::begin(config(&server)).unwrap();
    let mut stream = etcd.watch();
    assert_eq!(next(&mut stream).await, seen("a", "http://h:2"));
    client.put("/wasmatrix/nodes/a", r#"{"address":"http://h:3"}"#, None).await.unwrap();
    client.compact(revision + 1, Some(CompactionOptions::new().with_physical())).await.unwrap();
    client.delete("/wasmatrix/nodes/a", None).await.unwrap();
    loop {
        // The two may be seen as one.
        match next(&mut stream).await {
            Sighting::Gone { node } => break assert_eq!(node, id("a")),
            seen_first @ Sighting::Seen { .. } => assert_eq!(seen_first, seen("a", "http://h:3")),
        }
    }
}
