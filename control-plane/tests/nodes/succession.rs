//! Successors of what was lost, and the end of copies that come back.

use std::time::Duration;

use wasmatrix_model::{ErrorCode, FactKind, InstanceStatus, NodePhase, Phase};
use wasmatrix_wire::v1;

use crate::World;
use crate::world::{movable, spec};

/// The index of an instance's node.
fn at(status: &InstanceStatus) -> usize {
    status.node.as_str().strip_prefix("node-").unwrap().parse().unwrap()
}

async fn listed_on(world: &World, index: usize) -> Vec<InstanceStatus> {
    world.nodes[index].machine().map(|machine| machine.list(None, 100)).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn what_may_move_has_one_successor_and_the_copy_that_returns_is_ended() {
    let world = World::of(3).await;
    let first = world.start(movable("a")).await.unwrap();
    let home = at(&first);
    world.cut_off(home);
    world.until(|fact| matches!(fact.kind, FactKind::InstanceSucceeded { .. })).await;
    let second = world.get("a").await.unwrap();
    assert_eq!((second.generation, second.predecessor), (2, Some(first.id)));
    assert_ne!(at(&second), home);
    assert_eq!(listed_on(&world, home).await.len(), 1, "the copy does not know yet");
    world.heal(home);
    world.until(|fact| matches!(fact.kind, FactKind::InstanceFenced { .. })).await;
    assert_eq!(listed_on(&world, home).await, []);
    assert_eq!(world.list().await.iter().map(|status| status.id).collect::<Vec<_>>(), [second.id]);
    let succeeded = |fact: &FactKind| matches!(fact, FactKind::InstanceSucceeded { .. });
    assert_eq!(world.facts().await.iter().filter(|fact| succeeded(fact)).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_successor_holds_what_was_held_and_not_what_was_asked_for_at_the_start() {
    let world = World::of(3).await;
    let mut spec = movable("a");
    let [read, write, delete] = ["kv:read", "kv:write", "kv:delete"].map(|text| text.parse().unwrap());
    spec.grants = [read, write].into_iter().collect();
    let first = world.start(spec.clone()).await.unwrap();
    let (instance, grants) = ("a".to_owned(), vec!["kv:write".to_owned()]);
    world.user().revoke_capability(v1::RevokeCapabilityRequest { instance, grants }).await.unwrap();
    let (instance, grants) = ("a".to_owned(), vec![delete.to_string()]);
    world.user().assign_capability(v1::AssignCapabilityRequest { instance, grants }).await.unwrap();
    world.cut_off(at(&first));
    world.until(|fact| matches!(fact.kind, FactKind::InstanceSucceeded { .. })).await;
    let second = world.get("a").await.unwrap();
    assert_eq!((second.generation, &second.spec), (2, &spec));
    assert_eq!(second.grants, ["kv:read".parse().unwrap(), delete].into_iter().collect());
    let held = world.facts().await.into_iter().filter_map(|fact| match fact {
        FactKind::GrantAssigned { instance, grant } if instance.id == second.id => Some(grant),
        _ => None,
    });
    assert_eq!(held.collect::<wasmatrix_model::Grants>(), second.grants, "the facts tell it too");
}

#[tokio::test(start_paused = true)]
async fn while_a_successor_is_being_started_nobody_changes_the_copy_that_will_be_ended() {
    let world = World::of(2).await;
    let mut spec = movable("a");
    spec.config = [("sim-start".to_owned(), "10s".to_owned())].into();
    let first = world.start(spec).await.unwrap();
    let home = at(&first);
    world.cut_off(home);
    world.until_node(home, |node| node.phase == NodePhase::Lost).await;
    world.heal(home);
    world.until_node(home, |node| node.phase == NodePhase::Ready && node.reason.is_none()).await;
    // By its name it may be the successor already, which is listed while it starts.
    let refused = world.stop(&first.id.to_string()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::NodeUnavailable, "{refused}");
    assert!(refused.message.contains("successor"), "{refused}");
    world.until(|fact| matches!(fact.kind, FactKind::InstanceSucceeded { .. })).await;
    assert_eq!(world.stop("a").await.unwrap().generation, 2);
    assert!(!world.list().await.iter().any(|status| status.id != first.id && status.phase.is_live()));
    world.until(|fact| matches!(fact.kind, FactKind::InstanceFenced { .. })).await;
    assert!(world.list().await.iter().all(|status| !status.phase.is_live()));
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_ended_though_its_successor_was_removed_and_the_control_plane_killed() {
    let mut world = World::of(2).await;
    let first = world.start(movable("a")).await.unwrap();
    let home = at(&first);
    world.cut_off(home);
    world.until(|fact| matches!(fact.kind, FactKind::InstanceSucceeded { .. })).await;
    world.stop("a").await.unwrap();
    world.remove("a").await.unwrap();
    world.kill().await;
    world.begin().await;
    world.until(|fact| matches!(fact.kind, FactKind::InstanceRemoved { .. })).await;
    world.heal(home);
    world.until(|fact| matches!(fact.kind, FactKind::InstanceFenced { .. })).await;
    assert_eq!(listed_on(&world, home).await, []);
}

#[tokio::test(start_paused = true)]
async fn what_stays_is_unknown_and_what_has_nowhere_to_go_is_told_so() {
    let world = World::of(1).await;
    world.start(spec("stays")).await.unwrap();
    world.start(movable("moves")).await.unwrap();
    world.nodes[0].crash();
    let failed = world.until(|fact| matches!(fact.kind, FactKind::SuccessionFailed { .. })).await;
    assert_eq!(failed.kind.subject().unwrap().name.as_str(), "moves");
    for name in ["stays", "moves"] {
        assert_eq!(world.get(name).await.unwrap().phase, Phase::Unknown);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_stopped_stays_where_it_was() {
    let world = World::of(2).await;
    let status = world.start(movable("a")).await.unwrap();
    world.stop("a").await.unwrap();
    world.cut_off(at(&status));
    world.until_node(at(&status), |node| node.phase == NodePhase::Lost).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let facts = world.facts().await;
    assert!(!facts.iter().any(|fact| matches!(fact, FactKind::InstanceSucceeded { .. })), "{facts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_drained_is_empty_and_what_may_move_has_moved() {
    let world = World::of(2).await;
    let moves = world.start(movable("moves")).await.unwrap();
    let home = at(&moves);
    let mut stays = spec("stays");
    stays.placement.node = Some(moves.node.clone());
    world.start(stays).await.unwrap();
    let request = v1::DrainNodeRequest { node: moves.node.to_string(), grace: None };
    let mut progress = world.user().drain_node(request).await.unwrap().into_inner();
    let mut outcomes = Vec::new();
    while let Some(line) = progress.message().await.unwrap() {
        let name = line.instance.as_ref().unwrap().spec.as_ref().unwrap().name.clone();
        outcomes.push((name, line.outcome(), line.remaining));
    }
    outcomes.sort();
    use v1::drain_node_response::Outcome::{Moved, Stopped};
    let names: Vec<_> = outcomes.iter().map(|(name, outcome, _)| (name.as_str(), *outcome)).collect();
    assert_eq!(names, [("moves", Moved), ("stays", Stopped)]);
    assert_eq!(outcomes.iter().map(|(_, _, remaining)| *remaining).min(), Some(0));
    let moved = world.get("moves").await.unwrap();
    assert_eq!((moved.generation, moved.phase), (2, Phase::Running));
    assert_ne!(at(&moved), home);
    let left: Vec<_> = listed_on(&world, home).await.into_iter().map(|status| status.phase).collect();
    assert_eq!(left, [Phase::Stopped], "what was stopped is listed; what moved is not");
    assert!(world.start(crate::world::on("new", home)).await.is_err(), "it is cordoned");
}
