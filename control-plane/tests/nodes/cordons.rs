//! Nodes that are closed to new instances, and who remembers it.

use wasmatrix_model::{ErrorCode, NodePhase};
use wasmatrix_wire::v1;

use crate::{
    World,
    world::{on, spec},
};

async fn cordon(world: &World, cordoned: bool) {
    let request = v1::CordonNodeRequest { node: "node-0".to_owned(), cordoned };
    world.user().cordon_node(request).await.unwrap();
}

/// Whether the node's agent holds it to be closed.
fn held(world: &World) -> bool {
    world.nodes[0].machine().unwrap().registration("").cordoned
}

/// Waits until the node's agent holds it to be so.
async fn until_held(world: &World, cordoned: bool) {
    let machine = world.nodes[0].machine().unwrap();
    let mut described = machine.described();
    while held(world) != cordoned {
        described.changed().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_cordoned_node_takes_nothing_until_it_is_opened_again() {
    let world = World::of(1).await;
    cordon(&world, true).await;
    let refused = world.start(spec("a")).await.unwrap_err();
    assert!(refused.code == ErrorCode::NodeUnavailable && refused.message.contains("cordoned"), "{refused}");
    cordon(&world, false).await;
    world.start(spec("a")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cordon_outlives_the_control_plane() {
    let mut world = World::of(2).await;
    cordon(&world, true).await;
    world.kill().await;
    world.begin().await;
    world.until_node(0, |node| node.phase == NodePhase::Ready && node.cordoned).await;
    world.until_node(1, |node| node.phase == NodePhase::Ready && !node.cordoned).await;
    assert!(world.start(on("a", 0)).await.unwrap_err().message.contains("cordoned"));
    cordon(&world, false).await;
    world.kill().await;
    world.begin().await;
    world.until_node(0, |node| node.phase == NodePhase::Ready && !node.cordoned).await;
    world.start(on("a", 0)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cordon_outlives_the_agent() {
    let mut world = World::of(1).await;
    cordon(&world, true).await;
    assert!(held(&world), "whoever is answered finds it told");
    world.nodes[0].boot().await.unwrap();
    until_held(&world, true).await;
    world.kill().await;
    world.begin().await;
    world.until_node(0, |node| node.phase == NodePhase::Ready && node.cordoned).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_cut_off_is_told_when_it_is_heard_again() {
    let world = World::of(1).await;
    world.cut_off(0);
    world.until_node(0, |node| node.phase == NodePhase::Suspect).await;
    cordon(&world, true).await;
    assert!(!held(&world));
    world.until_node(0, |node| node.phase == NodePhase::Lost && node.cordoned).await;
    cordon(&world, false).await;
    cordon(&world, true).await;
    world.heal(0);
    until_held(&world, true).await;
    world.until_node(0, |node| node.phase == NodePhase::Ready && node.cordoned).await;
}
