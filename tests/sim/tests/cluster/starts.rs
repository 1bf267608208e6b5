//! A start that is asked for many times makes one instance, whatever is lost or said twice on the way.

use futures::TryStreamExt as _;
use tokio::task::JoinSet;
use wasmatrix_model::FactKind;
use wasmatrix_sim::{Link, Lives};

use super::*;

#[derive(Clone, Debug)]
enum Event {
    /// A node's line.
    Trouble(usize, Fault),
    /// A node that nobody hears for a while.
    Partition(usize),
    /// The user's own line.
    CutUser(u32),
    /// Somebody asks again, while others do.
    Ask(u8),
    Wait(Duration),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..3_usize, trouble()).prop_map(|(node, fault)| Event::Trouble(node, fault)),
        1 => (0..3_usize).prop_map(Event::Partition),
        2 => (1..2000_u32).prop_map(Event::CutUser),
        4 => (0..4_u8).prop_map(Event::Ask),
        2 => pause(2000).prop_map(Event::Wait),
    ]
}

async fn created(world: &World, name: &str) -> usize {
    let mut count = 0;
    for node in &world.nodes {
        let facts = node.machine().unwrap().facts.watch("", false).unwrap();
        let facts: Vec<_> = facts.try_collect().await.unwrap();
        let is_it = |kind: &FactKind| matches!(kind, FactKind::InstanceCreated { instance, .. } if instance.name.as_str() == name);
        count += facts.iter().filter(|watched| is_it(&watched.fact.kind)).count();
    }
    count
}

#[test]
fn a_start_that_is_repeated_makes_exactly_one_instance() {
    check(prop::collection::vec(event(), 1..25), async |seed, events| {
        let lives = Lives { run: None, failures_percent: 0, ..Lives::restless() };
        let world = World::new(seed, 3, &lives).await;
        let line = Link::new();
        let mut asks = JoinSet::new();
        for event in events {
            match event {
                Event::Trouble(node, fault) => fault.befall(&world.nodes[node]).await.unwrap(),
                Event::Partition(node) => Fault::Partition.befall(&world.nodes[node]).await.unwrap(),
                Event::CutUser(bytes) => line.cut_after(Direction::Away, bytes),
                Event::Ask(number) => {
                    let (mut user, name) = (world.user_over(Some(&line)), format!("i{number}"));
                    asks.spawn(async move {
                        let begun = user.start_surely(keyed(spec(&name)), ARTIFACT, 600).await;
                        (name, begun)
                    });
                }
                Event::Wait(time) => tokio::time::sleep(time).await,
            }
        }
        line.heal();
        world.heal().await;
        let mut started: Vec<(String, InstanceStatus)> = Vec::new();
        while let Some(asked) = asks.join_next().await {
            let (name, begun) = asked.unwrap();
            let status = begun.map_err(|failure| TestCaseError::fail(format!("{name}: {failure:?}")))?;
            if let Some((_, other)) = started.iter().find(|(known, _)| *known == name) {
                prop_assert_eq!(other.id, status.id, "two instances of one start");
            }
            started.push((name, status));
        }
        for (name, status) in started {
            prop_assert_eq!(created(&world, &name).await, 1, "{}", name);
            prop_assert_eq!(world.user().get(&name).await.unwrap().id, status.id);
        }
        Ok(())
    });
}
