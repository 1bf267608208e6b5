//! Who takes an instance's place when its node is lost: a successor, once, under a higher generation; and the end of a
//! copy that comes back.
//!
//! ```text
//!             its node is lost, or its agent came back without it
//! instance ────────────────────────────────────────────────────────► begin ── started elsewhere ──► succeeded
//!                                                                      │                               │ it comes back
//!                                                                      └── no node would do ──► failed  ▼
//!                                                                                              (Unknown) fenced
//! ```
//!
//! Only what says `on-node-loss = "restart-elsewhere"` and was to go on running has a successor. There is no wish that
//! is pursued: it is tried once for each loss, and what came of it is a fact.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Semaphore;
use tonic::Request;
use wasmatrix_model::{FactKind, InstanceId, InstanceStatus, NodePhase, OnNodeLoss, Phase};
use wasmatrix_wire::{
    start::{Assignment, StartRequest},
    v1,
};

use crate::{
    cluster::Cluster,
    mirror::subject,
    nodes::Node,
    start::{self, Attempt, Source},
    view::Stale,
};

/// Successors that are started at one time.
const STARTS_MAX: usize = 8;
/// Nodes that are tried for one successor, if those before certainly did not take it.
const NODES_TRIED_MAX: usize = 3;
/// How long it is waited for word of a successor whose start was not answered.
const WORD_MAX: Duration = Duration::from_secs(60);
/// How long an agent may take to end a copy, and how often it is asked before its next word about it is awaited.
const FENCE_MAX: Duration = Duration::from_secs(10);
const FENCE_TRIES: u32 = 3;
const FENCE_PAUSE: Duration = Duration::from_secs(1);

/// Why an instance needs a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Nobody hears its node.
    NodeLost,
    /// Its agent was restarted and no longer has it.
    AgentRestarted,
}

/// Which instances are about to have successors, and which copies are being ended.
#[derive(Debug)]
pub(crate) struct Successions {
    inner: Mutex<Inner>,
    starts: Semaphore,
}

#[derive(Debug, Default)]
struct Inner {
    under_way: HashSet<InstanceId>,
    fencing: HashSet<InstanceId>,
}

impl Default for Successions {
    fn default() -> Self {
        Self { inner: Mutex::default(), starts: Semaphore::new(STARTS_MAX) }
    }
}

impl Successions {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the succession of that instance upon oneself. `false`: somebody has.
    pub(crate) fn claim(&self, id: InstanceId) -> bool {
        self.lock().under_way.insert(id)
    }

    /// Whether a successor of that instance is being started.
    pub(crate) fn is_under_way(&self, id: InstanceId) -> bool {
        self.lock().under_way.contains(&id)
    }

    /// The succession of that instance is done, one way or the other.
    pub(crate) fn done(&self, id: InstanceId) {
        self.lock().under_way.remove(&id);
    }
}

/// Whether an instance whose node is lost, or was, is to have a successor: its spec says so, and it was to go on.
pub(crate) fn deserves(status: &InstanceStatus) -> bool {
    let last_phase = status.unknown.as_ref().map_or(status.phase, |unknown| unknown.last_phase);
    let was_to_go_on = match last_phase {
        Phase::Pending | Phase::Starting | Phase::Running => true,
        Phase::Stopped | Phase::Crashed => status.next_restart_at.is_some(),
        // Somebody wanted its end, or nobody ever knew.
        Phase::Stopping | Phase::Unknown => false,
    };
    status.spec.placement.on_node_loss == OnNodeLoss::RestartElsewhere && was_to_go_on
}

