//! P15: the control plane is killed at any moment; the next one knows the same. Nobody's instance notices.

use wasmatrix_model::{FactKind, Grant, NodeStatus};
use wasmatrix_sim::Lives;

use super::*;

/// What is done before the kill, and while it happens.
#[derive(Clone, Debug)]
enum Deed {
    Start(u8, bool),
    Stop(u8),
    Remove(u8),
    Assign(u8),
    Cordon(u8, bool),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (0..8_u8, any::<bool>()).prop_map(|(number, precious)| Deed::Start(number, precious)),
        1 => (0..8_u8).prop_map(Deed::Stop),
        1 => (0..8_u8).prop_map(Deed::Remove),
        1 => (0..8_u8).prop_map(Deed::Assign),
        1 => (0..4_u8, any::<bool>()).prop_map(|(node, cordoned)| Deed::Cordon(node, cordoned)),
    ]
}

async fn carry_out(mut user: wasmatrix_sim::User, deed: Deed) {
    let name = |number| format!("i{number}");
    // Refusals are part of life, and so is a control plane that is killed.
    let _ = match deed {
        Deed::Start(number, true) => user.start(keyed(precious(&name(number))), ARTIFACT).await.map(drop),
        Deed::Start(number, false) => user.start(keyed(spec(&name(number))), ARTIFACT).await.map(drop),
        Deed::Stop(number) => user.stop(&name(number)).await.map(drop),
        Deed::Remove(number) => user.remove(&name(number)).await,
        Deed::Assign(number) => {
            let grant: Grant = "kv:read".parse().unwrap();
            user.assign(&name(number), &grant).await.map(drop)
        }
        // Of a node that there may not be.
        Deed::Cordon(number, cordoned) => {
            user.cordon(&format!("node-{number}").parse().unwrap(), cordoned).await
        }
    };
}

/// What of a node does not change while nothing happens.
fn lasting(nodes: Vec<NodeStatus>) -> Vec<NodeStatus> {
    nodes.into_iter().map(|node| NodeStatus { last_seen_at: None, ..node }).collect()
}

#[test]
fn property_15_a_control_plane_that_was_killed_at_rest_knows_the_same_again() {
    check((1..5_usize, prop::collection::vec(deed(), 0..20)), async |seed, (nodes, deeds)| {
        let lives = Lives { run: None, ..Lives::restless() };
        let world = World::new(seed, nodes, &lives).await;
        for deed in deeds {
            carry_out(world.user(), deed).await;
        }
        let before = (world.user().list().await.unwrap(), lasting(world.user().nodes().await.unwrap()));
        world.begin_control_plane().await;
        world.until_known().await;
        let after = (world.user().list().await.unwrap(), lasting(world.user().nodes().await.unwrap()));
        prop_assert_eq!(&before, &after);
        prop_assert_eq!(after.0, truth(&world));
        Ok(())
    });
}

#[test]
fn property_15_a_control_plane_that_was_killed_at_work_knows_what_is() {
    let strategy = (1..5_usize, prop::collection::vec((deed(), pause(600)), 1..20), pause(3000), pause(4000));
    check(strategy, async |seed, (nodes, deeds, kill_after, down_for)| {
        let world = World::new(seed, nodes, &Lives { run: None, ..Lives::restless() }).await;
        let observer = world.user().observe();
        let user = world.user();
        let work = tokio::spawn(async move {
            for (deed, after) in deeds {
                tokio::spawn(carry_out(user.clone(), deed));
                tokio::time::sleep(after).await;
            }
        });
        tokio::time::sleep(kill_after).await;
        let runs = |world: &World| -> Vec<_> {
            world.nodes.iter().map(|node| node.machine().unwrap().facts.run()).collect()
        };
        let before = runs(&world);
        world.kill_control_plane().await;
        tokio::time::sleep(down_for).await;
        world.begin_control_plane().await;
        work.await.unwrap();
        world.heal().await;
        let (listed, truth) = listed_and_true(&world).await;
        prop_assert_eq!(&listed, &truth);
        prop_assert_eq!(runs(&world), before, "no node noticed");
        for status in listed {
            let created = |kind: &FactKind| matches!(kind, FactKind::InstanceCreated { instance, .. } if instance.id == status.id);
            prop_assert!(
                observer.facts().iter().any(|fact| created(&fact.kind)),
                "{} was never told",
                status.id
            );
        }
        Ok(())
    });
}
