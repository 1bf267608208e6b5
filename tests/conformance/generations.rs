//! What a control plane asks of a node so that an instance runs once in a cluster: starts that may be repeated, copies
//! that are fenced, artifacts that another node needs.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::join};
use wasmatrix_agent::Config;
use wasmatrix_model::{
    Clock as _, ErrorCode, ExecutorKind, FactKind, InstanceId, InstanceSpec, OnNodeLoss, Phase, SystemClock,
};
use wasmatrix_tests::{Case, Node, executors};
use wasmatrix_wire::{
    Assignment, StartRequest,
    failure::from_status,
    v1::{self, agent_client::AgentClient},
};

fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the text is a module")
}

fn keyed(spec: InstanceSpec, key: &str) -> StartRequest {
    StartRequest { idempotency_key: Some(key.to_owned()), ..spec.into() }
}

#[tokio::test]
async fn a_repeated_start_makes_one_instance() {
    for executor in executors() {
        let node = Node::new().await;
        let case = Case::of(*executor, "sleeper").name("once");
        let request = keyed(node.spec(&case), "k");
        let start = || node.agent.start(request.clone(), Some(case.artifact.clone()));
        let (first, second) = join(start(), start()).await;
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(first.id, second.id, "{executor}");
        assert_eq!((second.phase, second.idempotency_key.as_deref()), (Phase::Running, Some("k")));
        let third = node.agent.start(request.clone(), None).await.unwrap();
        assert_eq!(third.id, first.id, "the artifact need not come again");

        let other = keyed(InstanceSpec { args: vec!["x".to_owned()], ..request.spec.clone() }, "k");
        let refusal = node.agent.start(other, Some(case.artifact.clone())).await.unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidRequest, "{refusal}");
        assert_eq!(refusal.details["field"], "idempotency_key");

        node.agent.stop("once", Duration::ZERO).await.unwrap();
        node.agent.remove("once").await.unwrap();
        assert_ne!(start().await.unwrap().id, first.id, "the key is as old as the listing");
        node.agent.shutdown(Duration::ZERO).await;
    }
}

#[tokio::test]
async fn a_start_that_was_given_up_is_found_again_by_its_key() {
    for executor in executors() {
        let node = Node::new().await;
        let case = Case::of(*executor, "sleeper").name("again");
        let request = keyed(node.spec(&case), "k");
        let start = node.agent.start(request.clone(), Some(case.artifact.clone()));
        assert!(start.now_or_never().is_none(), "nobody waits for the answer");
        let status = node.agent.start(request, Some(case.artifact.clone())).await.unwrap();
        assert_eq!(status.phase, Phase::Running, "{executor}");
        assert_eq!(node.agent.list(None, 10).len(), 1);
        node.agent.shutdown(Duration::ZERO).await;
    }
}

#[tokio::test]
async fn a_repeated_start_that_failed_fails_in_the_same_way() {
    let node = Node::new().await;
    let case = Case::with(ExecutorKind::Wasmtime, &b"\0asm broken"[..]).name("broken");
    let request = keyed(node.spec(&case), "k");
    let first = node.agent.start(request.clone(), Some(case.artifact.clone())).await.unwrap_err();
    let second = node.agent.start(request, None).await.unwrap_err();
    assert_eq!((first.code, first.message, first.details), (second.code, second.message, second.details));
    assert_eq!(node.agent.list(None, 10).len(), 1);
}

#[tokio::test]
async fn a_stale_copy_is_ended_and_forgotten_at_once() {
    for executor in executors() {
        let node = Node::new().await;
        let case = Case::of(*executor, "sleeper").name("stale");
        let predecessor = InstanceId::generate();
        let assignment = Assignment { generation: 2, predecessor: Some(predecessor), grants: None };
        let request = StartRequest { assignment: Some(assignment), ..node.spec(&case).into() };
        let status = node.agent.start(request, Some(case.artifact.clone())).await.unwrap();
        assert_eq!((status.generation, status.predecessor), (2, Some(predecessor)));
        let is_birth = |kind: &FactKind| matches!(kind, FactKind::InstanceCreated { generation: 2, predecessor: Some(other), .. } if *other == predecessor);
        assert_eq!(node.facts().await.iter().filter(|fact| is_birth(&fact.kind)).count(), 1);

        // A twin that is earlier is the one to be ended.
        for (generation, twin) in [(0, None), (1, None), (2, None), (2, Some(predecessor))] {
            let refusal = node.agent.fence(status.id, generation, twin).await.unwrap_err();
            assert_eq!(refusal.code, ErrorCode::InvalidRequest, "{refusal}");
        }
        assert_eq!(node.agent.get("stale").unwrap().phase, Phase::Running);
        node.agent.fence(status.id, 3, None).await.unwrap();
        assert_eq!(node.agent.list(None, 10), []);
        assert_eq!(node.agent.fence(status.id, 3, None).await, Ok(()), "it was done before");
        let facts = node.facts().await;
        let fenced = facts.iter().filter(|fact| matches!(&fact.kind, FactKind::InstanceFenced { generation: 3, instance } if instance.id == status.id));
        assert_eq!(fenced.count(), 1, "{executor}");
        let again = node.start(&case).await.expect("the name is free");
        node.agent.fence(again.id, 1, Some(InstanceId::generate())).await.unwrap();
        assert_eq!(node.agent.list(None, 10), [], "of twins the earlier");
        node.agent.shutdown(Duration::ZERO).await;
    }
}

