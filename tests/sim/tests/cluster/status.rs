//! P09: what is listed is what the agents last reported. P14: who asks about an instance is told how it is.

use wasmatrix_model::{Grant, RestartMode, RestartPolicy};
use wasmatrix_sim::Lives;

use super::*;

#[derive(Clone, Debug)]
enum Deed {
    Start(u8),
    Stop(u8),
    Remove(u8),
    Assign(u8),
    Revoke(u8),
    Wait(Duration),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => (0..6_u8).prop_map(Deed::Start),
        1 => (0..6_u8).prop_map(Deed::Stop),
        1 => (0..6_u8).prop_map(Deed::Remove),
        1 => (0..6_u8).prop_map(Deed::Assign),
        1 => (0..6_u8).prop_map(Deed::Revoke),
        2 => pause(20_000).prop_map(Deed::Wait),
    ]
}

fn name(number: u8) -> String {
    format!("i{number}")
}

/// Does it, and looks whether the one who did it finds it done. Refusals are part of life.
async fn carry_out(world: &World, deed: &Deed) -> Result<(), TestCaseError> {
    let mut user = world.user();
    let grant: Grant = "kv:read:a".parse().unwrap();
    let lost = |failure: wasmatrix_model::Failure| TestCaseError::fail(failure.to_string());
    match deed {
        Deed::Start(number) => {
            let restart = RestartPolicy::with_mode(RestartMode::OnFailure);
            let spec = InstanceSpec { restart, ..spec(&name(*number)) };
            if let Ok(started) = user.start(spec.into(), ARTIFACT).await {
                let listed = user.list().await.map_err(lost)?;
                let found = listed.iter().find(|status| status.id == started.id);
                let seen = found.is_some_and(|found| found.revision >= started.revision);
                prop_assert!(seen, "whoever starts an instance finds it listed: {started:?}, {found:?}");
            }
        }
        Deed::Stop(number) => {
            if let Ok(stopped) = user.stop(&name(*number)).await {
                let listed = user.list().await.map_err(lost)?;
                let found = listed.iter().find(|status| status.id == stopped.id);
                prop_assert!(
                    found.is_none_or(|found| found.revision >= stopped.revision),
                    "{stopped:?}, {found:?}"
                );
            }
        }
        Deed::Remove(number) => {
            if user.remove(&name(*number)).await.is_ok() {
                let listed = user.list().await.map_err(lost)?;
                prop_assert!(!listed.iter().any(|status| status.spec.name.as_str() == name(*number)));
            }
        }
        Deed::Assign(number) => {
            if user.assign(&name(*number), &grant).await.is_ok() {
                let held = user.get(&name(*number)).await.map_err(lost)?.grants;
                prop_assert!(held.holds(&grant));
            }
        }
        Deed::Revoke(number) => {
            if user.revoke(&name(*number), &grant).await.is_ok() {
                let held = user.get(&name(*number)).await.map_err(lost)?.grants;
                prop_assert!(!held.holds(&grant));
            }
        }
        Deed::Wait(time) => tokio::time::sleep(*time).await,
    }
    Ok(())
}

#[test]
fn property_09_the_listing_is_what_agents_last_reported() {
    let strategy =
        (1..4_usize, prop::collection::vec((deed(), prop::option::of((0..4_usize, trouble()))), 1..20));
    check(strategy, async |seed, (nodes, deeds)| {
        let world = World::new(seed, nodes, &Lives::restless()).await;
        for (deed, trouble) in &deeds {
            if let Some((node, fault)) = trouble {
                fault.befall(&world.nodes[node % nodes]).await.unwrap();
            }
            // Whoever reads what he wrote must have heard the answer.
            let _ = carry_out(&world, deed).await;
        }
        world.heal().await;
        let (listed, truth) = listed_and_true(&world).await;
        prop_assert_eq!(listed, truth);
        Ok(())
    });
}

#[test]
fn property_09_whoever_writes_reads_it() {
    check((1..4_usize, prop::collection::vec(deed(), 1..20)), async |seed, (nodes, deeds)| {
        let world = World::new(seed, nodes, &Lives::restless()).await;
        for deed in &deeds {
            carry_out(&world, deed).await?;
        }
        Ok(())
    });
}

#[test]
fn property_14_a_query_says_what_is() {
    check((1..4_usize, prop::collection::vec(deed(), 1..20)), async |seed, (nodes, deeds)| {
        let world = World::new(seed, nodes, &Lives::restless()).await;
        let mut user = world.user();
        for deed in &deeds {
            carry_out(&world, deed).await?;
            for before in truth(&world) {
                let said = user.get(&before.id.to_string()).await.unwrap();
                let node = world.nodes.iter().find(|node| node.traits().id == before.node).unwrap();
                let after = node.machine().unwrap().get(&before.id.to_string()).unwrap();
                prop_assert!(
                    (before.revision..=after.revision).contains(&said.revision),
                    "said {said:?}, was {before:?}, then {after:?}"
                );
                if before == after {
                    prop_assert_eq!(said, after);
                }
            }
        }
        Ok(())
    });
}
