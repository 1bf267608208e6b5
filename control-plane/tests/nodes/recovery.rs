//! A control plane that is killed at any moment, and knows the same afterwards.

use std::collections::BTreeMap;

use wasmatrix_model::{FactKind, InstanceStatus, NodePhase, Phase};
use wasmatrix_wire::v1;

use crate::World;
use crate::world::{movable, on, spec};

fn by_id(list: Vec<InstanceStatus>) -> BTreeMap<wasmatrix_model::InstanceId, InstanceStatus> {
    list.into_iter().map(|status| (status.id, status)).collect()
}

#[tokio::test(start_paused = true)]
async fn property_15_what_was_known_before_a_kill_is_known_after_it() {
    let mut world = World::of(3).await;
    for index in 0..9 {
        world.start(spec(&format!("i{index}"))).await.unwrap();
    }
    world.stop("i3").await.unwrap();
    let assign =
        v1::AssignCapabilityRequest { instance: "i4".to_owned(), grants: vec!["kv:read".to_owned()] };
    world.user().assign_capability(assign).await.unwrap();
    let before = by_id(world.list().await);
    let created = |facts: Vec<FactKind>| {
        facts.iter().filter(|fact| matches!(fact, FactKind::InstanceCreated { .. })).count()
    };
    assert_eq!(created(world.facts().await), 9);
    world.kill().await;
    world.begin().await;
    assert_eq!(by_id(world.list().await), before, "a listing waits until all is told");
    assert_eq!(created(world.facts().await), 9, "what happened is told again");
    assert_eq!(world.get("i4").await.unwrap().grants.iter().count(), 1);
    assert_eq!(world.start(spec("i0")).await.unwrap_err().details["field"], "name");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_was_restarted_says_what_it_no_longer_runs() {
    let world = World::of(2).await;
    world.start(on("a", 0)).await.unwrap();
    world.nodes[0].boot().await.unwrap();
    let lost = world.until(|fact| matches!(fact.kind, FactKind::InstanceLost { .. })).await;
    assert_eq!(lost.kind.subject().unwrap().name.as_str(), "a");
    let failure = world.get("a").await.unwrap_err();
    assert!(failure.message.contains("restarted"), "{failure}");
    world.start(on("a", 1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_may_move_has_a_successor_when_its_agent_was_restarted() {
    let world = World::of(2).await;
    let before = world.start(movable("a")).await.unwrap();
    let index = usize::from(before.node.as_str() == "node-1");
    world.nodes[index].boot().await.unwrap();
    world.until(|fact| matches!(fact.kind, FactKind::InstanceSucceeded { .. })).await;
    let after = world.get("a").await.unwrap();
    assert_eq!((after.generation, after.predecessor, after.phase), (2, Some(before.id), Phase::Running));
    world.until_node(index, |node| node.phase == NodePhase::Ready).await;
}
