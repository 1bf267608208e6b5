//! Nodes that are silent, and come back.

use std::time::Duration;

use tokio::time::Instant;
use wasmatrix_model::{ErrorCode, FactKind, NodePhase, Phase};

use crate::World;
use crate::world::{on, spec};

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_suspect_then_lost_and_ready_again_when_it_is_heard() {
    let world = World::of(2).await;
    world.start(on("a", 0)).await.unwrap();
    world.cut_off(0);
    let cut = Instant::now();
    world.until_node(0, |node| node.phase == NodePhase::Suspect).await;
    assert!(cut.elapsed() >= Duration::from_secs(4), "{:?}", cut.elapsed());
    world.until_node(0, |node| node.phase == NodePhase::Lost).await;
    assert!(cut.elapsed() >= Duration::from_secs(13), "{:?}", cut.elapsed());
    let unknown = world.get("a").await.unwrap();
    assert_eq!(unknown.phase, Phase::Unknown);
    assert_eq!(unknown.unknown.unwrap().last_phase, Phase::Running);
    world.heal(0);
    world.until_node(0, |node| node.phase == NodePhase::Ready && node.reason.is_none()).await;
    assert_eq!(world.get("a").await.unwrap().phase, Phase::Running);
    assert_eq!(world.list().await[0].phase, Phase::Running);
    let phases: Vec<_> = world
        .facts()
        .await
        .into_iter()
        .filter_map(|fact| match fact {
            FactKind::NodePhaseChanged { node, phase, .. } if node.as_str() == "node-0" => Some(phase),
            _ => None,
        })
        .collect();
    assert_eq!(phases, [NodePhase::Suspect, NodePhase::Lost, NodePhase::Ready]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_node_is_told_at_once_and_takes_nothing() {
    let world = World::of(2).await;
    world.start(on("a", 0)).await.unwrap();
    world.cut_off(0);
    world.until_node(0, |node| node.phase == NodePhase::Lost).await;
    let asked = Instant::now();
    for failure in [world.stop("a").await.unwrap_err(), world.remove("a").await.unwrap_err()] {
        assert_eq!(failure.code, ErrorCode::NodeUnavailable, "{failure}");
        assert!(failure.message.contains("node-0"), "{failure}");
    }
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    let failure = world.start(on("b", 0)).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::NodeUnavailable, "{failure}");
    assert_eq!(world.start(spec("c")).await.unwrap().node.as_str(), "node-1");
    let failure = world.start(spec("a")).await.unwrap_err();
    assert!(failure.message.contains("nobody knows"), "the name is taken by the unknown one: {failure}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_node_can_be_forgotten_and_says_why_its_instances_are_gone() {
    use wasmatrix_wire::v1;
    let world = World::of(1).await;
    world.start(spec("a")).await.unwrap();
    let forget = || async {
        let request = v1::ForgetNodeRequest { node: "node-0".to_owned() };
        world.user().forget_node(request).await.map_err(crate::world::failure)
    };
    assert!(forget().await.unwrap_err().message.contains("only a lost node"));
    world.nodes[0].crash();
    world.until_node(0, |node| node.phase == NodePhase::Lost).await;
    forget().await.unwrap();
    let failure = world.get("a").await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::InstanceNotFound);
    assert!(failure.message.contains("forgotten"), "{failure}");
    world.nodes[0].boot().await.unwrap();
    world.until_node(0, |node| node.phase == NodePhase::Ready && node.reason.is_none()).await;
    world.start(spec("a")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_was_held_up_blames_nobody() {
    let world = World::of(2).await;
    world.start(on("a", 0)).await.unwrap();
    // As after SIGSTOP and SIGCONT: everybody's timers are a minute late.
    tokio::time::advance(Duration::from_secs(60)).await;
    world.until_node(0, |node| node.phase == NodePhase::Ready && node.reason.is_none()).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(world.get("a").await.unwrap().phase, Phase::Running);
    let facts = world.facts().await;
    let blamed = |fact: &FactKind| matches!(fact, FactKind::NodePhaseChanged { phase: NodePhase::Lost, .. });
    assert!(!facts.iter().any(blamed), "{facts:?}");
}
