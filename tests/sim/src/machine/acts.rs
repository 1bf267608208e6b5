//! What can be asked of a simulated node, decided as the real agent decides it.

use std::sync::Arc;

use bytes::Bytes;
use wasmatrix_facts::Ring;
use wasmatrix_model::{
    Capability, Digest, ErrorCode, Exit, ExitCause, FactKind, Failure, Grant, Grants, InstanceId,
    InstanceStatus, OnNodeLoss, Phase, ProviderPhase, ProviderStatus, Usage, failure::Invalid,
};
use wasmatrix_wire::StartRequest;

use super::{Entry, Inner, LOG_LINES_KEPT, Machine, course::Due};

impl Machine {
    /// Lists an instance and lets its start begin. A request with the key of a listed one gives that one.
    ///
    /// # Errors
    /// Nothing was listed, for the reason given.
    pub fn start(&self, request: StartRequest, artifact: Option<Bytes>) -> Result<InstanceId, Failure> {
        let StartRequest { spec, idempotency_key, assignment } = request;
        spec.validate().map_err(|invalid| self.invalid(&invalid))?;
        let mut inner = self.lock();
        let stale = inner.by_name.get(&spec.name).and_then(|id| inner.instances.get(id)).filter(|holder| {
            let (Some(now), status) = (&assignment, &holder.status) else { return false };
            let is_distant = spec.placement.on_node_loss == OnNodeLoss::RestartElsewhere
                && status.spec == spec
                && now.generation > status.generation.saturating_add(1);
            now.generation > status.generation && (now.predecessor == Some(status.id) || is_distant)
        });
        if let (Some(stale), Some(now)) = (stale.map(|stale| stale.status.id), &assignment) {
            self.end_stale(&mut inner, stale, now.generation);
        }
        if let Some(known) = idempotency_key.as_deref().and_then(|key| with_key(&inner, key)) {
            if known.spec == spec {
                return Ok(known.id);
            }
            let problem = "an instance with this key is listed, and its spec is another: take another key";
            return Err(self.invalid(&Invalid::new("idempotency_key", problem)));
        }
        self.check(&inner, spec.executor, spec.digest, artifact.as_ref())?;
        let holder = inner.by_name.get(&spec.name).and_then(|id| inner.instances.get(id));
        if let Some(holder) = holder {
            if !holder.is_final() || holder.status.started_at.is_some() {
                let name = &spec.name;
                let problem =
                    format!("an instance `{name}` is listed already: remove it first, or take another name");
                return Err(self.invalid(&Invalid::new("name", problem)).with("instance", name.as_str()));
            }
            let never_ran = holder.status.id;
            self.forget(&mut inner, never_ran, |instance| FactKind::InstanceRemoved { instance });
        }
        let max = self.traits.capacity.instances_max;
        if inner.instances.len() >= max as usize {
            let message =
                format!("node {} lists {max} instances, the most it may: remove some", self.traits.id);
            return Err(self
                .failure(ErrorCode::ResourceExhausted, message)
                .with("instances_max", max.to_string()));
        }
        if let Some(bytes) = artifact.filter(|_| spec.placement.on_node_loss == OnNodeLoss::RestartElsewhere)
        {
            inner.artifacts.insert(spec.digest, bytes);
        }
        let assignment = assignment.unwrap_or_default();
        let status = InstanceStatus {
            id: InstanceId::generate(),
            node: self.traits.id.clone(),
            phase: Phase::Pending,
            grants: assignment.grants.unwrap_or_else(|| spec.grants.clone()),
            created_at: self.now(),
            started_at: None,
            last_exit: None,
            restart_count: 0,
            next_restart_at: None,
            usage: Usage::default(),
            generation: assignment.generation,
            predecessor: assignment.predecessor,
            idempotency_key,
            revision: 0,
            unknown: None,
            spec,
        };
        Ok(self.admit(&mut inner, status))
    }

    fn admit(&self, inner: &mut Inner, status: InstanceStatus) -> InstanceId {
        let id = status.id;
        let log = Arc::new(Ring::new(LOG_LINES_KEPT, usize::MAX));
        let entry = Entry { status, in_a_row: 0, turn: 0, log };
        self.facts.record(FactKind::InstanceCreated {
            instance: entry.subject(),
            digest: entry.status.spec.digest,
            executor: entry.status.spec.executor,
            generation: entry.status.generation,
            predecessor: entry.status.predecessor,
        });
        for grant in &entry.status.grants {
            self.facts.record(FactKind::GrantAssigned { instance: entry.subject(), grant: grant.clone() });
        }
        inner.by_name.insert(entry.status.spec.name.clone(), id);
        inner.instances.insert(id, entry);
        self.begin_start(inner, id);
        id
    }

