//! What happened everywhere: the facts of every node that is followed, and the control plane's own among them.
//!
//! They are kept in the order in which they came, bounded by count and by bytes. Each node's are in that node's order,
//! without a gap and without a repeat, as long as the node keeps them; between nodes, the clocks decide nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::Stream;
use wasmatrix_facts::{Facts, Watched};
use wasmatrix_model::{Clock, Fact, FactKind, Failure, NodeId};

/// The node id of the control plane's own facts. No node may have it.
pub const CONTROL_PLANE: &str = "control-plane";

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Record {
    facts: Arc<Facts>,
    /// How far each node's facts have been taken in.
    places: Mutex<HashMap<NodeId, Place>>,
}

/// How far one node's facts have been taken in.
#[derive(Clone, Debug, Default)]
struct Place {
    /// The part of a token that says of which run of the agent it is.
    run: String,
    seq: u64,
    token: String,
}

impl Record {
    pub(crate) fn new(clock: Arc<dyn Clock>, own: NodeId, kept: usize) -> Self {
        Self { facts: Arc::new(Facts::new(own, clock, kept)), places: Mutex::default() }
    }

    /// Records that `kind` happened here and now.
    pub(crate) fn record(&self, kind: FactKind) {
        self.facts.record(kind);
    }

    /// Takes in a fact that a node tells, unless it did before. `token` is the one that came with it.
    pub(crate) fn take(&self, node: &NodeId, fact: Fact, token: &str) -> bool {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.entry(node.clone()).or_default();
        let run = token.rsplit_once('.').map_or(token, |(run, _)| run);
        if place.run == run && fact.seq <= place.seq {
            return false;
        }
        *place = Place { run: run.to_owned(), seq: fact.seq, token: token.to_owned() };
        // Within the lock: two readers of one node must not disorder its facts.
        self.facts.adopt(fact);
        true
    }

    /// The token with which to go on asking that node; empty: from the beginning.
    pub(crate) fn token(&self, node: &NodeId) -> String {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.get(node).map(|place| place.token.clone()).unwrap_or_default()
    }

    /// The next question to that node begins at the beginning. What was taken in stays.
    pub(crate) fn start_over(&self, node: &NodeId) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.get_mut(node) {
            place.token.clear();
        }
    }

    pub(crate) fn forget(&self, node: &NodeId) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }

    /// As [`Facts::watch`].
    pub(crate) fn watch(
        &self,
        token: &str,
        follow: bool,
    ) -> Result<impl Stream<Item = Result<Watched, Failure>> + use<>, Failure> {
        self.facts.watch(token, follow)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use wasmatrix_model::SystemClock;

    use super::*;

    #[tokio::test]
    async fn what_a_node_tells_twice_is_kept_once_and_another_run_begins_anew() {
        let node: NodeId = "n".parse().unwrap();
        let record = Record::new(Arc::new(SystemClock), CONTROL_PLANE.parse().unwrap(), 100);
        let fact =
            |seq| Fact { seq, at: SystemClock.now(), node: node.clone(), kind: FactKind::NodeStopping };
        for (seq, token) in [(1, "a.1"), (2, "a.2"), (1, "a.1"), (2, "a.2"), (3, "a.3"), (1, "b.1")] {
            record.take(&node, fact(seq), token);
        }
        let seqs: Vec<u64> =
            record.watch("", false).unwrap().map(|watched| watched.unwrap().fact.seq).collect().await;
        assert_eq!(seqs, [1, 2, 3, 1]);
        assert_eq!(record.token(&node), "b.1");
        record.start_over(&node);
        assert_eq!(record.token(&node), "");
        assert!(!record.take(&node, fact(1), "b.1"), "told before");
    }
}
