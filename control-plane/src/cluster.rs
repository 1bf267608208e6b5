//! All that one control plane knows, and what follows when a node is heard, falls silent, or is given up.
//!
//! ```text
//!  attend ── admit, heard ──► Nodes ◄── sweep, by the timetable
//!                               │ a run, an address              │ lost
//!                               ▼                                ▼
//!                             link ── what is there ──► Mirror ──┴─► successions
//!                               └──── what happened ──► Record
//! ```
//!
//! What follows from silence is in [`silence`].
//!
//! Locks: a node's before the mirror's before the record's, placement's board within any, none over an await.

mod silence;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::StreamExt as _;
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::Channel;
use wasmatrix_model::{
    Clock, ErrorCode, FactKind, Failure, NodeId, NodePhase, Registration, failure::Invalid,
};

use crate::{
    access::Refusals,
    artifacts::Artifacts,
    cordon,
    dial::Dial,
    discovery::{Discovery, Sighting},
    enroll::Joining,
    link,
    liveness::Timetable,
    mirror::{Mirror, subject},
    nodes::{Link, Node, Nodes, Session, State},
    record::Record,
    start::Starts,
    succession::Successions,
};

/// How long the nodes of this process may take to attend, before starts are refused for want of them.
const LOCAL_ATTENDANCE_MAX: Duration = Duration::from_secs(10);

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The node id of this control plane's own facts.
    pub(crate) own: NodeId,
    pub(crate) version: String,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) timetable: Timetable,
    pub(crate) nodes: Nodes,
    pub(crate) mirror: Mirror,
    pub(crate) record: Record,
    pub(crate) starts: Starts,
    pub(crate) artifacts: Artifacts,
    pub(crate) successions: Successions,
    pub(crate) dial: Arc<dyn Dial>,
    /// Nodes in this process.
    pub(crate) locals: BTreeMap<NodeId, Channel>,
    /// Whether what is not known here may be taken not to exist.
    pub(crate) settled: watch::Sender<bool>,
    pub(crate) sessions: AtomicU64,
    pub(crate) tasks: TaskTracker,
    pub(crate) refusals: Refusals,
    /// What signs certificates, and for whom. `None`: nobody can join by a token.
    pub(crate) joining: Option<Arc<Joining>>,
    /// Where else nodes are known.
    pub(crate) discovery: Option<Arc<dyn Discovery>>,
    /// Where they run, whoever asks for them: a node of this process attends from a thread of its own.
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) ending: CancellationToken,
}

/// By which way a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// A pipe within this process.
    InProcess,
    /// A socket.
    Network,
}

impl Cluster {
    pub(crate) fn failure(&self, code: ErrorCode, message: impl Into<String>) -> Failure {
        Failure::new(code, message, self.clock.now())
    }

    pub(crate) fn invalid(&self, field: &str, problem: impl Into<String>) -> Failure {
        Failure::invalid(&Invalid::new(field, problem), self.clock.now())
    }

