//! What can be asked of a node, as plain calls. The gRPC service and `wasmatrix run` both stand on these.
//!
//! | module | which calls |
//! |---|---|
//! | here | those that look, and those about grants |
//! | `starting` | the way in: start |
//! | `ending` | the ways out: stop, remove, fence, shutdown |
//! | `describing` | the node itself and its providers |

mod describing;
mod ending;
mod starting;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
};

use futures::Stream;
use tokio::sync::watch;
use wasmatrix_executor_api::{Artifact, Executor};
use wasmatrix_facts::{Facts, Watched};
use wasmatrix_model::{
    Clock, Digest, ErrorCode, FactKind, Failure, Grant, Grants, InstanceName, InstanceStatus, Labels,
    LogRecord, NodeId, Timestamp, failure::Invalid,
};

use crate::{
    artifacts::Artifacts,
    changes::{self, Changed},
    instance::Instance,
    metrics::Metrics,
    provision::Provision,
    registry::Registry,
};

/// A node. Cheap to clone; all clones are the same node. [`Agent::shutdown`] ends it.
#[derive(Clone)]
pub struct Agent(pub(crate) Arc<Node>);

/// What a node is made of.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) address: String,
    pub(crate) labels: Labels,
    /// The machine's memory, in bytes; 0: not known.
    pub(crate) memory_bytes_total: u64,
    pub(crate) started_at: Timestamp,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) executors: Vec<Arc<dyn Executor>>,
    pub(crate) provision: Arc<Provision>,
    pub(crate) registry: Registry,
    pub(crate) artifacts: Artifacts,
    pub(crate) facts: Arc<Facts>,
    pub(crate) metrics: Arc<Metrics>,
    /// It was told to take no new instances. The control plane obeys it; here it is remembered.
    pub(crate) cordoned: AtomicBool,
    /// How often what the node says of itself changed.
    pub(crate) said: watch::Sender<u64>,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("node", &self.0.id).finish_non_exhaustive()
    }
}

impl Agent {
    pub(crate) fn new(node: Node) -> Self {
        node.facts.record(FactKind::NodeStarted { version: env!("CARGO_PKG_VERSION").to_owned() });
        Self(Arc::new(node))
    }

    /// An instance as it is now, by name or id.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, instance: &str) -> Result<InstanceStatus, Failure> {
        Ok(self.find(instance)?.status())
    }

    /// Waits until an instance has ended for good: nothing runs and nothing will.
    ///
    /// # Errors
    /// There is none.
    pub async fn wait(&self, instance: &str) -> Result<InstanceStatus, Failure> {
        let instance = self.find(instance)?;
        let mut state = instance.state();
        // The sender lives in the instance, which we hold.
        let _ = state.wait_for(|state| state.is_final()).await;
        Ok(instance.status())
    }

    /// Up to `count` instances in the order of their names, those after `after`.
    pub fn list(&self, after: Option<&InstanceName>, count: usize) -> Vec<InstanceStatus> {
        self.statuses(after, count).collect()
    }

    /// As [`Agent::list`], each status made when it is asked for: a spec may have megabytes.
    pub(crate) fn statuses(
        &self,
        after: Option<&InstanceName>,
        count: usize,
    ) -> impl Iterator<Item = InstanceStatus> + use<> {
        self.0.registry.page(after, count).into_iter().map(|instance| instance.status())
    }

    /// Every instance as it is now, then each change as it happens, for as long as it is polled. With the token of an
    /// earlier stream of this run of the agent, only what changed since; with any other, a [`changes::Change::Reset`]
    /// comes first. Nothing that is changed waits for a reader: one that is slow is told of fewer steps between, and of
    /// every last one.
    pub fn watch(&self, token: &str) -> impl Stream<Item = Changed> + use<> {
        changes::watch(self.clone(), |agent: &Self| &agent.0.registry, self.run(), token)
    }

    /// The artifact of an instance that may be restarted elsewhere.
    ///
    /// # Errors
    /// No such instance that is listed here has it.
    pub fn artifact(&self, digest: Digest) -> Result<Artifact, Failure> {
        let kept = self.0.artifacts.get(digest).map(|kept| kept.artifact().clone());
        kept.ok_or_else(|| {
            let message = format!(
                "no instance on node {} has the artifact {digest} and may be restarted elsewhere: only of those the                  artifact is kept",
                self.0.id
            );
            self.failure(ErrorCode::InstanceNotFound, message).with("digest", digest.to_string())
        })
    }

    /// Grants all of `grants` or none; in force at the instance's next call. Gives all grants that are in force.
    ///
    /// # Errors
    /// There is no such instance, or it would hold too many.
    pub fn assign(&self, instance: &str, grants: &[Grant]) -> Result<Grants, Failure> {
        let instance = self.find(instance)?;
        let record = |grant: &Grant| {
            self.0
                .facts
                .record(FactKind::GrantAssigned { instance: instance.subject(), grant: grant.clone() });
        };
        instance.assign(grants, record).map_err(|invalid| self.invalid(&invalid))
    }

    /// Takes all of `grants` away or none; the instance's next call is decided without them. Gives those left.
    ///
    /// # Errors
    /// There is no such instance, or it does not hold one of them to the letter.
    pub fn revoke(&self, instance: &str, grants: &[Grant]) -> Result<Grants, Failure> {
        let instance = self.find(instance)?;
        let record = |grant: &Grant| {
            self.0
                .facts
                .record(FactKind::GrantRevoked { instance: instance.subject(), grant: grant.clone() });
        };
        instance.revoke(grants, record).map_err(|missing| {
            let held: Vec<String> = instance.grants().iter().map(ToString::to_string).collect();
            let held = if held.is_empty() { "nothing".to_owned() } else { held.join(", ") };
            let message = format!("`{}` does not hold {missing}; it holds {held}", instance.spec.name);
            self.failure(ErrorCode::CapabilityNotFound, message).with("grant", missing.to_string())
        })
    }

    /// The lines an instance said; see [`crate::logs::Log::read`].
    ///
    /// # Errors
    /// There is none of that name or id.
    pub fn logs(
        &self,
        instance: &str,
        after: u64,
        tail: Option<u32>,
        follow: bool,
    ) -> Result<impl Stream<Item = Arc<LogRecord>> + use<>, Failure> {
        Ok(self.find(instance)?.log.read(after, tail, follow))
    }

    /// What happened on this node; see [`Facts::watch`].
    ///
    /// # Errors
    /// As [`Facts::watch`].
    pub fn facts(
        &self,
        token: &str,
        follow: bool,
    ) -> Result<impl Stream<Item = Result<Watched, Failure>> + use<>, Failure> {
        self.0.facts.watch(token, follow)
    }

    /// The node's counts in the OpenMetrics text format.
    pub fn metrics(&self) -> String {
        let instances = self.0.registry.page(None, usize::MAX);
        self.0.metrics.encode(instances.iter().map(|instance| instance.state().borrow().phase))
    }

    fn find(&self, instance: &str) -> Result<Arc<Instance>, Failure> {
        self.0.registry.find(instance).ok_or_else(|| {
            let shown: String = instance.chars().take(80).collect();
            let message = format!("no instance is called `{shown}` on node {}", self.0.id);
            self.failure(ErrorCode::InstanceNotFound, message).with("instance", shown)
        })
    }

    fn invalid(&self, invalid: &Invalid) -> Failure {
        Failure::invalid(invalid, self.0.clock.now())
    }

    pub(crate) fn failure(&self, code: ErrorCode, message: impl Into<String>) -> Failure {
        Failure::new(code, message, self.0.clock.now())
    }

    /// The time of day as this node has it.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }
}