    fn check(
        &self,
        inner: &Inner,
        executor: wasmatrix_model::ExecutorKind,
        digest: Digest,
        artifact: Option<&Bytes>,
    ) -> Result<(), Failure> {
        let known = self.traits.executors.iter().find(|status| status.kind == executor);
        let why = known.map_or(Some("it has no such executor"), |status| status.unavailable.as_deref());
        if let Some(why) = why {
            let message = format!("node {} can't run instances on {executor}: {why}", self.traits.id);
            return Err(self
                .failure(ErrorCode::NodeUnavailable, message)
                .with("executor", executor.as_str()));
        }
        let Some(bytes) = artifact else {
            if inner.instances.values().any(|entry| entry.status.spec.digest == digest) {
                return Ok(());
            }
            let problem = format!("node {} does not hold {digest}: send it along", self.traits.id);
            return Err(self.invalid(&Invalid::new("digest", problem)).with("artifact", "missing"));
        };
        let came = Digest::of(bytes);
        if came == digest {
            return Ok(());
        }
        let problem = format!("the artifact that came along is {came}, the spec says {digest}");
        Err(self.invalid(&Invalid::new("digest", problem)))
    }

    /// Nothing if the start went well.
    ///
    /// # Errors
    /// Why it did not: the instance is listed as crashed.
    pub fn explain_failed_start(&self, status: &InstanceStatus) -> Result<(), Failure> {
        let Some(ExitCause::StartFailed { code, message }) =
            status.last_exit.as_ref().map(|exit| &exit.cause)
        else {
            return Ok(());
        };
        let failure = self.failure(*code, message.clone()).with("instance", status.spec.name.as_str());
        Err(failure.with("instance_id", status.id.to_string()))
    }

    /// Tells an instance to stop; [`Machine::until`] says when it has ended. One that has ended stays as it is.
    ///
    /// # Errors
    /// There is none.
    pub fn stop(&self, instance: &str) -> Result<InstanceId, Failure> {
        let mut inner = self.lock();
        let id = self.find(&inner, instance)?;
        let Some(entry) = inner.instances.get(&id) else { return Err(self.not_found(instance)) };
        let (name, restart) = (entry.status.spec.name.clone(), entry.status.restart_count);
        match entry.status.phase {
            Phase::Pending | Phase::Starting => self.end(&mut inner, id, ExitCause::StopRequested, true),
            Phase::Running => {
                let takes = self.traits.lives.stop(self.traits.seed, &name, restart);
                self.amend(&mut inner, id, |entry| {
                    entry.status.phase = Phase::Stopping;
                    self.facts.record(FactKind::InstanceStopping { instance: entry.subject() });
                });
                self.plan(&mut inner, id, takes, Due::End(ExitCause::StopRequested));
            }
            Phase::Stopped | Phase::Crashed if entry.status.next_restart_at.is_some() => {
                self.give_up_restart(&mut inner, id);
            }
            Phase::Stopping | Phase::Stopped | Phase::Crashed | Phase::Unknown => {}
        }
        Ok(id)
    }

    /// Somebody stopped an instance while it waited for a restart.
    fn give_up_restart(&self, inner: &mut Inner, id: InstanceId) {
        let exit = Exit { at: self.now(), cause: ExitCause::StopRequested };
        self.amend(inner, id, |entry| {
            entry.turn += 1;
            entry.status.phase = Phase::Stopped;
            entry.status.next_restart_at = None;
            let instance = entry.subject();
            self.facts.record(FactKind::InstanceStopped { instance, exit, next_restart_at: None });
        });
    }

    /// Forgets an instance that has ended.
    ///
    /// # Errors
    /// There is none, or it may still run.
    pub fn remove(&self, instance: &str) -> Result<(), Failure> {
        let mut inner = self.lock();
        let id = self.find(&inner, instance)?;
        let Some(entry) = inner.instances.get(&id) else { return Err(self.not_found(instance)) };
        if !entry.is_final() {
            let (name, phase) = (&entry.status.spec.name, entry.status.phase);
            let why = match entry.status.next_restart_at {
                Some(at) => format!("is {phase} and will be restarted at {at}"),
                None => format!("is {phase}"),
            };
            let message = format!("instance `{name}` {why}: stop it before you remove it");
            let failure = self.failure(ErrorCode::RestartPolicyViolation, message);
            return Err(failure.with("instance", name.as_str()));
        }
        self.forget(&mut inner, id, |instance| FactKind::InstanceRemoved { instance });
        Ok(())
    }

