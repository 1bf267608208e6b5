//! The nodes that are known: what each said of itself, when it was last heard, and how to reach its agent.
//!
//! ```text
//!            attends                 silent               silent longer
//! (unknown) ─────────► Ready ───────────────► Suspect ───────────────► Lost ──── forgotten ──► (unknown)
//!                        ▲                       │                       │
//!                        └──────── heard ────────┴───────────────────────┘
//! ```
//!
//! A node has at most one session (the stream by which it attends) and one link (the task that follows its agent). Both
//! end with it. A table of values; what follows from a change is done by [`crate::cluster`].

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use wasmatrix_model::{Load, NodeId, NodePhase, NodeStatus, Registration, RunId, Timestamp};
use wasmatrix_wire::{MESSAGE_BYTES_MAX, protocol::stamped, v1::agent_client::AgentClient};

use crate::{
    placement::board::Offer,
    placing::Placing,
    route::{AgentChannel, Stamp},
};

/// Longest message that is taken from an agent: what it was sent to start an instance, and how that went.
const ANSWER_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;

/// The nodes, by id.
#[derive(Debug)]
pub(crate) struct Nodes {
    table: RwLock<BTreeMap<NodeId, Arc<Node>>>,
    nodes_max: usize,
    placing: Placing,
}

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    state: Mutex<State>,
    placing: Placing,
    /// Whether its agent holds it to be closed to new instances; see [`crate::cordon`].
    pub(crate) agent_cordoned: watch::Sender<bool>,
    /// Its agent may have to be told so.
    pub(crate) cordon_due: Notify,
}

/// What is known of a node, while nobody else can look. What placement asks about is told to it at the end.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
    node: &'a Node,
    state: MutexGuard<'a, State>,
    changed: bool,
}

/// What is known of a node now.
#[derive(Debug)]
pub(crate) struct State {
    /// What it last said of itself. `None`: it is expected, and has not attended yet.
    pub(crate) registration: Option<Arc<Registration>>,
    pub(crate) phase: NodePhase,
    /// Why it is not ready.
    pub(crate) reason: Option<String>,
    /// Whether it is closed to new instances.
    pub(crate) cordoned: bool,
    /// Somebody said so to this control plane: its word counts, and not the agent's.
    pub(crate) cordon_decided: bool,
    /// Since when it is silent, on the clock of the timetable.
    pub(crate) heard: Instant,
    pub(crate) last_seen_at: Option<Timestamp>,
    pub(crate) session: Option<Session>,
    pub(crate) link: Option<Arc<Link>>,
    /// It was given up: whoever still holds it holds nothing.
    pub(crate) forgotten: bool,
    /// What placement was last told.
    offered: Offer,
}

/// The stream by which a node attends.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) number: u64,
    pub(crate) run: RunId,
    /// Ends the stream.
    pub(crate) ended: CancellationToken,
}

/// The way to one run of a node's agent, and the task that follows it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) run: RunId,
    pub(crate) address: String,
    pub(crate) agent: AgentChannel,
    /// The node is lost, or another link has taken this one's place. Calls that are under way end.
    pub(crate) gone: CancellationToken,
    /// Whether all of the node's instances are known.
    pub(crate) synced: watch::Sender<bool>,
    /// Why its agent can't be asked at present.
    problem: Mutex<Option<Arc<str>>>,
    /// Something was asked of the agent whose facts have not been asked for since.
    touched: AtomicBool,
}

/// Why a node was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) nodes_max: usize,
}

impl Nodes {
    pub(crate) fn new(nodes_max: usize, placing: Placing) -> Self {
        Self { table: RwLock::default(), nodes_max, placing }
    }