/// Begins the succession of an instance, unless it has begun.
pub(crate) fn begin(cluster: &Arc<Cluster>, status: Arc<InstanceStatus>, cause: Cause) {
    if cluster.mirror.succeeded_by(status.id).is_some() || !cluster.successions.claim(status.id) {
        return;
    }
    // Before anybody else can have the name.
    let Some(hold) = cluster.starts.hold(&status.spec.name) else {
        failed(cluster, &status, "another instance of its name is being started");
        return;
    };
    let held = Arc::clone(cluster);
    cluster.spawn(async move {
        let Ok(_turn) = held.successions.starts.acquire().await else { return };
        if cause == Cause::NodeLost && is_back(&held, &status) {
            held.successions.done(status.id);
            return;
        }
        match successor(&held, &status).await {
            Ok(successor) => succeeded(&held, &status, &successor),
            Err(why) => failed(&held, &status, &why),
        }
        drop(hold);
    });
}

/// Whether the node that was lost is there again, so that its instances are what they are.
fn is_back(cluster: &Cluster, status: &InstanceStatus) -> bool {
    cluster.nodes.get(&status.node).is_some_and(|node| node.lock().phase != NodePhase::Lost)
}

pub(crate) fn failed(cluster: &Cluster, status: &InstanceStatus, why: &str) {
    cluster.successions.done(status.id);
    tracing::warn!(instance = %status.spec.name, why, "no successor could be started");
    cluster.record.record(FactKind::SuccessionFailed { instance: subject(status), reason: why.to_owned() });
}

/// Records that an instance has a successor, and sees to it that the old copy is no more.
fn succeeded(cluster: &Arc<Cluster>, status: &Arc<InstanceStatus>, successor: &InstanceStatus) {
    moved(cluster, status, successor);
    // Should its node have come back meanwhile.
    if let Some(copy) = cluster.mirror.get(status.id) {
        fence(cluster, &stale(&copy, successor.generation));
    }
}

/// Records that an instance has a successor. Its old copy has ended.
pub(crate) fn moved(cluster: &Arc<Cluster>, status: &InstanceStatus, successor: &InstanceStatus) {
    cluster.mirror.succeeded(status.id, successor.generation);
    cluster.successions.done(status.id);
    cluster.record.record(FactKind::InstanceSucceeded {
        instance: subject(status),
        successor: successor.id,
        node: successor.node.clone(),
        generation: successor.generation,
    });
    let why = format!(
        "it was on node {}, and is succeeded by {} on node {}",
        status.node, successor.id, successor.node
    );
    cluster.mirror.remember_why(status, &why);
}

/// Starts the successor, and gives it as it began.
pub(crate) async fn successor(
    cluster: &Arc<Cluster>,
    status: &Arc<InstanceStatus>,
) -> Result<InstanceStatus, String> {
    let request = StartRequest {
        spec: status.spec.clone(),
        idempotency_key: status.idempotency_key.clone(),
        assignment: Some(Assignment {
            generation: status.generation.saturating_add(1),
            predecessor: Some(status.id),
            // What was revoked stays so, and what was granted too, up to the last that is known.
            grants: Some(
                cluster.mirror.get(status.id).map_or_else(|| status.grants.clone(), |now| now.grants),
            ),
        }),
    };
    let artifact = cluster.artifacts.find(cluster, status.spec.digest, &status.node).await;
    let mut avoid = vec![status.node.clone()];
    loop {
        let place = start::place(cluster, &request.spec, &avoid).map_err(|failure| failure.message)?;
        let source = Source::of(&request, artifact.clone());
        match start::attempt(cluster, &place, &source).await {
            Attempt::Taken(instance) => {
                let begun = InstanceStatus::try_from(*instance).map_err(|invalid| invalid.to_string())?;
                if begun.predecessor != Some(status.id) {
                    return Err(format!(
                        "node {} answered with another instance: {}",
                        place.node.id, begun.id
                    ));
                }
                return Ok(begun);
            }
            Attempt::Refused(failure) => return Err(format!("node {}: {}", place.node.id, failure.message)),
            Attempt::NotTaken(failure) if avoid.len() < NODES_TRIED_MAX => {
                tracing::info!(node = %place.node.id, %failure, "a successor is tried elsewhere");
                avoid.push(place.node.id.clone());
            }
            Attempt::NotTaken(failure) => return Err(format!("node {}: {}", place.node.id, failure.message)),
            Attempt::Uncertain(failure) => {
                return word_of(cluster, status, &place.node)
                    .await
                    .ok_or_else(|| format!("node {}: {}", place.node.id, failure.message));
            }
        }
    }
}

