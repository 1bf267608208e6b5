//! One run of a simulated agent, without its network: instances that run no code, in memory, with facts and revisions.
//!
//! What it refuses, and in which words and order it says what happened, is what the real agent does; what instances
//! do is drawn by lot, see [`Lives`]. A machine that is dropped leaves nothing behind, like a node that was restarted.
//!
//! | room | what is in it |
//! |---|---|
//! | [`acts`] | what can be asked of it: start, stop, remove, grants, fencing, providers |
//! | [`course`] | what happens by itself: starts that are done, runs that end, restarts |
//! | [`changes`] | what a watcher has not been told yet |

mod acts;
mod changes;
mod course;

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use wasmatrix_facts::{Facts, Ring};
use wasmatrix_model::{
    Capability, Capacity, Clock as _, Digest, ErrorCode, ExecutorKind, ExecutorStatus, FactKind, Failure,
    InstanceId, InstanceName, InstanceStatus, Labels, Load, LogRecord, LogStream, NodeId, NodePhase,
    NodeStatus, Phase, ProviderPhase, ProviderStatus, Registration, Subject, Timestamp, failure::Invalid,
};
use wasmatrix_wire::PROTOCOL;

use crate::{Lives, Seed, SimClock};
pub(crate) use changes::Change;
use changes::Changes;
use course::Agenda;

/// Lines of an instance's log that are kept.
const LOG_LINES_KEPT: usize = 32;

/// What a simulated node is.
#[derive(Clone, Debug)]
pub struct Traits {
    /// Its id.
    pub id: NodeId,
    /// What its operator says of it.
    pub labels: Labels,
    /// How much it takes.
    pub capacity: Capacity,
    /// What it can run.
    pub executors: Vec<ExecutorStatus>,
    /// What it offers to guests, running when it begins.
    pub providers: Vec<Capability>,
    /// How its instances live.
    pub lives: Lives,
    /// How many facts it keeps.
    pub facts_kept: usize,
    /// What is left to chance follows from this.
    pub seed: Seed,
}

impl Traits {
    /// A node with both executors, key-value storage, room for 1,000 instances, and instances that never end by
    /// themselves.
    pub fn new(id: NodeId, seed: Seed) -> Self {
        let executors = ExecutorKind::ALL.map(|kind| ExecutorStatus { kind, unavailable: None });
        Self {
            seed: seed.of(id.as_str()),
            id,
            labels: Labels::default(),
            capacity: Capacity { instances_max: 1000, memory_bytes_max: None, memory_bytes_total: 1 << 40 },
            executors: executors.to_vec(),
            providers: vec![Capability::Kv],
            lives: Lives::calm(),
            facts_kept: 10_000,
        }
    }
}

/// See the module's head.
#[derive(Debug)]
pub struct Machine {
    traits: Traits,
    clock: Arc<SimClock>,
    started_at: Timestamp,
    /// What happened, for whoever watches.
    pub facts: Arc<Facts>,
    inner: Mutex<Inner>,
    /// The latest revision.
    newest: watch::Sender<u64>,
    /// How often what the node says of itself changed.
    described: watch::Sender<u64>,
    /// Something was put on the agenda.
    planned: Notify,
    /// Beats that the control plane answered.
    beats_heard: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    by_name: BTreeMap<InstanceName, InstanceId>,
    instances: HashMap<InstanceId, Entry>,
    changes: Changes,
    agenda: Agenda,
    /// Those of instances that may be restarted elsewhere.
    artifacts: HashMap<Digest, Bytes>,
    providers: Vec<ProviderStatus>,
    cordoned: bool,
}

#[derive(Debug)]
struct Entry {
    status: InstanceStatus,
    /// Restarts in a row.
    in_a_row: u32,
    /// What was put on the agenda for it before this number is of the past.
    turn: u64,
    log: Arc<Ring<Arc<LogRecord>>>,
}

impl Entry {
    fn subject(&self) -> Subject {
        Subject { id: self.status.id, name: self.status.spec.name.clone() }
    }

    /// Whether it has ended and nothing will start it again.
    fn is_final(&self) -> bool {
        !self.status.phase.is_live() && self.status.next_restart_at.is_none()
    }

