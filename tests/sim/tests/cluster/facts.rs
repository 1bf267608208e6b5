//! P13: the facts of every node are told in order, none twice and none lost, over cut lines, slow readers and deaths of
//! the control plane.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use wasmatrix_model::{Fact, NodeId, RestartMode, RestartPolicy};
use wasmatrix_sim::{Lives, SimNode};

use super::*;

#[derive(Clone, Debug)]
enum Event {
    Trouble(usize, Fault),
    Start,
    Kill,
    Wait(Duration),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..3_usize, trouble()).prop_map(|(node, fault)| Event::Trouble(node, fault)),
        2 => Just(Event::Start),
        1 => Just(Event::Kill),
        3 => pause(30_000).prop_map(Event::Wait),
    ]
}

async fn told_by(node: &SimNode) -> Vec<Fact> {
    let facts = node.machine().unwrap().facts.watch("", false).unwrap();
    facts.map_ok(|watched| Fact::clone(&watched.fact)).try_collect().await.unwrap()
}

#[test]
fn property_13_facts_are_told_in_order_and_none_is_lost() {
    check(prop::collection::vec(event(), 1..20), async |seed, events| {
        let world = World::new(seed, 3, &Lives::restless()).await;
        let observer = world.user().observe();
        let mut started = 0;
        for event in events {
            match event {
                Event::Trouble(node, fault) => fault.befall(&world.nodes[node]).await.unwrap(),
                Event::Start => {
                    let restart = RestartPolicy::with_mode(RestartMode::Always);
                    let spec = InstanceSpec { restart, ..spec(&format!("i{started}")) };
                    started += 1;
                    let mut user = world.user();
                    tokio::spawn(async move { user.start(spec.into(), ARTIFACT).await });
                }
                Event::Kill => world.begin_control_plane().await,
                Event::Wait(time) => tokio::time::sleep(time).await,
            }
        }
        world.heal().await;
        let mut seen: BTreeMap<NodeId, Vec<Fact>> = BTreeMap::new();
        let mut truth = BTreeMap::new();
        // What happens all the time is still under way at any moment: time is given for the last of it.
        for _ in 0..100 {
            truth.clear();
            for node in &world.nodes {
                truth.insert(node.traits().id.clone(), told_by(node).await);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            seen.clear();
            for fact in observer.facts() {
                seen.entry(fact.node.clone()).or_default().push(fact);
            }
            let is_whole = |(node, facts): (&NodeId, &Vec<Fact>)| {
                seen.get(node).is_some_and(|seen| seen.len() >= facts.len())
            };
            if truth.iter().all(is_whole) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        prop_assert_eq!(observer.gaps(), 0);
        for (node, facts) in truth {
            let seen = &seen[&node];
            prop_assert!(
                seen.len() >= facts.len(),
                "of {} facts of {}, {} were told",
                facts.len(),
                node,
                seen.len()
            );
            prop_assert_eq!(&seen[..facts.len()], &facts[..]);
            let numbered = seen.iter().zip(1..).all(|(fact, number)| fact.seq == number);
            prop_assert!(numbered && seen.windows(2).all(|pair| pair[0].at <= pair[1].at));
        }
        Ok(())
    });
}
