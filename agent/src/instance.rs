//! What the agent keeps of one instance. Its driver alone changes the phase; everybody else reads, or sends an order.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::sync::{mpsc, oneshot, watch};
use wasmatrix_executor_api::{Meter, Prepared};
use wasmatrix_model::{
    Exit, Grant, Grants, InstanceId, InstanceSpec, InstanceStatus, NodeId, Permission, Phase, Subject,
    Timestamp, Usage, failure::Invalid, grant::Uncovered,
};
use wasmatrix_wire::{Assignment, StartRequest};

use crate::{artifacts::Kept, changes::Journal, logs::Log};

/// Orders that wait for a driver; more are refused until it has taken some.
pub(crate) const INBOX_ORDERS_MAX: usize = 16;

/// What can be asked of a driver.
#[derive(Debug)]
pub(crate) enum Order {
    /// End the run, or the wait for the next, and answer when it has ended.
    Stop {
        /// For host calls in flight.
        grace: std::time::Duration,
        /// Answered when the instance has ended.
        done: oneshot::Sender<()>,
    },
    /// Forget the instance and end the driver, if nothing runs and nothing will.
    Remove {
        /// Whether it was forgotten.
        done: oneshot::Sender<bool>,
    },
}

/// One instance, from its acceptance to its removal.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) spec: InstanceSpec,
    pub(crate) assignment: Assignment,
    pub(crate) log: Arc<Log>,
    idempotency_key: Option<String>,
    created_at: Timestamp,
    node: NodeId,
    journal: Arc<Journal>,
    /// Its artifact, if another node may have to run it one day.
    _artifact: Option<Arc<Kept>>,
    grants: RwLock<Grants>,
    state: watch::Sender<State>,
    orders: mpsc::Sender<Order>,
    calls_allowed: AtomicU64,
    calls_denied: AtomicU64,
    runs: RwLock<Runs>,
}

/// What changes as the instance lives. Written by its driver alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) last_exit: Option<Exit>,
    pub(crate) restart_count: u32,
    pub(crate) next_restart_at: Option<Timestamp>,
    /// Of its last change.
    pub(crate) revision: u64,
}

/// What an instance begins with.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) request: StartRequest,
    pub(crate) node: NodeId,
    pub(crate) created_at: Timestamp,
    pub(crate) log: Arc<Log>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) artifact: Option<Arc<Kept>>,
}

impl State {
    /// Whether it has ended for good: nothing runs and nothing will, unless somebody starts a new instance.
    pub(crate) const fn is_final(&self) -> bool {
        !self.phase.is_live() && self.next_restart_at.is_none()
    }
}

/// What past runs left and the present one shows.
#[derive(Debug, Default)]
struct Runs {
    prepared: Option<Prepared>,
    meter: Option<Arc<Meter>>,
    past: Usage,
}

impl Instance {
    /// A new instance, pending, and the orders that its driver is to take.
    pub(crate) fn new(origin: Origin) -> (Self, mpsc::Receiver<Order>) {
        let (orders, inbox) = mpsc::channel(INBOX_ORDERS_MAX);
        let state = State {
            phase: Phase::Pending,
            started_at: None,
            last_exit: None,
            restart_count: 0,
            next_restart_at: None,
            revision: 0,
        };
        let StartRequest { spec, idempotency_key, assignment } = origin.request;
        let assignment = assignment.unwrap_or_default();
        let instance = Self {
            id: InstanceId::generate(),
            grants: RwLock::new(assignment.grants.clone().unwrap_or_else(|| spec.grants.clone())),
            spec,
            assignment,
            idempotency_key,
            log: origin.log,
            created_at: origin.created_at,
            node: origin.node,
            journal: origin.journal,
            _artifact: origin.artifact,
            state: watch::Sender::new(state),
            orders,
            calls_allowed: AtomicU64::new(0),
            calls_denied: AtomicU64::new(0),
            runs: RwLock::default(),
        };
        (instance, inbox)
    }

    /// Its name in a fact.
    pub(crate) fn subject(&self) -> Subject {
        Subject { id: self.id, name: self.spec.name.clone() }
    }

    /// Whether the grants in force now cover what is needed.
    pub(crate) fn permit(&self, needed: &Permission<'_>) -> Result<(), Uncovered> {
        self.grants.read().unwrap_or_else(PoisonError::into_inner).permit(needed)
    }

