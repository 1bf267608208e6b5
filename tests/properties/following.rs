//! P09 whoever follows a node's changes holds the list that the node has, whatever happens there and however often the
//! link breaks.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt as _;
use proptest::prelude::*;
use wasmatrix_agent::changes::Change;
use wasmatrix_model::{Grant, InstanceId, InstanceStatus, RestartMode, RestartPolicy};
use wasmatrix_tests::{Case as Run, Node, executors};

use crate::{block_on, cases, runtime};

/// Cases that start several instances each.
const FEWER_CASES: u32 = 24;

#[derive(Clone, Copy, Debug)]
enum Deed {
    Start,
    StartCrasher,
    StartBroken,
    Stop,
    Remove,
    Assign,
    Revoke,
}

fn deeds() -> impl Strategy<Value = Vec<(&'static str, Deed)>> {
    use Deed::{Assign, Remove, Revoke, Start, StartBroken, StartCrasher, Stop};
    let deed =
        prop::sample::select(vec![Start, StartCrasher, StartBroken, Stop, Remove, Remove, Assign, Revoke]);
    prop::collection::vec((prop::sample::select(vec!["one", "two", "three"]), deed), 1..14)
}

/// Does it, whether it is possible or not.
async fn act(node: &Node, executor: wasmatrix_model::ExecutorKind, name: &str, deed: Deed) {
    let grants: [Grant; 1] = ["kv:read".parse().unwrap()];
    let run = match deed {
        Deed::Start => Run::of(executor, "sleeper"),
        Deed::StartBroken => Run::with(executor, &b"not wasm"[..]),
        Deed::StartCrasher => {
            let mut run = Run::of(executor, "trap").args(["divide"]);
            run.restart = RestartPolicy {
                backoff_initial: Duration::from_millis(1),
                restarts_max: Some(2),
                ..RestartPolicy::with_mode(RestartMode::Always)
            };
            run
        }
        Deed::Stop => return drop(node.agent.stop(name, Duration::ZERO).await),
        Deed::Remove => return drop(node.agent.remove(name).await),
        Deed::Assign => return drop(node.agent.assign(name, &grants)),
        Deed::Revoke => return drop(node.agent.revoke(name, &grants)),
    };
    drop(node.start(&run.name(name)).await);
}

/// Somebody far away, whose link breaks after so many changes each time.
#[derive(Default)]
struct Follower {
    listed: BTreeMap<InstanceId, InstanceStatus>,
    token: String,
}

impl Follower {
    /// Reads until the link breaks; `true`: all that there was has been told.
    async fn read(&mut self, node: &Node, changes_max: usize) -> bool {
        let mut changes = Box::pin(node.agent.watch(&self.token));
        for _ in 0..changes_max {
            let changed = changes.next().await.unwrap();
            self.token = changed.resume_token;
            match changed.change {
                Change::Reset => self.listed.clear(),
                Change::Instance(status) => drop(self.listed.insert(status.id, *status)),
                Change::Removed(id) => drop(self.listed.remove(&id)),
                Change::Synced => return true,
            }
        }
        false
    }
}

#[test]
fn property_09_a_follower_holds_the_list_of_the_node() {
    let runtime = runtime();
    for executor in executors() {
        let hands = (deeds(), deeds());
        let breaks = prop::collection::vec(1..6_usize, 1..6);
        proptest!(cases(FEWER_CASES), |((left, right) in hands, breaks in breaks)| {
            block_on(&runtime, async {
                let node = Node::new().await;
                let hand = async |deeds: Vec<(&str, Deed)>| {
                    for (name, deed) in deeds {
                        act(&node, *executor, name, deed).await;
                    }
                };
                let mut follower = Follower::default();
                let following = async {
                    for changes_max in breaks.iter().cycle() {
                        follower.read(&node, *changes_max).await;
                        tokio::task::yield_now().await;
                    }
                };
                tokio::select! {
                    biased;
                    _ = futures::future::join(hand(left.clone()), hand(right.clone())) => {}
                    () = following => {}
                }
                node.agent.shutdown(Duration::ZERO).await;
                while !follower.read(&node, usize::MAX).await {}
                let listed: BTreeMap<_, _> =
                    node.agent.list(None, 10).into_iter().map(|status| (status.id, status)).collect();
                prop_assert_eq!(follower.listed, listed);
                Ok(())
            })?;
        });
    }
}
