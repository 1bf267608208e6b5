//! Starts: where, once, and under one name.

use std::collections::BTreeSet;

use futures::future::join_all;
use wasmatrix_model::{ErrorCode, FactKind, NodePhase, Phase};
use wasmatrix_wire::{StartPart, v1};

use crate::World;
use crate::world::{failure, keyed, on, spec};

#[tokio::test(start_paused = true)]
async fn instances_are_spread_listed_and_reached_wherever_they_are() {
    let world = World::of(3).await;
    let names: Vec<_> = (0..9).map(|index| format!("i{index}")).collect();
    let started = join_all(names.iter().map(|name| world.start(spec(name)))).await;
    let mut nodes: Vec<_> = started.iter().map(|status| status.as_ref().unwrap().node.to_string()).collect();
    nodes.sort();
    assert_eq!(nodes, [["node-0"; 3], ["node-1"; 3], ["node-2"; 3]].concat());
    let listed: Vec<_> = world.list().await.iter().map(|status| status.spec.name.to_string()).collect();
    assert_eq!(listed, names);
    for name in &names {
        assert_eq!(world.stop(name).await.unwrap().phase, Phase::Stopped);
        assert_eq!(world.get(name).await.unwrap().phase, Phase::Stopped);
        world.remove(name).await.unwrap();
        assert_eq!(world.get(name).await.unwrap_err().code, ErrorCode::InstanceNotFound);
    }
    assert_eq!(world.list().await, []);
}

#[tokio::test(start_paused = true)]
async fn of_concurrent_starts_of_one_name_one_wins() {
    let world = World::of(3).await;
    let outcomes = join_all((0..20).map(|index| world.start(on("same", index % 3)))).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for failure in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(failure.code, ErrorCode::InvalidRequest, "{failure}");
        assert_eq!(failure.details["field"], "name");
    }
    assert_eq!(world.list().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn retried_starts_make_one_instance_whoever_lost_the_answer() {
    let mut world = World::of(2).await;
    let request = || keyed(spec("a"), "key-1");
    let at_once = join_all((0..5).map(|_| world.start(request()))).await;
    let ids: BTreeSet<_> = at_once.into_iter().map(|outcome| outcome.unwrap().id).collect();
    assert_eq!(ids.len(), 1);
    assert!(ids.contains(&world.start(request()).await.unwrap().id), "later");
    world.kill().await;
    world.begin().await;
    assert!(ids.contains(&world.start(request()).await.unwrap().id), "after a restart of the control plane");
    let other = world.start(keyed(spec("b"), "key-1")).await.unwrap_err();
    assert_eq!((other.code, other.details["field"].as_str()), (ErrorCode::InvalidRequest, "idempotency_key"));
    assert_eq!(world.list().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_node_lost_is_found_again() {
    let world = World::of(2).await;
    for node in &world.nodes {
        node.lose_answers(1);
    }
    let request = || keyed(spec("a"), "key-1");
    let first = world.start(request()).await.unwrap_err();
    assert!(first.message.contains("unknown"), "{first}");
    let again = loop {
        match world.start(request()).await {
            Ok(status) => break status,
            Err(failure) => assert!(failure.message.contains("unknown"), "{failure}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(world.list().await.iter().map(|status| status.id).collect::<Vec<_>>(), [again.id]);
}

#[tokio::test(start_paused = true)]
async fn of_two_that_came_of_one_request_the_one_that_nobody_was_told_of_ends() {
    let mut world = World::of(2).await;
    world.nodes[1].crash();
    world.until_node(1, |node| node.phase != NodePhase::Ready).await;
    // The node has it; then nobody hears the node, and the control plane that asked it is no more.
    let request = || keyed(spec("a"), "key-1");
    let unanswered = world.start(request()).await.unwrap();
    assert_eq!(unanswered.node.as_str(), "node-0");
    world.cut_off(0);
    world.kill().await;
    world.nodes[1].boot().await.unwrap();
    world.begin().await;
    let told = loop {
        match world.start(request()).await {
            Ok(status) => break status,
            Err(failure) => assert_eq!(failure.code, ErrorCode::NodeUnavailable, "{failure}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(told.node.as_str(), "node-1");
    world.heal(0);
    let fenced = world.until(|fact| matches!(fact.kind, FactKind::InstanceFenced { .. })).await;
    assert_eq!(fenced.kind.subject().unwrap().id, unanswered.id);
    assert_eq!(world.list().await.iter().map(|status| status.id).collect::<Vec<_>>(), [told.id]);
    assert_eq!(world.get("a").await.unwrap().phase, Phase::Running);
}

#[tokio::test(start_paused = true)]
async fn what_a_user_may_not_send_is_refused() {
    let world = World::of(1).await;
    let mut user = world.user();
    let mut assigned: v1::StartInstanceRequest = StartPart::Spec(Box::new(spec("a").into())).into();
    assigned.assignment = Some(v1::Assignment { generation: 7, ..Default::default() });
    let refused = failure(user.start_instance(tokio_stream::iter([assigned])).await.unwrap_err());
    assert_eq!((refused.code, refused.details["field"].as_str()), (ErrorCode::InvalidRequest, "assignment"));
    let silent = failure(user.start_instance(tokio_stream::pending()).await.unwrap_err());
    assert_eq!(silent.code, ErrorCode::Timeout, "a start that never says what it wants: {silent}");
}