    pub(crate) fn get(&self, id: &NodeId) -> Option<Arc<Node>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// The node of that id, which is made known if it is not.
    pub(crate) fn get_or_add(&self, id: &NodeId) -> Result<Arc<Node>, Full> {
        if let Some(node) = self.get(id) {
            return Ok(node);
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= self.nodes_max && !table.contains_key(id) {
            return Err(Full { nodes_max: self.nodes_max });
        }
        let added = table.entry(id.clone()).or_insert_with(|| {
            let node = Node::expected(id.clone(), self.placing.clone());
            let offer = node.lock().offered.clone();
            self.placing.lock().offer(id, offer);
            Arc::new(node)
        });
        Ok(Arc::clone(added))
    }

    /// Forgets a node, if it is that one.
    pub(crate) fn remove(&self, node: &Arc<Node>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.get(&node.id).is_some_and(|found| Arc::ptr_eq(found, node)) {
            table.remove(&node.id);
            self.placing.lock().withdraw(&node.id);
        }
    }

    /// All of them, in the order of their ids.
    pub(crate) fn all(&self) -> Vec<Arc<Node>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl Node {
    fn expected(id: NodeId, placing: Placing) -> Self {
        let mut state = State {
            registration: None,
            phase: NodePhase::Lost,
            reason: Some("it has not attended since this control plane began".to_owned()),
            cordoned: false,
            cordon_decided: false,
            heard: Instant::now(),
            last_seen_at: None,
            session: None,
            link: None,
            forgotten: false,
            offered: Offer { registration: None, phase: NodePhase::Lost, unreachable: None, cordoned: false },
        };
        state.offered = state.offer();
        let agent_cordoned = watch::Sender::new(false);
        Self { id, state: Mutex::new(state), placing, agent_cordoned, cordon_due: Notify::new() }
    }

    /// What is known of it. Never to be held over an await, nor while another node's is locked.
    pub(crate) fn lock(&self) -> Locked<'_> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { node: self, state, changed: false }
    }

    /// The link to its agent, if it is not lost.
    pub(crate) fn link(&self) -> Option<Arc<Link>> {
        self.lock().link.clone()
    }

    /// Notes why the agent at the end of that link can't be asked; `None`: it can.
    pub(crate) fn set_problem(&self, link: &Link, problem: Option<&str>) {
        let mut state = self.lock();
        *link.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem.map(Into::into);
        state.changed = true;
    }

    /// The node as users see it. `listed` is what is known to be there.
    pub(crate) fn status(&self, listed: Load) -> NodeStatus {
        let state = self.lock();
        let said = state.registration.as_deref();
        let problem = || state.link.as_ref().and_then(|link| link.problem()).map(|why| why.to_string());
        NodeStatus {
            id: self.id.clone(),
            version: said.map(|said| said.version.clone()).unwrap_or_default(),
            started_at: said.map_or(Timestamp::UNIX_EPOCH, |said| said.started_at),
            executors: said.map(|said| said.executors.clone()).unwrap_or_default(),
            providers: said.map(|said| said.providers.clone()).unwrap_or_default(),
            address: said.map(|said| said.address.clone()).unwrap_or_default(),
            labels: said.map(|said| said.labels.clone()).unwrap_or_default(),
            capacity: said.map(|said| said.capacity).unwrap_or_default(),
            load: listed,
            phase: state.phase,
            cordoned: state.cordoned,
            last_seen_at: state.last_seen_at,
            reason: state.reason.clone().or_else(problem),
        }
    }
}

impl State {
    /// What placement asks about, as of now.
    fn offer(&self) -> Offer {
        let unreachable = match &self.link {
            Some(link) => link.problem(),
            None => Some("there is no connection to its agent".into()),
        };
        Offer {
            registration: self.registration.clone(),
            phase: self.phase,
            unreachable,
            cordoned: self.cordoned,
        }
    }
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        self.changed = true;
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    /// Whatever was changed, placement knows of it before anybody else can look.
    fn drop(&mut self) {
        if !self.changed || self.state.forgotten {
            return;
        }
        let offer = self.state.offer();
        if !offer.is_same(&self.state.offered) {
            self.node.placing.lock().offer(&self.node.id, offer.clone());
            self.state.offered = offer;
        }
    }
}

impl Link {
    pub(crate) fn new(run: RunId, address: String, channel: Channel) -> Self {
        let agent = AgentClient::with_interceptor(channel, stamped as Stamp)
            .max_decoding_message_size(ANSWER_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Self {
            run,
            address,
            agent,
            gone: CancellationToken::new(),
            synced: watch::Sender::new(false),
            problem: Mutex::new(Some("its agent has not answered yet".into())),
            touched: AtomicBool::new(false),
        }
    }

    /// Something is asked of the agent of which there will be facts.
    pub(crate) fn touch(&self) {
        self.touched.store(true, Relaxed);
    }

    /// Whether something was asked since this was asked last.
    pub(crate) fn was_touched(&self) -> bool {
        self.touched.swap(false, Relaxed)
    }

    /// Why its agent can't be asked at present.
    pub(crate) fn problem(&self) -> Option<Arc<str>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