/// Waits for word of the successor whose start was not answered. It has the name of the one before.
async fn word_of(cluster: &Cluster, of: &InstanceStatus, node: &Node) -> Option<InstanceStatus> {
    let (id, name) = (of.id, &of.spec.name);
    let is_successor = |status: &InstanceStatus| status.predecessor == Some(id);
    let mut changes = cluster.mirror.changes();
    let word = async {
        loop {
            changes.borrow_and_update();
            let there = cluster.mirror.holders(name).into_iter();
            if let Some(found) = there.filter(|status| status.node == node.id).find(is_successor) {
                return Some(found);
            }
            if node.lock().phase == NodePhase::Lost || changes.changed().await.is_err() {
                return None;
            }
        }
    };
    tokio::time::timeout(WORD_MAX, word).await.ok().flatten()
}

/// Learns from a fact what succeeded what: the successor itself may have been removed meanwhile.
pub(crate) fn hear(cluster: &Arc<Cluster>, fact: &FactKind) {
    let FactKind::InstanceCreated { predecessor: Some(id), generation, .. } = fact else { return };
    // Whoever began a succession sees it to its end.
    if cluster.successions.lock().under_way.contains(id) || cluster.mirror.succeeded_by(*id).is_some() {
        return;
    }
    cluster.mirror.succeeded(*id, *generation);
    if let Some(status) = cluster.mirror.get(*id) {
        fence(cluster, &stale(&status, *generation));
    }
}

fn stale(status: &InstanceStatus, later: u64) -> Stale {
    Stale {
        node: status.node.clone(),
        id: status.id,
        name: status.spec.name.clone(),
        generation: status.generation,
        later,
        twin: None,
    }
}

/// Ends a copy at once, because a later generation exists elsewhere. If its node can't be reached now, that is done when
/// the node tells of it again.
pub(crate) fn fence(cluster: &Arc<Cluster>, stale: &Stale) {
    let Stale { node, id, name, later, twin, .. } = stale;
    let (id, later) = (*id, *later);
    let twin = twin.map(|id| id.to_string()).unwrap_or_default();
    let Some(link) = cluster.nodes.get(node).and_then(|node| node.link()) else { return };
    {
        let mut inner = cluster.successions.lock();
        if inner.under_way.contains(&id) || !inner.fencing.insert(id) {
            return;
        }
    }
    tracing::warn!(instance = %name, %id, %node, generation = later, "a stale copy is ended");
    link.touch();
    let (held, node) = (Arc::clone(cluster), node.clone());
    cluster.spawn(async move {
        for _ in 0..FENCE_TRIES {
            let twin = twin.clone();
            let message = v1::FenceInstanceRequest { instance: id.to_string(), generation: later, twin };
            let mut request = Request::new(message);
            request.set_timeout(FENCE_MAX);
            let mut agent = link.agent.clone();
            let fenced = tokio::select! {
                () = link.gone.cancelled() => break,
                fenced = agent.fence_instance(request) => fenced,
            };
            match fenced {
                Ok(_) => {
                    held.mirror.removed(&node, link.run, id);
                    break;
                }
                Err(status) if status.code() == tonic::Code::NotFound => break,
                Err(status) => {
                    tracing::error!(%id, %node, error = status.message(), "a stale copy could not be ended");
                    tokio::time::sleep(FENCE_PAUSE).await;
                }
            }
        }
        held.successions.lock().fencing.remove(&id);
    });
}

#[cfg(test)]
mod tests;
