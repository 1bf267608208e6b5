//! The way into a node: what a start needs, and why it may be refused.

use std::sync::Arc;

use wasmatrix_executor_api::{Artifact, Console, Executor};
use wasmatrix_model::{
    ErrorCode, ExecutorKind, ExitCause, FactKind, Failure, InstanceName, InstanceSpec, InstanceStatus,
    OnNodeLoss, Phase, failure::Invalid,
};
use wasmatrix_wire::StartRequest;

use crate::{
    Agent,
    artifacts::{Kept, NoRoom},
    driver::{Driver, Program, Telling},
    gate::Gate,
    instance::{Instance, Origin},
    logs::Log,
    registry::Refusal,
    restart::Restarts,
};

/// What is to be run, and the copy of it that is kept for another node.
struct Brought {
    program: Program,
    kept: Option<Arc<Kept>>,
}

impl Agent {
    /// Starts an instance and waits until its first run has begun. `artifact` may be left out when the node runs
    /// another instance of the same digest on the same executor. A request with the idempotency key of an instance
    /// that is listed starts none, and answers as the start of that one did.
    ///
    /// The start goes on if the future is dropped.
    ///
    /// # Errors
    /// The spec breaks a rule or is another than the one that came with the same key, the name is taken, the node is
    /// full, the artifact is missing or is not the one of the digest: nothing is listed. Or the start failed: then the
    /// instance is listed as crashed, with the same reason.
    pub async fn start(
        &self,
        request: impl Into<StartRequest>,
        artifact: Option<Artifact>,
    ) -> Result<InstanceStatus, Failure> {
        self.start_on(request.into(), artifact, None).await
    }

