//! P13 facts are in order, timestamped, and never changed.

use futures::StreamExt as _;
use proptest::prelude::*;
use wasmatrix_model::Fact;
use wasmatrix_tests::{Case as Run, Node, executors};

use crate::{CASES, block_on, cases, runtime};

async fn replayed(node: &Node, token: &str) -> Vec<(Fact, String)> {
    let stream = node.agent.facts(token, false).unwrap();
    stream
        .map(|watched| watched.map(|watched| (Fact::clone(&watched.fact), watched.resume_token)).unwrap())
        .collect()
        .await
}

#[test]
fn property_13_facts_are_ordered_and_unchanging() {
    let runtime = runtime();
    for executor in executors() {
        let node = runtime.block_on(Node::new());
        let guest = prop::sample::select(vec![
            vec!["exit 0"],
            vec!["trap divide"],
            vec!["kv.get default k"],
            vec!["exit 1"],
        ]);
        proptest!(cases(CASES), |(runs in prop::collection::vec(guest, 1..4), pick in any::<prop::sample::Index>())| {
            block_on(&runtime, async {
                let before = replayed(&node, "").await;
                let all = runs.iter().map(|steps| node.run(Run::of(*executor, "probe").args(steps.iter().copied())));
                futures::future::join_all(all).await;
                let after = replayed(&node, "").await;
                for pair in after.windows(2) {
                    prop_assert_eq!(pair[0].0.seq + 1, pair[1].0.seq, "numbers have no gaps");
                    prop_assert!(pair[0].0.at <= pair[1].0.at, "time goes on");
                }
                // What was told once is told again to the letter, as long as it is told at all.
                let oldest = after[0].0.seq;
                let kept: Vec<_> = before.iter().filter(|(fact, _)| fact.seq >= oldest).collect();
                for (told, again) in kept.iter().zip(&after) {
                    prop_assert_eq!(*told, again);
                }
                // Going on after any fact gives exactly those that follow it.
                let at = pick.index(after.len());
                let rest = replayed(&node, &after[at].1).await;
                prop_assert_eq!(&rest[..], &after[at + 1..]);
                Ok(())
            })?;
        });
    }
}
