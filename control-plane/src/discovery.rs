//! Learns which nodes there are, beside those that attend by themselves, and lets others learn it.
//!
//! A node needs none of this: it attends the control plane that it was told of. What is here helps a control plane that
//! has just begun to ask its nodes before they come, and lets other programs see which nodes there are.
//!
//! ```text
//!  a list in the configuration ──► Static ─┐
//!                                          ├─► sightings ──► the control plane dials
//!  etcd ◄── nodes, providers ──► Etcd ─────┘
//! ```
//!
//! Whatever becomes of a source, what it said before stays: a source that is out of reach says nothing, and when it is
//! back it says what is different. `Etcd` is there with the feature `etcd`.

mod fixed;

#[cfg(feature = "etcd")]
pub mod etcd;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
};

use futures::{StreamExt as _, stream, stream::BoxStream};
use tokio::sync::watch;
use wasmatrix_model::{NodeId, Registration};

#[cfg(feature = "etcd")]
pub use etcd::Etcd;
pub use fixed::Static;

/// A place where nodes are known.
pub trait Discovery: fmt::Debug + Send + Sync {
    /// Every node that is known, and then each change. The stream makes good for what it could not see: after a gap it
    /// tells the difference. It ends with the place itself.
    fn watch(&self) -> BoxStream<'static, Sighting>;

    /// Tells others of a node that attends, or of what is new about it. Never waits; what can't be told now is told later.
    fn publish(&self, registration: &Registration);

    /// Tells others that a node attends no longer. Never waits.
    fn withdraw(&self, node: &NodeId);
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// A node is known, or has another address now.
    Seen {
        /// Which.
        node: NodeId,
        /// Where its agent listens, e.g. `https://10.0.0.2:7119`. Said by somebody: not proven.
        address: String,
    },
    /// A node is known no longer. That says nothing of whether it lives.
    Gone {
        /// Which.
        node: NodeId,
    },
}

/// The nodes that a place knows, with their addresses.
type Known = Arc<BTreeMap<NodeId, String>>;

/// Follows what a place knows: each change as the difference from what was told.
fn sightings(known: watch::Receiver<Known>) -> BoxStream<'static, Sighting> {
    struct Follower {
        known: watch::Receiver<Known>,
        told: Known,
        next: VecDeque<Sighting>,
    }
    let mut known = known;
    known.mark_changed();
    let follower = Follower { known, told: Known::default(), next: VecDeque::new() };
    let stream = stream::unfold(follower, |mut follower| async move {
        loop {
            if let Some(sighting) = follower.next.pop_front() {
                return Some((sighting, follower));
            }
            follower.known.changed().await.ok()?;
            let now = Arc::clone(&follower.known.borrow_and_update());
            follower.next = difference(&follower.told, &now);
            follower.told = now;
        }
    });
    stream.boxed()
}

fn difference(before: &BTreeMap<NodeId, String>, now: &BTreeMap<NodeId, String>) -> VecDeque<Sighting> {
    let gone = before.keys().filter(|node| !now.contains_key(*node));
    let gone = gone.map(|node| Sighting::Gone { node: node.clone() });
    let seen = now.iter().filter(|(node, address)| before.get(*node) != Some(*address));
    let seen = seen.map(|(node, address)| Sighting::Seen { node: node.clone(), address: address.clone() });
    gone.chain(seen).collect()
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn known(nodes: &[(&str, &str)]) -> Known {
        let nodes = nodes.iter().map(|(node, address)| (node.parse().unwrap(), (*address).to_owned()));
        Arc::new(nodes.collect())
    }

    fn seen(node: &str, address: &str) -> Sighting {
        Sighting::Seen { node: node.parse().unwrap(), address: address.to_owned() }
    }

    #[test]
    fn what_was_missed_is_told_as_the_difference() {
        let place = watch::Sender::new(known(&[("a", "http://a:1"), ("b", "http://b:1")]));
        let mut stream = sightings(place.subscribe());
        let mut told = || stream.next().now_or_never().flatten();
        assert_eq!(told(), Some(seen("a", "http://a:1")));
        assert_eq!(told(), Some(seen("b", "http://b:1")));
        assert_eq!(told(), None);
        // Twice, while nobody read.
        place.send_replace(known(&[("b", "http://b:1"), ("c", "http://c:1")]));
        place.send_replace(known(&[("b", "http://b:2"), ("d", "http://d:1")]));
        assert_eq!(told(), Some(Sighting::Gone { node: "a".parse().unwrap() }));
        assert_eq!(told(), Some(seen("b", "http://b:2")));
        assert_eq!(told(), Some(seen("d", "http://d:1")));
        assert_eq!(told(), None);
        drop(place);
        assert_eq!(stream.next().now_or_never(), Some(None), "it ends with the place");
    }
}