    /// Starts an instance whose standard streams are `console` instead of its log.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub async fn start_attached(
        &self,
        request: impl Into<StartRequest>,
        artifact: Option<Artifact>,
        console: Arc<dyn Console>,
    ) -> Result<InstanceStatus, Failure> {
        self.start_on(request.into(), artifact, Some(console)).await
    }

    async fn start_on(
        &self,
        request: StartRequest,
        artifact: Option<Artifact>,
        attached: Option<Arc<dyn Console>>,
    ) -> Result<InstanceStatus, Failure> {
        request.spec.validate().map_err(|invalid| self.invalid(&invalid))?;
        let known = request.idempotency_key.as_deref().and_then(|key| self.0.registry.by_key(key));
        let instance = match known.filter(|known| !overtakes(&request, known)) {
            Some(known) => self.same(&request.spec, known)?,
            None => {
                let executor = self.executor(request.spec.executor)?;
                let brought = self.brought(&request.spec, artifact).await?;
                self.end_ancestor(&request).await?;
                self.admit(request, executor, brought, attached).await?
            }
        };
        self.begun(&instance).await
    }

    /// Ends the copy that is still listed of what is to be started in a later generation: a successor bears the name and
    /// the key of those before it, and is none of them. Whoever asks for it may not have had the copy ended yet.
    async fn end_ancestor(&self, request: &StartRequest) -> Result<(), Failure> {
        let holder = self.0.registry.find(request.spec.name.as_str());
        match (holder.filter(|holder| overtakes(request, holder)), &request.assignment) {
            (Some(stale), Some(assignment)) => self.fence(stale.id, assignment.generation, None).await,
            _ => Ok(()),
        }
    }

    /// The instance that a request with the same key started, if it is what this one asks for too.
    fn same(&self, spec: &InstanceSpec, known: Arc<Instance>) -> Result<Arc<Instance>, Failure> {
        if known.spec == *spec {
            return Ok(known);
        }
        let name = &known.spec.name;
        let problem = format!(
            "it came with the start of instance `{name}`, which is another or has another spec: take a new key for \
             another start"
        );
        Err(self.invalid(&Invalid::new("idempotency_key", problem)).with("instance", name.as_str()))
    }

    /// Waits until the first run has begun, or has failed to.
    async fn begun(&self, instance: &Instance) -> Result<InstanceStatus, Failure> {
        let mut state = instance.state();
        // The sender lives in the instance, which we hold.
        let begun = state.wait_for(|state| !matches!(state.phase, Phase::Pending | Phase::Starting)).await;
        if let Ok(state) = begun
            && state.phase != Phase::Running
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

    /// Finds what is to be run, in the request or on the node.
    async fn brought(&self, spec: &InstanceSpec, artifact: Option<Artifact>) -> Result<Brought, Failure> {
        let wanted_elsewhere = spec.placement.on_node_loss == OnNodeLoss::RestartElsewhere;
        let Some(artifact) = artifact else {
            let kept = self.0.artifacts.get(spec.digest);
            let other = self.0.registry.with_prepared(spec.digest, spec.executor);
            let prepared = other.and_then(|instance| instance.prepared()).map(Program::Prepared);
            let program =
                prepared.or_else(|| kept.as_ref().map(|kept| Program::Bytes(kept.artifact().clone())));
            return match program {
                // What another node may have to run, we must be able to hand out.
                Some(program) if kept.is_some() || !wanted_elsewhere => {
                    Ok(Brought { program, kept: kept.filter(|_| wanted_elsewhere) })
                }
                Some(_) | None => Err(self.missing(spec)),
            };
        };
        if artifact.digest != spec.digest {
            let problem =
                format!("the artifact that came along is {}, the spec says {}", artifact.digest, spec.digest);
            return Err(self.invalid(&Invalid::new("digest", problem)));
        }
        let kept = if wanted_elsewhere { Some(self.keep(&artifact).await?) } else { None };
        Ok(Brought { program: Program::Bytes(artifact), kept })
    }

    fn missing(&self, spec: &InstanceSpec) -> Failure {
        let problem = format!("node {} does not hold {}: send it along", self.0.id, spec.digest);
        self.invalid(&Invalid::new("digest", problem)).with("artifact", "missing")
    }

    async fn keep(&self, artifact: &Artifact) -> Result<Arc<Kept>, Failure> {
        let (node, artifact) = (self.clone(), artifact.clone());
        let kept = tokio::task::spawn_blocking(move || node.0.artifacts.keep(&artifact)).await;
        let kept = kept.map_err(|_| self.failure(ErrorCode::Internal, "the artifact could not be kept"))?;
        kept.map_err(|NoRoom { taken, max }| {
            let message = format!(
                "node {} keeps {taken} bytes of artifacts for instances that are restarted elsewhere, and may keep \
                 {max}: remove some of them, or start this one with on-node-loss = \"leave\"",
                self.0.id
            );
            self.failure(ErrorCode::ResourceExhausted, message).with("artifacts_bytes_max", max.to_string())
        })
    }

    /// Lists the instance and gives it its driver.
    async fn admit(
        &self,
        request: StartRequest,
        executor: Arc<dyn Executor>,
        brought: Brought,
        attached: Option<Arc<dyn Console>>,
    ) -> Result<Arc<Instance>, Failure> {
        let node = &*self.0;
        let log = Arc::new(Log::new(&request.spec.limits, Arc::clone(&node.clock)));
        let (instance, inbox) = Instance::new(Origin {
            request,
            node: node.id.clone(),
            created_at: node.clock.now(),
            log,
            journal: Arc::clone(node.registry.journal()),
            artifact: brought.kept,
        });
        let instance = Arc::new(instance);
        self.make_way_for(&instance.spec.name).await;
        match node.registry.admit(&instance) {
            Ok(()) => {}
            Err(Refusal::Known(known)) => return self.same(&instance.spec, known),
            Err(refusal) => return Err(self.refused(&refusal, &instance)),
        }
        self.record_creation(&instance);
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
            telling: Telling::new(),
            attached,
        };
        tokio::spawn(driver.drive(brought.program));
        Ok(instance)
    }

    fn record_creation(&self, instance: &Instance) {
        let facts = &self.0.facts;
        facts.record(FactKind::InstanceCreated {
            instance: instance.subject(),
            digest: instance.spec.digest,
            executor: instance.spec.executor,
            generation: instance.assignment.generation,
            predecessor: instance.assignment.predecessor,
        });
        for grant in &instance.grants() {
            facts.record(FactKind::GrantAssigned { instance: instance.subject(), grant: grant.clone() });
        }
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

    fn refused(&self, refusal: &Refusal, instance: &Instance) -> Failure {
        let (node, room) = (&self.0.id, self.0.registry.room());
        match refusal {
            Refusal::Known(other) => self.taken(&other.spec.name),
            Refusal::NameTaken => self.taken(&instance.spec.name),
            Refusal::Full => {
                let max = room.instances_max;
                let message = format!("node {node} lists {max} instances, the most it may: remove some");
                self.failure(ErrorCode::ResourceExhausted, message).with("instances_max", max.to_string())
            }
            Refusal::NoMemory(left) => {
                let (wanted, max) =
                    (instance.spec.limits.memory_bytes_max, room.memory_bytes_max.unwrap_or(u64::MAX));
                let message = format!(
                    "the memory limit of `{}` is {wanted} bytes, and the instances of node {node} leave {left} of \
                     {max}: stop some, or give it less",
                    instance.spec.name
                );
                self.failure(ErrorCode::ResourceExhausted, message).with("memory_bytes_max", max.to_string())
            }
            Refusal::Closed => {
                let message = format!("node {node} is shutting down: start it again when the node is back");
                self.failure(ErrorCode::NodeUnavailable, message)
            }
        }
    }

    fn taken(&self, name: &InstanceName) -> Failure {
        let problem =
            format!("an instance `{name}` is listed already: remove it first, or take another name");
        self.invalid(&Invalid::new("name", problem)).with("instance", name.as_str())
    }
}

/// Whether what is to be started comes after that instance, by the rule that the control plane goes by too: it names it
/// as its predecessor, or it is more than one generation later of the same thing, if that may be restarted elsewhere.
fn overtakes(request: &StartRequest, listed: &Instance) -> bool {
    let Some(assignment) = &request.assignment else { return false };
    let own = listed.assignment.generation;
    let is_distant = request.spec.placement.on_node_loss == OnNodeLoss::RestartElsewhere
        && request.spec == listed.spec
        && assignment.generation > own.saturating_add(1);
    assignment.generation > own && (assignment.predecessor == Some(listed.id) || is_distant)
}