#[tokio::test]
async fn a_successor_is_not_taken_for_the_stale_copy_that_it_finds() {
    for executor in executors() {
        let node = Node::new().await;
        let mut spec = node.spec(&Case::of(*executor, "sleeper").name("again"));
        spec.placement.on_node_loss = OnNodeLoss::RestartElsewhere;
        let artifact = || Some(Case::of(*executor, "sleeper").artifact);
        let mut listed = node.agent.start(keyed(spec.clone(), "k"), artifact()).await.unwrap();
        // Once the successor of what is here, and once that of one which ran elsewhere in between.
        for (generation, predecessor) in [(2, listed.id), (4, InstanceId::generate())] {
            let assignment = Assignment { generation, predecessor: Some(predecessor), grants: None };
            let request = StartRequest { assignment: Some(assignment), ..keyed(spec.clone(), "k") };
            let successor = node.agent.start(request.clone(), artifact()).await.unwrap();
            assert_eq!((successor.generation, successor.predecessor), (generation, Some(predecessor)));
            assert_eq!(node.agent.start(request, artifact()).await.unwrap().id, successor.id, "asked again");
            let all = node.agent.list(None, 10);
            assert_eq!(
                all.iter().map(|one| (one.id, one.phase)).collect::<Vec<_>>(),
                [(successor.id, Phase::Running)]
            );
            let fenced = node.facts().await.into_iter().filter(|fact| {
                matches!(&fact.kind, FactKind::InstanceFenced { instance, .. } if instance.id == listed.id)
            });
            assert_eq!(fenced.count(), 1, "{executor}");
            listed = successor;
        }
        node.agent.shutdown(Duration::ZERO).await;
    }
}

