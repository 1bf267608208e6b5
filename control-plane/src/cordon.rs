//! Closes a node to new instances, and has its agent remember that, so that it outlives this control plane.
//!
//! ```text
//!  user ── decide ──► what is known here ── differs from what the agent holds: told ──► its agent
//!                            ▲                                                             │
//!                            └───── registration, unless it was decided here ──────────────┘
//! ```
//!
//! It stands in two memories, and whichever begins anew learns it from the other. It is forgotten when both end at once.

use std::sync::Arc;

use futures::FutureExt as _;
use wasmatrix_model::FactKind;
use wasmatrix_wire::v1;

use crate::{
    cluster::Cluster,
    link::Pauses,
    nodes::{Link, Node, State},
    route::{self, AgentChannel},
};

/// Opens or closes a node to new instances, from now on. Its agent is told at once, if it can be asked, and otherwise
/// as soon as it can.
pub(crate) fn decide(cluster: &Cluster, node: &Node, cordoned: bool, by: &str) {
    let mut state = node.lock();
    state.cordon_decided = true;
    if state.cordoned != cordoned {
        state.cordoned = cordoned;
        let by = by.to_owned();
        cluster.record.record(FactKind::NodeCordoned { node: node.id.clone(), cordoned, by });
    }
    drop(state);
    node.cordon_due.notify_one();
}

/// Waits until the node's agent holds what was decided here; not for one that can't be asked, nor for long.
pub(crate) async fn told(node: &Node) {
    let (wanted, patience, gone) = {
        let state = node.lock();
        let Some(link) = &state.link else { return };
        (state.cordoned, route::patience(state.phase), link.gone.clone())
    };
    let mut held = node.agent_cordoned.subscribe();
    let holds = held.wait_for(|held| *held == wanted);
    let told = tokio::select! {
        () = gone.cancelled() => false,
        told = tokio::time::timeout(patience, holds) => told.is_ok(),
    };
    if !told {
        tracing::warn!(node = %node.id, "its agent was not told yet whether it is cordoned: until then it is known here alone");
    }
}

/// A node said what its agent holds.
pub(crate) fn heard(node: &Node, state: &mut State, cordoned: bool) {
    if !state.cordon_decided {
        state.cordoned = cordoned;
    }
    node.agent_cordoned.send_replace(cordoned);
    node.cordon_due.notify_one();
}

/// Tells the node's agent whatever it does not hold yet, for as long as the link is there.
pub(crate) async fn keep_told(cluster: &Arc<Cluster>, node: &Arc<Node>, link: &Arc<Link>) {
    let mut pauses = Pauses::default();
    loop {
        node.cordon_due.notified().await;
        loop {
            let cordoned = node.lock().cordoned;
            if *node.agent_cordoned.borrow() == cordoned {
                break;
            }
            let request = v1::CordonNodeRequest { node: node.id.to_string(), cordoned };
            let call =
                |mut agent: AgentChannel, request| async move { agent.cordon_node(request).await }.boxed();
            match route::quickly(cluster, node, link, call, request).await {
                Ok(_) => {
                    node.agent_cordoned.send_replace(cordoned);
                }
                Err(status) => {
                    tracing::debug!(node = %node.id, error = status.message(), "whether it is cordoned is told again");
                    pauses.wait(false).await;
                }
            }
        }
        pauses = Pauses::default();
    }
}