    /// Runs `work` until it is done or the control plane ends.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let ending = self.ending.clone();
        let task = async move {
            tokio::select! {
                biased;
                () = ending.cancelled() => {}
                () = work => {}
            }
        };
        self.tasks.spawn_on(task, &self.runtime);
    }

    /// Begins a node's session, and makes it known if it is not.
    ///
    /// # Errors
    /// Its address can't be dialled, another agent attends for it, or there is no room for one more.
    pub(crate) fn admit(
        self: &Arc<Self>,
        registration: Registration,
    ) -> Result<(Arc<Node>, u64, CancellationToken), Failure> {
        let channel = self.channel(&registration).map_err(|why| self.invalid("registration.address", why))?;
        loop {
            let node = self.nodes.get_or_add(&registration.id).map_err(|full| {
                let max = full.nodes_max;
                let message =
                    format!("{max} nodes are known, the most there may be: forget some that are lost");
                self.failure(ErrorCode::ResourceExhausted, message).with("nodes_max", max.to_string())
            })?;
            let mut state = node.lock();
            if state.forgotten {
                continue;
            }
            if let Some(other) = &state.session
                && other.run != registration.run
                && state.phase == NodePhase::Ready
            {
                return Err(self.attended_already(&registration));
            }
            if let Some(before) = state.session.take() {
                before.ended.cancel();
            }
            let session = Session {
                number: self.sessions.fetch_add(1, Relaxed),
                run: registration.run,
                ended: self.ending.child_token(),
            };
            state.session = Some(session.clone());
            self.introduce(&node, &mut state, registration);
            self.hear(&node, &mut state, Some(channel));
            drop(state);
            return Ok((node, session.number, session.ended));
        }
    }

    fn attended_already(&self, registration: &Registration) -> Failure {
        let id = &registration.id;
        let message = format!(
            "another agent attends as node {id}: stop it, or give one of them another id with --node; if it is gone, this \
             one is taken in as soon as node {id} has been silent for {:?}",
            self.timetable.suspect_after
        );
        self.failure(ErrorCode::InvalidRequest, message).with("node", id.as_str())
    }

    /// Takes in what a node says of itself, and records it if it is news.
    fn introduce(&self, node: &Node, state: &mut State, registration: Registration) {
        let same = |before: &Arc<Registration>| {
            (before.run, &before.address, &before.version)
                == (registration.run, &registration.address, &registration.version)
        };
        if !state.registration.as_ref().is_some_and(same) {
            self.record.record(FactKind::NodeRegistered {
                node: registration.id.clone(),
                address: registration.address.clone(),
                version: registration.version.clone(),
            });
        }
        if let Some(discovery) = &self.discovery {
            discovery.publish(&registration);
        }
        cordon::heard(node, state, registration.cordoned);
        state.registration = Some(Arc::new(registration));
    }

    /// A node in session says something new of itself. `false`: it is not in that session, or speaks for another run.
    pub(crate) fn amend(
        self: &Arc<Self>,
        node: &Arc<Node>,
        session: u64,
        registration: Registration,
    ) -> bool {
        let Ok(channel) = self.channel(&registration) else { return false };
        let mut state = node.lock();
        if !state.session.as_ref().is_some_and(|now| now.number == session && now.run == registration.run) {
            return false;
        }
        self.introduce(node, &mut state, registration);
        self.hear(node, &mut state, Some(channel));
        true
    }

    /// A node's beat came.
    pub(crate) fn heard(self: &Arc<Self>, node: &Arc<Node>, session: u64) {
        let mut state = node.lock();
        if state.session.as_ref().is_some_and(|now| now.number == session) {
            self.hear(node, &mut state, None);
        }
    }

    /// A node's stream ended. Whether it is lost, the timetable says.
    pub(crate) fn left(&self, node: &Arc<Node>, session: u64) {
        let mut state = node.lock();
        if state.session.as_ref().is_some_and(|now| now.number == session) {
            state.session = None;
        }
    }

    /// The node is there: it is ready, and its agent is followed. `channel` is to where it says that its agent is now.
    fn hear(self: &Arc<Self>, node: &Arc<Node>, state: &mut State, channel: Option<Channel>) {
        let silent_for = state.heard.elapsed();
        let known = state.last_seen_at.is_some();
        state.heard = Instant::now();
        state.last_seen_at = Some(self.clock.now());
        if state.phase != NodePhase::Ready {
            state.phase = NodePhase::Ready;
            state.reason = None;
            if known {
                let reason = format!("heard again after {:.1} s", silent_for.as_secs_f64());
                self.phase_changed(node, NodePhase::Ready, reason);
            }
        }
        let Some(registration) = state.registration.clone() else { return };
        let stands = |link: &Arc<Link>| link.run == registration.run && link.address == registration.address;
        if state.link.as_ref().is_some_and(stands) {
            return;
        }
        let channel = match channel.map_or_else(|| self.channel(&registration), Ok) {
            Ok(channel) => channel,
            Err(why) => {
                state.reason = Some(why);
                return;
            }
        };
        if let Some(before) = state.link.take() {
            before.gone.cancel();
        }
        let link = Arc::new(Link::new(registration.run, registration.address.clone(), channel));
        state.link = Some(Arc::clone(&link));
        self.spawn(link::follow(Arc::clone(self), Arc::clone(node), link));
    }

    /// The way to the agent that is registered so.
    fn channel(&self, registration: &Registration) -> Result<Channel, String> {
        match self.locals.get(&registration.id) {
            Some(channel) if registration.address.is_empty() => Ok(channel.clone()),
            _ => self.dial.dial(&registration.id, &registration.address),
        }
    }

    fn phase_changed(&self, node: &Node, phase: NodePhase, reason: String) {
        self.record.record(FactKind::NodePhaseChanged { node: node.id.clone(), phase, reason });
    }

    /// Gives a lost node up, and what is unknown there with it.
    ///
    /// # Errors
    /// It is not lost.
    pub(crate) fn forget(&self, node: &Arc<Node>, by: &str) -> Result<(), Failure> {
        let mut state = node.lock();
        if state.phase != NodePhase::Lost || state.session.is_some() {
            let message = format!(
                "node {} is {}: only a lost node can be forgotten; drain it, stop its agent, and wait until it is lost",
                node.id, state.phase
            );
            return Err(self.failure(ErrorCode::InvalidRequest, message).with("node", node.id.as_str()));
        }
        state.forgotten = true;
        self.nodes.remove(node);
        for status in self.mirror.forget(&node.id).iter().filter(|status| status.unknown.is_some()) {
            let reason = format!("node {} was lost, and then forgotten by {by}", node.id);
            self.mirror.remember_why(status, &reason);
            self.record.record(FactKind::InstanceLost {
                instance: subject(status),
                node: node.id.clone(),
                reason,
            });
        }
        self.record.forget(&node.id);
        self.record.record(FactKind::NodeForgotten { node: node.id.clone(), by: by.to_owned() });
        Ok(())
    }

    /// Lists the nodes that are known elsewhere, so that one that does not come is seen to be missing.
    pub(crate) async fn discover(self: Arc<Self>, discovery: Arc<dyn Discovery>) {
        let mut sightings = discovery.watch();
        while let Some(sighting) = sightings.next().await {
            match sighting {
                Sighting::Seen { node, address } if node != self.own => {
                    let Ok(node) = self.nodes.get_or_add(&node) else { continue };
                    let mut state = node.lock();
                    if state.registration.is_none() {
                        let reason = "has not attended since this control plane began";
                        state.reason = Some(format!("it is said to be at {address}, and {reason}"));
                    }
                }
                Sighting::Seen { .. } => {}
                Sighting::Gone { node } => self.no_longer_expected(&node),
            }
        }
    }

    /// Drops a node that never came. One that did is known by itself.
    fn no_longer_expected(&self, id: &NodeId) {
        let Some(node) = self.nodes.get(id) else { return };
        let mut state = node.lock();
        if state.registration.is_none() && !self.locals.contains_key(id) {
            state.forgotten = true;
            self.nodes.remove(&node);
        }
    }

    /// Until then, an unknown name may be one that a node has not told yet.
    pub(crate) async fn settle(self: Arc<Self>, settle: Duration) {
        let patience = if self.locals.is_empty() { settle } else { settle.max(LOCAL_ATTENDANCE_MAX) };
        let known = async {
            if settle.is_zero() {
                self.until_synced(self.locals.keys()).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let _ = tokio::time::timeout(patience, known).await; // either will do
        self.settled.send_replace(true);
    }

    /// Waits until all that those nodes have is known.
    async fn until_synced(&self, nodes: impl Iterator<Item = &NodeId>) {
        let mut changes = self.mirror.changes();
        for id in nodes {
            let Ok(node) = self.nodes.get_or_add(id) else { continue };
            loop {
                changes.borrow_and_update();
                if node.link().is_some_and(|link| *link.synced.borrow()) {
                    break;
                }
                // Word of that comes as one of every change.
                if changes.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}