#[tokio::test]
async fn what_waits_for_its_restart_or_has_ended_is_fenced_too() {
    let node = Node::new().await;
    let program = wasm(r#"(module (func (export "_start") unreachable))"#);
    let mut crasher = Case::with(ExecutorKind::Wasmtime, program).name("crasher");
    crasher.restart.mode = wasmatrix_model::RestartMode::Always;
    crasher.restart.backoff_initial = Duration::from_secs(300);
    let waits = node.start(&crasher).await.unwrap();
    crasher.restart.mode = wasmatrix_model::RestartMode::Never;
    let ended = node.start(&crasher.name("ended")).await.unwrap();
    node.until(
        |fact| matches!(&fact.kind, FactKind::InstanceCrashed { instance, .. } if instance.id == ended.id),
    )
    .await;
    for id in [waits.id, ended.id] {
        node.agent.fence(id, 2, None).await.unwrap();
    }
    assert_eq!(node.agent.list(None, 10), []);
}

#[tokio::test]
async fn the_artifact_of_what_may_move_can_be_had_and_no_other() {
    let config =
        Config { artifacts_bytes_max: 2 << 20, ..Config::new("test".parse().expect("a legal name")) };
    let node = Node::with(config).await;
    let mut client = AgentClient::new(wasmatrix_agent::service::in_process(node.agent.clone()).unwrap());
    let mut fetch = async |digest: String| {
        let chunks = client.fetch_artifact(v1::FetchArtifactRequest { digest }).await?.into_inner();
        chunks
            .map_ok(|chunk| chunk.chunk)
            .try_fold(Vec::new(), |mut all, chunk| async move {
                all.extend_from_slice(&chunk);
                Ok(all)
            })
            .await
    };
    // More than one chunk.
    let padding = format!(r#"(memory 32) (data (i32.const 0) "{}")"#, "x".repeat(1_500_000));
    let program = |text: &str| {
        wasm(&format!(r#"(module (func (export "_start")) (export "memory" (memory 0)) {padding} {text})"#))
    };
    let case = Case::with(ExecutorKind::Wasmtime, program("")).name("stays");
    node.start(&case).await.unwrap();
    let refusal = fetch(case.artifact.digest.to_string()).await.unwrap_err();
    assert_eq!(from_status(&refusal, SystemClock.now()).code, ErrorCode::InstanceNotFound, "{refusal}");

    let mut spec = node.spec(&case);
    spec.name = "moves".parse().unwrap();
    spec.placement.on_node_loss = OnNodeLoss::RestartElsewhere;
    let refusal = node.agent.start(spec.clone(), None).await.unwrap_err();
    assert_eq!(refusal.details["artifact"], "missing", "what is not kept can't be handed out: {refusal}");
    node.agent.start(spec.clone(), Some(case.artifact.clone())).await.unwrap();
    spec.name = "moves-too".parse().unwrap();
    node.agent.start(spec.clone(), None).await.expect("the copy that is kept is enough");
    assert_eq!(fetch(case.artifact.digest.to_string()).await.unwrap(), case.artifact.bytes);

    let other = Case::with(ExecutorKind::Wasmtime, program("(func)")).name("too-much");
    let mut large = node.spec(&other);
    large.placement.on_node_loss = OnNodeLoss::RestartElsewhere;
    let start = async || node.agent.start(large.clone(), Some(other.artifact.clone())).await;
    assert_eq!(start().await.unwrap_err().code, ErrorCode::ResourceExhausted);
    for name in ["moves", "moves-too"] {
        node.agent.wait(name).await.unwrap();
        node.agent.remove(name).await.unwrap();
    }
    assert!(fetch(case.artifact.digest.to_string()).await.is_err(), "nobody needs it any more");
    start().await.expect("there is room again");
}

#[tokio::test]
async fn a_node_promises_no_more_memory_than_it_was_given() {
    let config =
        Config { memory_bytes_max: Some(600 << 20), ..Config::new("test".parse().expect("a legal name")) };
    let node = Node::with(config).await;
    let case = |name: &str| Case::of(ExecutorKind::Wasmtime, "sleeper").name(name);
    for name in ["one", "two"] {
        node.start(&case(name)).await.unwrap();
    }
    assert_eq!((node.agent.load().instances_live, node.agent.load().memory_bytes_committed), (2, 512 << 20));
    let refusal = node.start(&case("three")).await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::ResourceExhausted, "{refusal}");
    assert_eq!(refusal.details["memory_bytes_max"], (600_u64 << 20).to_string());
    node.agent.stop("one", Duration::ZERO).await.unwrap();
    node.start(&case("three")).await.expect("what has ended needs no memory");
    node.agent.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_deadline_ends_the_waiting_and_nothing_else() {
    let node = Node::new().await;
    let case = Case::of(ExecutorKind::Wasmtime, "sleeper").name("sleeper");
    node.start(&case).await.unwrap();
    let mut client = AgentClient::new(wasmatrix_agent::service::in_process(node.agent.clone()).unwrap());
    let mut request = tonic::Request::new(v1::WatchInstancesRequest::default());
    // Set by hand, so that it is the server alone that keeps it.
    request.metadata_mut().insert("grpc-timeout", "200m".parse().unwrap());
    let mut changes = client.watch_instances(request).await.unwrap().into_inner();
    let mut told = 0;
    let end = loop {
        match changes.next().await.expect("it says why it ends") {
            Ok(_) => told += 1,
            Err(status) => break from_status(&status, SystemClock.now()),
        }
    };
    assert!(told <= 3, "a reset, the instance, all told");
    assert_eq!(end.code, ErrorCode::Timeout, "{end}");
    assert_eq!(node.agent.get("sleeper").unwrap().phase, Phase::Running);
    node.agent.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn another_major_version_is_refused_by_both_names() {
    let node = Node::new().await;
    let mut client = AgentClient::new(wasmatrix_agent::service::in_process(node.agent.clone()).unwrap());
    let mut describe = async |protocol: &str| {
        let mut request = tonic::Request::new(v1::DescribeNodeRequest {});
        request.metadata_mut().insert("wasmatrix-protocol", protocol.parse().unwrap());
        client.describe_node(request).await
    };
    for same in ["1.0", "1.1", "1.99"] {
        assert!(describe(same).await.is_ok(), "{same}");
    }
    for other in ["2.0", "0.9", "x"] {
        let failure = from_status(&describe(other).await.unwrap_err(), SystemClock.now());
        assert_eq!(failure.code, ErrorCode::InvalidRequest);
        assert_eq!(failure.details["protocol_theirs"], other);
    }
}
