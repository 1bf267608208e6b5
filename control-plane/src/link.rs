//! One task for each node: follows its agent, so that what is there and what happened there is known here.
//!
//! ```text
//!            ┌── WatchInstances ──► mirror, successions, artifacts
//! agent ─────┤                                                       both begin anew after a pause when they end
//!       ◄────┴── WatchFacts ──────► record
//!  CordonNode, where it does not hold what was decided here
//! ```
//!
//! A task ends when its link is gone: the node is lost, or its agent is another run, or is elsewhere.

mod facts;
mod instances;

use std::{sync::Arc, time::Duration};

use tonic::Status;

use crate::{
    cluster::Cluster,
    cordon,
    nodes::{Link, Node},
};

pub(crate) use facts::catch_up;

/// How long an agent may take to begin to answer, and how long it is waited for its instances before its facts are
/// asked for.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The first pause after a stream has ended; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Follows a node's agent until the link is gone.
pub(crate) async fn follow(cluster: Arc<Cluster>, node: Arc<Node>, link: Arc<Link>) {
    let instances = async {
        let mut token = String::new();
        let mut pauses = Pauses::default();
        loop {
            let before = token.clone();
            let ended = instances::follow(&cluster, &node, &link, &mut token).await;
            link.synced.send_replace(false);
            node.set_problem(&link, Some(&told(&ended)));
            pauses.wait(token != before).await;
        }
    };
    let facts = async {
        // What is there is told first: what happened there is often more, and nobody waits for it to start something.
        let mut synced = link.synced.subscribe();
        let _ = tokio::time::timeout(ANSWER_MAX, synced.wait_for(|synced| *synced)).await; // either will do
        let mut pauses = Pauses::default();
        loop {
            let before = cluster.record.token(&node.id);
            facts::follow(&cluster, &node, &link).await;
            pauses.wait(cluster.record.token(&node.id) != before).await;
        }
    };
    tokio::select! {
        biased;
        () = link.gone.cancelled() => {}
        () = instances => {}
        () = facts => {}
        () = cordon::keep_told(&cluster, &node, &link) => {}
    }
}

/// Why a stream ended, in words.
fn told(ended: &Status) -> String {
    match ended.message() {
        "" => ended.code().description().to_owned(),
        message => message.chars().take(200).collect(),
    }
}

/// Pauses that double while nothing gets better. Never quite the same, so that nodes do not come back in step.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    doubled: u32,
}

impl Pauses {
    pub(crate) async fn wait(&mut self, better: bool) {
        self.doubled = if better { 0 } else { self.doubled.saturating_add(1).min(10) };
        let pause = PAUSE.saturating_mul(1 << self.doubled).min(PAUSE_MAX);
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
    }
}