    /// Ends an instance at once and forgets it, because a later generation exists elsewhere, or a twin of its own. One
    /// that is not listed needs no fencing.
    ///
    /// # Errors
    /// The generation is not a later one, or the twin not.
    pub fn fence(&self, id: InstanceId, generation: u64, twin: Option<InstanceId>) -> Result<(), Failure> {
        let mut inner = self.lock();
        let Some(entry) = inner.instances.get(&id) else { return Ok(()) };
        let has_twin = generation == entry.status.generation && twin.is_some_and(|twin| twin > id);
        if entry.status.generation >= generation && !has_twin {
            let problem =
                format!("the instance is of generation {}, which is no earlier one", entry.status.generation);
            return Err(self.invalid(&Invalid::new("generation", problem)));
        }
        self.end_stale(&mut inner, id, generation);
        Ok(())
    }

    fn end_stale(&self, inner: &mut Inner, id: InstanceId, generation: u64) {
        if inner.instances.get(&id).is_some_and(|entry| !entry.is_final()) {
            self.end(inner, id, ExitCause::StopRequested, true);
        }
        self.forget(inner, id, |instance| FactKind::InstanceFenced { instance, generation });
    }

    fn forget(
        &self,
        inner: &mut Inner,
        id: InstanceId,
        fact: impl FnOnce(wasmatrix_model::Subject) -> FactKind,
    ) {
        let Some(entry) = inner.instances.remove(&id) else { return };
        inner.by_name.remove(&entry.status.spec.name);
        let digest = entry.status.spec.digest;
        if !inner.instances.values().any(|other| other.status.spec.digest == digest) {
            inner.artifacts.remove(&digest);
        }
        self.facts.record(fact(entry.subject()));
        self.newest.send_replace(inner.changes.gone(id));
    }

    /// Grants all of `grants`. Gives all that are in force.
    ///
    /// # Errors
    /// There is no such instance, or it would hold too many.
    pub fn assign(&self, instance: &str, grants: &[Grant]) -> Result<Grants, Failure> {
        let mut inner = self.lock();
        let id = self.find(&inner, instance)?;
        let held = inner.instances.get(&id).map(|entry| entry.status.grants.clone()).unwrap_or_default();
        let mut changed = held.clone();
        for grant in grants {
            changed.assign(grant.clone()).map_err(|invalid| self.invalid(&invalid))?;
        }
        self.amend(&mut inner, id, |entry| {
            entry.status.grants = changed.clone();
            for grant in changed.iter().filter(|grant| !held.holds(grant)) {
                self.facts
                    .record(FactKind::GrantAssigned { instance: entry.subject(), grant: grant.clone() });
            }
        });
        Ok(changed)
    }

    /// Takes all of `grants` away or none. Gives those left.
    ///
    /// # Errors
    /// There is no such instance, or it does not hold one of them.
    pub fn revoke(&self, instance: &str, grants: &[Grant]) -> Result<Grants, Failure> {
        let mut inner = self.lock();
        let id = self.find(&inner, instance)?;
        let mut changed =
            inner.instances.get(&id).map(|entry| entry.status.grants.clone()).unwrap_or_default();
        for grant in grants {
            if !changed.revoke(grant) {
                let message = format!("`{instance}` does not hold {grant}");
                let failure = self.failure(ErrorCode::CapabilityNotFound, message);
                return Err(failure.with("grant", grant.to_string()));
            }
        }
        self.amend(&mut inner, id, |entry| {
            entry.status.grants = changed.clone();
            for grant in grants {
                self.facts.record(FactKind::GrantRevoked { instance: entry.subject(), grant: grant.clone() });
            }
        });
        Ok(changed)
    }

    /// Lets a provider answer, or answer no more; its calls in flight are over at once.
    ///
    /// # Errors
    /// The node has none of that capability.
    pub fn turn_provider(&self, capability: Capability, running: bool) -> Result<ProviderStatus, Failure> {
        let mut inner = self.lock();
        let Some(provider) = inner.providers.iter_mut().find(|provider| provider.capability == capability)
        else {
            let message = format!("node {} has no {capability} provider", self.traits.id);
            return Err(self.failure(ErrorCode::CapabilityNotFound, message));
        };
        let (phase, fact) = if running {
            (ProviderPhase::Running, FactKind::ProviderStarted { capability })
        } else {
            (ProviderPhase::Stopped, FactKind::ProviderStopped { capability })
        };
        if provider.phase != phase {
            provider.phase = phase;
            self.facts.record(fact);
            self.described.send_modify(|described| *described += 1);
        }
        Ok(provider.clone())
    }

    /// Remembers whether it takes new instances, and says so when it attends.
    pub fn cordon(&self, cordoned: bool) {
        if std::mem::replace(&mut self.lock().cordoned, cordoned) != cordoned {
            self.described.send_modify(|described| *described += 1);
        }
    }
}

fn with_key<'a>(inner: &'a Inner, key: &str) -> Option<&'a InstanceStatus> {
    let has_key = |entry: &&Entry| entry.status.idempotency_key.as_deref() == Some(key);
    inner.instances.values().find(has_key).map(|entry| &entry.status)
}
