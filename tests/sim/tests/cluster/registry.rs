//! P05: the registry of grants is the fold of what was assigned and revoked, on all nodes, whatever becomes of the
//! control plane.

use std::collections::{BTreeMap, BTreeSet};

use wasmatrix_model::Grant;
use wasmatrix_sim::Lives;

use super::*;

#[derive(Clone, Debug)]
enum Deed {
    Assign(u8, Grant),
    Revoke(u8, Grant),
    Kill,
    Trouble(usize, Fault),
}

fn deed() -> impl Strategy<Value = Deed> {
    let grants = ["kv:read", "kv:write", "kv:read:a", "kv:read:a/x*", "kv:delete:@s", "kv:write:b/y"];
    let grant = || prop::sample::select(grants.to_vec()).prop_map(|grant| grant.parse::<Grant>().unwrap());
    prop_oneof![
        6 => (0..5_u8, grant()).prop_map(|(of, grant)| Deed::Assign(of, grant)),
        4 => (0..5_u8, grant()).prop_map(|(of, grant)| Deed::Revoke(of, grant)),
        1 => Just(Deed::Kill),
        1 => (0..3_usize, trouble()).prop_map(|(node, fault)| Deed::Trouble(node, fault)),
    ]
}

#[test]
fn property_05_the_registry_is_the_fold_across_nodes_and_control_planes() {
    check(prop::collection::vec(deed(), 1..30), async |seed, deeds| {
        let world = World::new(seed, 3, &Lives::calm()).await;
        let mut user = world.user();
        let mut fold: BTreeMap<String, BTreeSet<Grant>> = BTreeMap::new();
        for number in 0..5 {
            let name = format!("i{number}");
            user.start(spec(&name).into(), ARTIFACT).await.unwrap();
            fold.insert(name, BTreeSet::new());
        }
        for deed in deeds {
            match deed {
                Deed::Assign(of, grant) => {
                    let name = format!("i{of}");
                    let held = fold.get_mut(&name).unwrap();
                    // To grant twice is to grant once, so it is asked for until there is an answer.
                    while user.assign(&name, &grant).await.is_err() {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    held.insert(grant);
                }
                Deed::Revoke(of, grant) => {
                    let name = format!("i{of}");
                    let held = fold.get_mut(&name).unwrap();
                    revoke(&mut user, &name, &grant, held.contains(&grant)).await?;
                    held.remove(&grant);
                }
                Deed::Kill => world.begin_control_plane().await,
                Deed::Trouble(node, fault) => fault.befall(&world.nodes[node]).await.unwrap(),
            }
        }
        world.heal().await;
        for status in user.list().await.unwrap() {
            let held: BTreeSet<Grant> = status.grants.iter().cloned().collect();
            prop_assert_eq!(Some(&held), fold.get(status.spec.name.as_str()), "{}", status.spec.name);
        }
        let (listed, truth) = listed_and_true(&world).await;
        prop_assert_eq!(listed.len(), 5);
        prop_assert_eq!(listed, truth);
        Ok(())
    });
}

/// Asks until there is an answer. One that is not held is refused; after an answer that was lost, so is one that was.
async fn revoke(
    user: &mut wasmatrix_sim::User,
    name: &str,
    grant: &Grant,
    held: bool,
) -> Result<(), TestCaseError> {
    let mut lost = false;
    loop {
        match user.revoke(name, grant).await {
            Ok(left) => {
                prop_assert!(held, "{name} never held {grant}");
                prop_assert!(!left.contains(&grant.to_string()));
                return Ok(());
            }
            // A control plane that has not heard a node yet does not know what is there.
            Err(failure)
                if wasmatrix_sim::user::is_uncertain(failure.code)
                    || failure.code == wasmatrix_model::ErrorCode::InstanceNotFound =>
            {
                lost = true;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(failure) => {
                prop_assert_eq!(failure.code, wasmatrix_model::ErrorCode::CapabilityNotFound);
                prop_assert!(!held || lost, "{} held {}", name, grant);
                return Ok(());
            }
        }
    }
}
