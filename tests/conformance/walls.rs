//! No authority but the grants: what is not granted is denied, and there is nothing else to reach for.

use futures::StreamExt as _;
use wasmatrix_model::{FactKind, LogStream};
use wasmatrix_tests::{Case, Node, executors};

use crate::probe;

#[tokio::test]
async fn without_grants_every_call_is_denied() {
    let steps = [
        "kv.get default k",
        "kv.set default k v",
        "kv.delete default k",
        "kv.exists default k",
        "kv.list default",
        "kv.incr default k",
        "kv.cas default k",
        "kv.get-many default a b",
        "kv.set-many default a 1",
        "kv.delete-many default a",
        "kv.get @team k",
        "kv.set @team k v",
    ];
    assert_eq!(probe(&[], &steps).await, ["denied"; 12]);
}

#[tokio::test]
async fn files_and_sockets_are_there_and_empty_handed() {
    let lines = probe(
        &[],
        &[
            "file /etc/passwd",
            "write /tmp/x",
            "dir /",
            "dir .",
            "connect 127.0.0.1:1",
            "listen 127.0.0.1:0",
            "udp 127.0.0.1:9",
            "resolve localhost",
        ],
    )
    .await;
    for line in &lines {
        assert!(line == "denied" || line.starts_with("error: "), "{line}");
    }
}

#[tokio::test]
async fn each_permission_opens_its_own_door_only() {
    let steps = ["kv.get default k", "kv.set default k v", "kv.delete default k"];
    assert_eq!(probe(&["kv:read"], &steps).await, ["none", "denied", "denied"]);
    assert_eq!(probe(&["kv:write"], &steps).await, ["denied", "ok", "denied"]);
    assert_eq!(probe(&["kv:delete"], &steps).await, ["denied", "denied", "ok"]);
}

#[tokio::test]
async fn reading_and_writing_at_once_needs_both() {
    let steps = ["kv.incr default n", "kv.get default n"];
    assert_eq!(probe(&["kv:write"], &steps).await, ["denied", "denied"]);
    assert_eq!(probe(&["kv:read"], &steps).await, ["denied", "none"]);
    assert_eq!(probe(&["kv:read", "kv:write"], &steps).await, ["1", "some 1"]);
}

#[tokio::test]
async fn scopes_hold() {
    let grants = ["kv:read:settings/ui/*", "kv:write:settings/ui/theme"];
    let steps = [
        "kv.set settings ui/theme dark",
        "kv.set settings ui/font big",
        "kv.get settings ui/theme",
        "kv.get settings other",
        "kv.get elsewhere ui/theme",
        "kv.list settings",
        "kv.get-many settings ui/theme ui/font",
        "kv.get-many settings ui/theme other",
    ];
    let wanted = ["ok", "denied", "some dark", "denied", "denied", "denied", "ui/theme=dark none", "denied"];
    assert_eq!(probe(&grants, &steps).await, wanted);
}

#[tokio::test]
async fn private_buckets_are_private_and_shared_ones_shared() {
    for executor in executors() {
        let node = Node::new().await;
        let own = ["kv:read", "kv:write", "kv:write:@team", "kv:read:@team"];
        let run = async |name: &str, steps: &[&str]| {
            let case = Case::of(*executor, "probe").name(name).grants(&own).args(steps.iter().copied());
            node.run(case).await.unwrap().stdout
        };
        assert_eq!(run("one", &["kv.set default k mine", "kv.set @team k ours"]).await, "ok\nok\n");
        assert_eq!(run("two", &["kv.get default k", "kv.get @team k"]).await, "none\nsome ours\n");
        assert_eq!(
            run("one", &["kv.get default k"]).await,
            "some mine\n",
            "what a name stored outlives its instance"
        );
    }
}

#[tokio::test]
async fn a_revoke_stops_the_next_call_and_a_grant_allows_it() {
    for executor in executors() {
        let node = Node::new().await;
        let steps = [
            "kv.set default k 1",
            "until denied kv.set default k 2",
            "until ok kv.set default k 3",
            "kv.get default k",
        ];
        let case = Case::of(*executor, "probe").name("subject").grants(&["kv:read", "kv:write"]).args(steps);
        node.start(&case).await.unwrap();
        let write = ["kv:write".parse().unwrap()];
        let mut output = Box::pin(node.agent.logs("subject", 0, None, true).unwrap());
        let mut next = async || loop {
            let record = output.next().await.expect("the log goes on");
            if record.stream == LogStream::Stdout {
                return record.line.clone();
            }
        };
        assert_eq!(next().await, "ok");
        node.agent.revoke("subject", &write).unwrap();
        assert_eq!(next().await, "denied");
        let denial = node.until(|fact| matches!(fact.kind, FactKind::CapabilityDenied { .. })).await;
        let FactKind::CapabilityDenied { operation, permission, .. } = denial.kind else { unreachable!() };
        assert_eq!((operation.as_str(), permission.as_str()), ("kv.set", "kv:write:default/k"));
        node.agent.assign("subject", &write).unwrap();
        assert_eq!(next().await, "ok");
        assert_eq!(next().await, "some 3");
        let status = node.agent.wait("subject").await.unwrap();
        assert!(status.usage.calls_denied >= 1);
        assert!(node.agent.metrics().contains("outcome=\"PERMISSION_DENIED\""), "{}", node.agent.metrics());
    }
}

#[tokio::test]
async fn a_stopped_provider_is_an_answer() {
    for executor in executors() {
        let node = Node::new().await;
        let capability = "kv".parse().unwrap();
        let get = || Case::of(*executor, "probe").grants(&["kv:read"]).args(["kv.get default k"]);
        node.agent.stop_provider(capability, std::time::Duration::from_secs(5)).await.unwrap();
        let stopped = node.run(get()).await.unwrap();
        assert!(stopped.stdout.starts_with("error: PROVIDER_UNAVAILABLE"), "{}", stopped.stdout);
        node.agent.start_provider(capability).await.unwrap();
        assert_eq!(node.run(get()).await.unwrap().stdout, "none\n");
    }
}
