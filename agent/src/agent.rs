//! What can be asked of a node, as plain calls. The gRPC service and `wasmatrix run` both stand on these.

use std::{fmt, sync::Arc, time::Duration};

use futures::{Stream, future::join_all};
use tokio::sync::oneshot;
use wasmatrix_executor_api::{Artifact, Console, Executor};
use wasmatrix_facts::{Facts, Watched};
use wasmatrix_model::{
    Capability, Capacity, Clock, ErrorCode, ExecutorKind, ExecutorStatus, ExitCause, FactKind, Failure,
    Grant, Grants, InstanceName, InstanceSpec, InstanceStatus, Load, LogRecord, NodePhase, NodeStatus, Phase,
    ProviderStatus, Timestamp, failure::Invalid, placement::Labels,
};

use crate::{
    driver::{Driver, Program},
    gate::Gate,
    instance::{Instance, Order},
    logs::Log,
    metrics::Metrics,
    provision::Provision,
    registry::{Refusal, Registry},
    restart::Restarts,
};

/// How long the providers' calls in flight may take at the end.
const DRAIN: Duration = Duration::from_secs(5);

/// A node. Cheap to clone; all clones are the same node. [`Agent::shutdown`] ends it.
#[derive(Clone)]
pub struct Agent(Arc<Node>);