    fn says(&self, at: Timestamp, line: String) {
        let restart = self.status.restart_count;
        let record = |seq, _: Option<&Arc<LogRecord>>| {
            let (stream, context) = (LogStream::Host, String::new());
            Arc::new(LogRecord { seq, at, stream, restart, level: None, context, line })
        };
        self.log.push(0, record);
    }
}

impl Machine {
    /// A node that has just begun: a run of its own, and empty.
    pub fn new(traits: Traits, clock: Arc<SimClock>) -> Self {
        let started_at = clock.now();
        let facts = Facts::new(traits.id.clone(), clock.clone(), traits.facts_kept);
        facts.record(FactKind::NodeStarted { version: env!("CARGO_PKG_VERSION").to_owned() });
        let running = |capability: &Capability| {
            facts.record(FactKind::ProviderStarted { capability: *capability });
            ProviderStatus {
                capability: *capability,
                backend: "simulated".to_owned(),
                phase: ProviderPhase::Running,
            }
        };
        let inner = Inner {
            by_name: BTreeMap::new(),
            instances: HashMap::new(),
            changes: Changes::default(),
            agenda: Agenda::default(),
            artifacts: HashMap::new(),
            providers: traits.providers.iter().map(running).collect(),
            cordoned: false,
        };
        Self {
            started_at,
            facts: Arc::new(facts),
            inner: Mutex::new(inner),
            newest: watch::Sender::default(),
            described: watch::Sender::default(),
            planned: Notify::new(),
            beats_heard: AtomicU64::new(0),
            traits,
            clock,
        }
    }

    /// What the node is.
    pub const fn traits(&self) -> &Traits {
        &self.traits
    }

    /// The time as the node has it.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What it says of itself when it attends; `address` is where it listens.
    pub fn registration(&self, address: &str) -> Registration {
        let (providers, cordoned) = {
            let inner = self.lock();
            (inner.providers.clone(), inner.cordoned)
        };
        Registration {
            id: self.traits.id.clone(),
            run: self.facts.run(),
            address: address.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            started_at: self.started_at,
            labels: self.traits.labels.clone(),
            executors: self.traits.executors.clone(),
            providers,
            capacity: self.traits.capacity,
            cordoned,
        }
    }

    /// How much of it is taken.
    pub fn load(&self) -> Load {
        let inner = self.lock();
        let live = || inner.instances.values().filter(|entry| entry.status.phase.is_live());
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Load {
            instances: count(inner.instances.len()),
            instances_live: count(live().count()),
            memory_bytes_committed: live().map(|entry| entry.status.spec.limits.memory_bytes_max).sum(),
        }
    }

    /// The node as it describes itself.
    pub fn describe(&self, address: &str) -> NodeStatus {
        let registration = self.registration(address);
        NodeStatus {
            id: registration.id,
            version: registration.version,
            started_at: registration.started_at,
            executors: registration.executors,
            providers: registration.providers,
            address: registration.address,
            labels: registration.labels,
            capacity: registration.capacity,
            load: self.load(),
            phase: NodePhase::Ready,
            cordoned: registration.cordoned,
            last_seen_at: None,
            reason: None,
        }
    }

    /// Word of every change of [`Machine::registration`].
    pub fn described(&self) -> watch::Receiver<u64> {
        self.described.subscribe()
    }

    /// Word of every change of an instance.
    pub fn revised(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// How many of its beats the control plane answered.
    pub fn beats_heard(&self) -> u64 {
        self.beats_heard.load(Relaxed)
    }

    pub(crate) fn beat_heard(&self) {
        self.beats_heard.fetch_add(1, Relaxed);
    }

    /// An instance as it is now, by name or id.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, instance: &str) -> Result<InstanceStatus, Failure> {
        let inner = self.lock();
        let id = self.find(&inner, instance)?;
        inner.instances.get(&id).map(|entry| entry.status.clone()).ok_or_else(|| self.not_found(instance))
    }

    /// Up to `count` instances in the order of their names, those after `after`.
    pub fn list(&self, after: Option<&InstanceName>, count: usize) -> Vec<InstanceStatus> {
        let inner = self.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let page = inner.by_name.range((from, Bound::Unbounded)).take(count);
        page.filter_map(|(_, id)| inner.instances.get(id)).map(|entry| entry.status.clone()).collect()
    }

