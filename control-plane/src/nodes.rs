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
    collections::{BTreeMap, HashMap},
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
use wasmatrix_model::{
    InstanceName, InstanceSpec, Labels, Load, NodeId, NodePhase, NodeStatus, Registration, RunId, Timestamp,
};
use wasmatrix_wire::{MESSAGE_BYTES_MAX, protocol::stamped, v1::agent_client::AgentClient};

use crate::{
    placement::Candidate,
    route::{AgentChannel, Stamp},
};

/// The nodes, by id.
#[derive(Debug)]
pub(crate) struct Nodes {
    table: RwLock<BTreeMap<NodeId, Arc<Node>>>,
    nodes_max: usize,
}

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    state: Mutex<State>,
    /// Whether its agent holds it to be closed to new instances; see [`crate::cordon`].
    pub(crate) agent_cordoned: watch::Sender<bool>,
    /// Its agent may have to be told so.
    pub(crate) cordon_due: Notify,
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
    /// What starts under way will take.
    reserved: Load,
    reserved_groups: HashMap<InstanceName, u32>,
    /// It was given up: whoever still holds it holds nothing.
    pub(crate) forgotten: bool,
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
    pub(crate) fn new(nodes_max: usize) -> Self {
        Self { table: RwLock::default(), nodes_max }
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
        let added = table.entry(id.clone()).or_insert_with(|| Arc::new(Node::expected(id.clone())));
        Ok(Arc::clone(added))
    }

    /// Forgets a node, if it is that one.
    pub(crate) fn remove(&self, node: &Arc<Node>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.get(&node.id).is_some_and(|found| Arc::ptr_eq(found, node)) {
            table.remove(&node.id);
        }
    }

    /// All of them, in the order of their ids.
    pub(crate) fn all(&self) -> Vec<Arc<Node>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl Node {
    fn expected(id: NodeId) -> Self {
        let state = State {
            registration: None,
            phase: NodePhase::Lost,
            reason: Some("it has not attended since this control plane began".to_owned()),
            cordoned: false,
            cordon_decided: false,
            heard: Instant::now(),
            last_seen_at: None,
            session: None,
            link: None,
            reserved: Load::default(),
            reserved_groups: HashMap::new(),
            forgotten: false,
        };
        let agent_cordoned = watch::Sender::new(false);
        Self { id, state: Mutex::new(state), agent_cordoned, cordon_due: Notify::new() }
    }

    /// What is known of it. Never to be held over an await, nor while another node's is locked.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The link to its agent, if it is not lost.
    pub(crate) fn link(&self) -> Option<Arc<Link>> {
        self.lock().link.clone()
    }

    /// What placement asks about, as of now.
    pub(crate) fn glimpse(&self) -> Glimpse {
        let state = self.lock();
        let unreachable = match &state.link {
            Some(link) => link.problem(),
            None => Some("there is no connection to its agent".into()),
        };
        Glimpse {
            registration: state.registration.clone(),
            phase: state.phase,
            unreachable,
            cordoned: state.cordoned,
            reserved: state.reserved,
        }
    }

    /// How many starts of that group are under way here.
    pub(crate) fn reserved_members(&self, group: &InstanceName) -> u32 {
        self.lock().reserved_groups.get(group).copied().unwrap_or(0)
    }

    /// Counts an instance whose start is under way, until [`Node::release`].
    pub(crate) fn reserve(&self, spec: &InstanceSpec) {
        let mut state = self.lock();
        let bytes = spec.limits.memory_bytes_max;
        state.reserved.instances += 1;
        state.reserved.instances_live += 1;
        state.reserved.memory_bytes_committed = state.reserved.memory_bytes_committed.saturating_add(bytes);
        if let Some(group) = &spec.placement.group {
            *state.reserved_groups.entry(group.clone()).or_default() += 1;
        }
    }

    pub(crate) fn release(&self, spec: &InstanceSpec) {
        let mut state = self.lock();
        let bytes = spec.limits.memory_bytes_max;
        state.reserved.instances = state.reserved.instances.saturating_sub(1);
        state.reserved.instances_live = state.reserved.instances_live.saturating_sub(1);
        state.reserved.memory_bytes_committed = state.reserved.memory_bytes_committed.saturating_sub(bytes);
        if let Some(group) = &spec.placement.group
            && let Some(count) = state.reserved_groups.get_mut(group)
        {
            *count -= 1;
            if *count == 0 {
                state.reserved_groups.remove(group);
            }
        }
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

/// What placement asks about a node.
#[derive(Clone, Debug)]
pub(crate) struct Glimpse {
    registration: Option<Arc<Registration>>,
    phase: NodePhase,
    unreachable: Option<Arc<str>>,
    cordoned: bool,
    reserved: Load,
}

impl Glimpse {
    pub(crate) fn candidate<'a>(
        &'a self,
        node: &'a NodeId,
        no_labels: &'a Labels,
        listed: Load,
        group_members: u32,
    ) -> Candidate<'a> {
        let said = self.registration.as_deref();
        Candidate {
            node,
            phase: self.phase,
            unreachable: self.unreachable.as_deref(),
            cordoned: self.cordoned,
            labels: said.map_or(no_labels, |said| &said.labels),
            executors: said.map_or(&[], |said| &said.executors),
            providers: said.map_or(&[], |said| &said.providers),
            capacity: said.map(|said| said.capacity).unwrap_or_default(),
            load: Load {
                instances: listed.instances.saturating_add(self.reserved.instances),
                instances_live: listed.instances_live.saturating_add(self.reserved.instances_live),
                memory_bytes_committed: listed
                    .memory_bytes_committed
                    .saturating_add(self.reserved.memory_bytes_committed),
            },
            group_members,
        }
    }
}

impl Link {
    pub(crate) fn new(run: RunId, address: String, channel: Channel) -> Self {
        let agent = AgentClient::with_interceptor(channel, stamped as Stamp)
            .max_decoding_message_size(usize::MAX) // the agent is of this cluster, and pages are bounded by count
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

    pub(crate) fn set_problem(&self, problem: Option<&str>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem.map(Into::into);
    }
}