    /// The grants in force now.
    pub(crate) fn grants(&self) -> Grants {
        self.grants.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds all of `grants` or none, and tells `record` of each that is new, in order with every other change.
    pub(crate) fn assign(&self, grants: &[Grant], mut record: impl FnMut(&Grant)) -> Result<Grants, Invalid> {
        let mut held = self.grants.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = held.clone();
        let mut added = Vec::new();
        for grant in grants {
            if changed.assign(grant.clone())? {
                added.push(grant);
            }
        }
        *held = changed.clone();
        added.iter().copied().for_each(&mut record);
        if !added.is_empty() {
            self.amend(|_| {});
        }
        Ok(changed)
    }

    /// Takes all of `grants` away or none, and tells `record` of each. The one that is not held is the error.
    pub(crate) fn revoke(&self, grants: &[Grant], mut record: impl FnMut(&Grant)) -> Result<Grants, Grant> {
        let mut held = self.grants.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = held.clone();
        for grant in grants {
            if !changed.revoke(grant) {
                return Err(grant.clone());
            }
        }
        *held = changed.clone();
        grants.iter().for_each(&mut record);
        self.amend(|_| {});
        Ok(changed)
    }

    /// Counts a capability call.
    pub(crate) fn count_call(&self, allowed: bool) {
        let counter = if allowed { &self.calls_allowed } else { &self.calls_denied };
        counter.fetch_add(1, Relaxed);
    }

    /// Its state now, and word of every change.
    pub(crate) fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Takes a step of its life. The driver's alone.
    pub(crate) fn step(&self, phase: Phase, change: impl FnOnce(&mut State)) {
        self.state.send_modify(|state| {
            debug_assert!(state.phase.can_become(phase), "{:?} can't become {phase:?}", state.phase);
            if !state.phase.can_become(phase) {
                tracing::error!(instance = %self.id, from = %state.phase, to = %phase, "an illegal step was taken");
            }
            state.phase = phase;
            change(state);
            self.note(state);
        });
    }

    /// Changes what is not the phase.
    pub(crate) fn amend(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(|state| {
            change(state);
            self.note(state);
        });
    }

    /// It is listed from now on. The registry's alone.
    pub(crate) fn listed(&self) {
        self.state.send_modify(|state| state.revision = self.journal.listed(self.id));
    }

    /// Tells those who follow that something has changed: under the state's lock, so that nobody sees the revision
    /// without the change.
    fn note(&self, state: &mut State) {
        if let Some(revision) = self.journal.changed(self.id) {
            state.revision = revision;
        }
    }

    /// Where it is in its life.
    pub(crate) fn phase(&self) -> Phase {
        self.state.borrow().phase
    }

    /// Whether it has ended for good.
    pub(crate) fn is_final(&self) -> bool {
        self.state.borrow().is_final()
    }

    /// The key of the request that started it, if it had one.
    pub(crate) fn idempotency_key(&self) -> Option<&str> {
        self.idempotency_key.as_deref()
    }

    /// Remembers what its artifact was made into, so that another instance of it need not bring the bytes.
    pub(crate) fn remember(&self, prepared: Prepared) {
        self.runs.write().unwrap_or_else(PoisonError::into_inner).prepared = Some(prepared);
    }

    /// What its artifact was made into.
    pub(crate) fn prepared(&self) -> Option<Prepared> {
        self.runs.read().unwrap_or_else(PoisonError::into_inner).prepared.clone()
    }

    /// A run began, and shows what it uses on this meter.
    pub(crate) fn run_began(&self, meter: Arc<Meter>) {
        self.runs.write().unwrap_or_else(PoisonError::into_inner).meter = Some(meter);
    }

    /// The run ended; what it used is added to the past.
    pub(crate) fn run_ended(&self) {
        let mut runs = self.runs.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = runs.meter.take() {
            let used = meter.usage();
            runs.past.cpu_time += used.cpu_time;
            runs.past.memory_bytes_peak = runs.past.memory_bytes_peak.max(used.memory_bytes_peak);
        }
    }

    /// All that is known of it now.
    pub(crate) fn status(&self) -> InstanceStatus {
        let state = self.state.borrow().clone();
        InstanceStatus {
            id: self.id,
            node: self.node.clone(),
            spec: self.spec.clone(),
            phase: state.phase,
            grants: self.grants(),
            created_at: self.created_at,
            started_at: state.started_at,
            last_exit: state.last_exit,
            restart_count: state.restart_count,
            next_restart_at: state.next_restart_at,
            usage: self.usage(),
            generation: self.assignment.generation,
            predecessor: self.assignment.predecessor,
            idempotency_key: self.idempotency_key.clone(),
            revision: state.revision,
            unknown: None,
        }
    }

    /// Gives the driver an order. `false`: the driver is gone, the instance removed.
    pub(crate) async fn order(&self, order: Order) -> bool {
        self.orders.send(order).await.is_ok()
    }

    fn usage(&self) -> Usage {
        let runs = self.runs.read().unwrap_or_else(PoisonError::into_inner);
        let present = runs.meter.as_ref().map(|meter| meter.usage()).unwrap_or_default();
        Usage {
            memory_bytes: present.memory_bytes,
            memory_bytes_peak: runs.past.memory_bytes_peak.max(present.memory_bytes_peak),
            cpu_time: runs.past.cpu_time + present.cpu_time,
            calls_allowed: self.calls_allowed.load(Relaxed),
            calls_denied: self.calls_denied.load(Relaxed),
        }
    }
}