    /// The artifact of an instance that may be restarted elsewhere.
    ///
    /// # Errors
    /// No such instance has it.
    pub fn artifact(&self, digest: Digest) -> Result<Bytes, Failure> {
        self.lock().artifacts.get(&digest).cloned().ok_or_else(|| {
            let problem = format!("node {} keeps no artifact {digest}", self.traits.id);
            self.invalid(&Invalid::new("digest", problem)).with("artifact", "missing")
        })
    }

    /// The log of an instance.
    ///
    /// # Errors
    /// There is no such instance.
    pub fn log(&self, instance: &str) -> Result<Arc<Ring<Arc<LogRecord>>>, Failure> {
        let inner = self.lock();
        let id = self.find(&inner, instance)?;
        inner.instances.get(&id).map(|entry| Arc::clone(&entry.log)).ok_or_else(|| self.not_found(instance))
    }

    /// Waits until an instance is as `wanted`.
    ///
    /// # Errors
    /// It is listed no longer.
    pub async fn until(
        &self,
        id: InstanceId,
        wanted: impl Fn(&InstanceStatus) -> bool,
    ) -> Result<InstanceStatus, Failure> {
        let mut revised = self.newest.subscribe();
        loop {
            let status = self.get(&id.to_string())?;
            if wanted(&status) {
                return Ok(status);
            }
            // The sender lives in `self`.
            let _ = revised.changed().await;
        }
    }

    /// The revision up to which all is told in what follows, whether that is a fresh beginning, and the changes after
    /// `token`, up to `count`.
    pub(crate) fn news(&self, after: Option<u64>, count: usize) -> News {
        let inner = self.lock();
        let resumed = after.filter(|after| inner.changes.can_resume(*after));
        let is = |(revision, change)| match change {
            Change::Is(id) => {
                let status = inner.instances.get(&id).map(|entry| entry.status.clone());
                (revision, status.map_or(Told::Gone(id), |status| Told::Is(Box::new(status))))
            }
            Change::Gone(id) => (revision, Told::Gone(id)),
        };
        News {
            is_reset: resumed.is_none(),
            changes: inner.changes.after(resumed.unwrap_or(0), count).into_iter().map(is).collect(),
            revision: inner.changes.revision(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, inner: &Inner, instance: &str) -> Result<InstanceId, Failure> {
        let by_name = instance.parse().ok().and_then(|name: InstanceName| inner.by_name.get(&name).copied());
        let by_id = || instance.parse().ok().filter(|id: &InstanceId| inner.instances.contains_key(id));
        by_name.or_else(by_id).ok_or_else(|| self.not_found(instance))
    }

    fn not_found(&self, instance: &str) -> Failure {
        let shown: String = instance.chars().take(80).collect();
        let message = format!("no instance is called `{shown}` on node {}", self.traits.id);
        self.failure(ErrorCode::InstanceNotFound, message).with("instance", shown)
    }

    fn invalid(&self, invalid: &Invalid) -> Failure {
        Failure::invalid(invalid, self.now())
    }

    fn failure(&self, code: ErrorCode, message: impl Into<String>) -> Failure {
        Failure::new(code, message, self.now())
    }

    /// Changes an instance and notes it. Gives nothing if it is listed no longer.
    fn amend<T>(&self, inner: &mut Inner, id: InstanceId, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let entry = inner.instances.get_mut(&id)?;
        let before = entry.status.phase;
        let outcome = change(entry);
        let now = entry.status.phase;
        debug_assert!(before == now || before.can_become(now), "{before} can't become {now}");
        entry.status.revision = inner.changes.note(id);
        self.newest.send_replace(inner.changes.revision());
        Some(outcome)
    }
}

/// What a watcher of instances is told next.
#[derive(Debug)]
pub(crate) struct News {
    /// All that was told before is to be forgotten.
    pub(crate) is_reset: bool,
    /// Oldest first, each with its revision.
    pub(crate) changes: Vec<(u64, Told)>,
    /// The latest there is.
    pub(crate) revision: u64,
}

/// One change.
#[derive(Debug)]
pub(crate) enum Told {
    /// An instance is so.
    Is(Box<InstanceStatus>),
    /// It is listed no longer.
    Gone(InstanceId),
}

/// Whether a start has come to its first end: the run began, or could not.
pub(crate) const fn has_begun(status: &InstanceStatus) -> bool {
    !matches!(status.phase, Phase::Pending | Phase::Starting)
}