/// What a node is made of.
pub(crate) struct Node {
    pub(crate) id: wasmatrix_model::NodeId,
    pub(crate) started_at: Timestamp,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) executors: Vec<Arc<dyn Executor>>,
    pub(crate) provision: Arc<Provision>,
    pub(crate) registry: Registry,
    pub(crate) facts: Arc<Facts>,
    pub(crate) metrics: Arc<Metrics>,
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

    /// Starts an instance and waits until its first run has begun. `artifact` may be left out when the node runs
    /// another instance of the same digest on the same executor.
    ///
    /// The start goes on if the future is dropped.
    ///
    /// # Errors
    /// The spec breaks a rule, the name is taken, the node is full, the artifact is missing or is not the one of the
    /// digest: nothing is listed. Or the start failed: then the instance is listed as crashed, with the same reason.
    pub async fn start(
        &self,
        spec: InstanceSpec,
        artifact: Option<Artifact>,
    ) -> Result<InstanceStatus, Failure> {
        self.start_on(spec, artifact, None).await
    }

    /// Starts an instance whose standard streams are `console` instead of its log.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub async fn start_attached(
        &self,
        spec: InstanceSpec,
        artifact: Option<Artifact>,
        console: Arc<dyn Console>,
    ) -> Result<InstanceStatus, Failure> {
        self.start_on(spec, artifact, Some(console)).await
    }

    async fn start_on(
        &self,
        spec: InstanceSpec,
        artifact: Option<Artifact>,
        attached: Option<Arc<dyn Console>>,
    ) -> Result<InstanceStatus, Failure> {
        spec.validate().map_err(|invalid| self.invalid(&invalid))?;
        let executor = self.executor(spec.executor)?;
        let program = self.program(&spec, artifact)?;
        let instance = self.admit(spec, executor, program, attached).await?;
        let mut state = instance.state();
        // The sender lives in the instance, which we hold.
        let begun = state.wait_for(|state| !matches!(state.phase, Phase::Pending | Phase::Starting)).await;
        if let Ok(state) = begun
            && let Some(ExitCause::StartFailed { code, message }) =
                state.last_exit.as_ref().map(|exit| &exit.cause)
        {
            return Err(self
                .failure(*code, message.clone())
                .with("instance", instance.spec.name.as_str())
                .with("instance_id", instance.id.to_string()));
        }
        Ok(instance.status())
    }

    /// Finds the executor, or says why there is none.
    fn executor(&self, kind: ExecutorKind) -> Result<Arc<dyn Executor>, Failure> {
        let found = self.0.executors.iter().find(|executor| executor.kind() == kind);
        let unavailable = match found.map(|executor| (executor, &executor.capacity().unavailable)) {
            Some((executor, None)) => return Ok(Arc::clone(executor)),
            Some((_, Some(why))) => why.as_str(),
            None => "it has no such executor",
        };
        let message = format!("node {} can't run instances on {kind}: {unavailable}", self.0.id);
        Err(self.failure(ErrorCode::NodeUnavailable, message).with("executor", kind.as_str()))
    }

    fn program(&self, spec: &InstanceSpec, artifact: Option<Artifact>) -> Result<Program, Failure> {
        match artifact {
            Some(artifact) if artifact.digest == spec.digest => Ok(Program::Bytes(artifact)),
            Some(artifact) => {
                let problem = format!(
                    "the artifact that came along is {}, the spec says {}",
                    artifact.digest, spec.digest
                );
                Err(self.invalid(&Invalid::new("digest", problem)))
            }
            None => {
                let other = self.0.registry.with_prepared(spec.digest, spec.executor);
                let prepared = other.and_then(|instance| instance.prepared()).map(Program::Prepared);
                let problem = || {
                    Invalid::new(
                        "digest",
                        format!("node {} does not hold {}: send it along", self.0.id, spec.digest),
                    )
                };
                prepared.ok_or_else(|| self.invalid(&problem()).with("artifact", "missing"))
            }
        }
    }

    /// Lists the instance and gives it its driver.
    async fn admit(
        &self,
        spec: InstanceSpec,
        executor: Arc<dyn Executor>,
        program: Program,
        attached: Option<Arc<dyn Console>>,
    ) -> Result<Arc<Instance>, Failure> {
        let node = &*self.0;
        let log = Arc::new(Log::new(&spec.limits, Arc::clone(&node.clock)));
        let (instance, inbox) = Instance::new(spec, node.id.clone(), log, node.clock.now());
        let instance = Arc::new(instance);
        self.make_way_for(&instance.spec.name).await;
        node.registry.admit(&instance).map_err(|refusal| self.refused(&refusal, &instance.spec.name))?;
        node.facts.record(FactKind::InstanceCreated {
            instance: instance.subject(),
            digest: instance.spec.digest,
            executor: instance.spec.executor,
            generation: 1,
            predecessor: None,
        });
        for grant in &instance.spec.grants {
            node.facts.record(FactKind::GrantAssigned { instance: instance.subject(), grant: grant.clone() });
        }
        let gate = Gate::new(
            Arc::clone(&instance),
            Arc::clone(&node.provision),
            Arc::clone(&node.facts),
            Arc::clone(&node.metrics),
        );
        let driver = Driver {
            instance: Arc::clone(&instance),
            inbox,
            executor,
            gate: Arc::new(gate),
            facts: Arc::clone(&node.facts),
            metrics: Arc::clone(&node.metrics),
            clock: Arc::clone(&node.clock),
            restarts: Restarts::new(instance.spec.restart.clone()),
            attached,
        };
        tokio::spawn(driver.drive(program));
        Ok(instance)
    }

    /// An instance that never ran is in nobody's way: whoever mends what was wrong starts it again by the same name.
    async fn make_way_for(&self, name: &InstanceName) {
        let Some(holder) = self.0.registry.find(name.as_str()) else { return };
        let never_ran = {
            let state = holder.state();
            let state = state.borrow();
            state.is_final() && state.started_at.is_none()
        };
        if never_ran {
            // If somebody else removes it at this moment, that serves as well.
            let _ = self.remove(&holder.id.to_string()).await;
        }
    }

    fn refused(&self, refusal: &Refusal, name: &InstanceName) -> Failure {
        match refusal {
            Refusal::NameTaken => {
                let problem =
                    format!("an instance `{name}` is listed already: remove it first, or take another name");
                self.invalid(&Invalid::new("name", problem)).with("instance", name.as_str())
            }
            Refusal::Full => {
                let max = self.0.registry.instances_max();
                let message =
                    format!("node {} lists {max} instances, the most it may: remove some", self.0.id);
                self.failure(ErrorCode::ResourceExhausted, message).with("instances_max", max.to_string())
            }
            Refusal::Closed => {
                let message =
                    format!("node {} is shutting down: start it again when the node is back", self.0.id);
                self.failure(ErrorCode::NodeUnavailable, message)
            }
        }
    }

    /// Stops an instance, by name or id, and waits until it has ended. One that has ended stays as it is.
    ///
    /// # Errors
    /// There is none of that name or id.
    pub async fn stop(&self, instance: &str, grace: Duration) -> Result<InstanceStatus, Failure> {
        let instance = self.find(instance)?;
        let (done, ended) = oneshot::channel();
        if instance.order(Order::Stop { grace, done }).await {
            // A driver that goes away has ended too.
            let _ = ended.await;
        }
        Ok(instance.status())
    }

    /// Forgets an instance that has ended, by name or id.
    ///
    /// # Errors
    /// There is none, or it may still run.
    pub async fn remove(&self, instance: &str) -> Result<(), Failure> {
        let instance = self.find(instance)?;
        let (done, removed) = oneshot::channel();
        // A driver that takes no orders has been told to forget the instance before, by somebody who then lost interest.
        let gone = !instance.order(Order::Remove { done }).await || removed.await.unwrap_or(true);
        if !gone {
            let name = &instance.spec.name;
            let state = instance.state().borrow().clone();
            let why = match state.next_restart_at {
                Some(at) => format!("is {} and will be restarted at {at}", state.phase),
                None => format!("is {}", state.phase),
            };
            let message = format!("instance `{name}` {why}: stop it before you remove it");
            return Err(self
                .failure(ErrorCode::RestartPolicyViolation, message)
                .with("instance", name.as_str()));
        }
        if self.0.registry.forget(&instance) {
            self.0.facts.record(FactKind::InstanceRemoved { instance: instance.subject() });
        }
        Ok(())
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

    /// The lines an instance said; see [`Log::read`].
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

    /// Lets a provider answer again.
    ///
    /// # Errors
    /// The node has none of that capability.
    pub async fn start_provider(&self, capability: Capability) -> Result<ProviderStatus, Failure> {
        self.0.provision.start(capability).await.ok_or_else(|| self.no_provider(capability))
    }

    /// Lets a provider finish the calls in flight, for at most `drain`, and answer no more.
    ///
    /// # Errors
    /// The node has none of that capability.
    pub async fn stop_provider(
        &self,
        capability: Capability,
        drain: Duration,
    ) -> Result<ProviderStatus, Failure> {
        self.0.provision.stop(capability, drain).await.ok_or_else(|| self.no_provider(capability))
    }

    /// The node as it is now.
    pub fn describe(&self) -> NodeStatus {
        let node = &*self.0;
        let executors = node.executors.iter().map(|executor| ExecutorStatus {
            kind: executor.kind(),
            unavailable: executor.capacity().unavailable.clone(),
        });
        NodeStatus {
            id: node.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: node.started_at,
            executors: executors.collect(),
            providers: node.provision.statuses(),
            address: String::new(),
            labels: Labels::default(),
            capacity: Capacity { instances_max: node.registry.instances_max(), ..Capacity::default() },
            load: Load { instances: node.registry.len(), ..Load::default() },
            phase: NodePhase::Ready,
            cordoned: false,
            last_seen_at: None,
            reason: None,
        }
    }

    /// The node's counts in the OpenMetrics text format.
    pub fn metrics(&self) -> String {
        let instances = self.0.registry.page(None, usize::MAX);
        self.0.metrics.encode(instances.iter().map(|instance| instance.state().borrow().phase))
    }

    /// Takes no more instances, stops every one there is and then every provider. Instances stay listed, as stopped.
    pub async fn shutdown(&self, grace: Duration) {
        let instances = self.0.registry.close();
        self.0.facts.record(FactKind::NodeStopping);
        join_all(instances.iter().map(|instance| async {
            // It is in our hands, so it can be found; whether it is being removed meanwhile is all the same.
            let _ = self.stop(&instance.id.to_string(), grace).await;
        }))
        .await;
        self.0.provision.shutdown(DRAIN).await;
    }

    fn find(&self, instance: &str) -> Result<Arc<Instance>, Failure> {
        self.0.registry.find(instance).ok_or_else(|| {
            let shown: String = instance.chars().take(80).collect();
            let message = format!("no instance is called `{shown}` on node {}", self.0.id);
            self.failure(ErrorCode::InstanceNotFound, message).with("instance", shown)
        })
    }

    fn no_provider(&self, capability: Capability) -> Failure {
        let message = format!("node {} has no {capability} provider", self.0.id);
        self.failure(ErrorCode::CapabilityNotFound, message)
    }

    fn invalid(&self, invalid: &Invalid) -> Failure {
        Failure::invalid(invalid, self.0.clock.now())
    }

    fn failure(&self, code: ErrorCode, message: impl Into<String>) -> Failure {
        Failure::new(code, message, self.0.clock.now())
    }

    /// The time of day as this node has it.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }
}
