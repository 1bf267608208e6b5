//! The ways out of a node: stop, remove, fence, and the end of the node itself.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::sync::oneshot;
use wasmatrix_model::{ErrorCode, FactKind, Failure, InstanceId, InstanceStatus, failure::Invalid};

use crate::{
    Agent,
    instance::{Instance, Order},
};

/// How long the providers' calls in flight may take at the end.
const DRAIN: Duration = Duration::from_secs(5);

impl Agent {
    /// Stops an instance, by name or id, and waits until it has ended. One that has ended stays as it is. Of two stops
    /// at one time, the one with less patience is the one that counts.
    ///
    /// # Errors
    /// There is none of that name or id.
    pub async fn stop(&self, instance: &str, grace: Duration) -> Result<InstanceStatus, Failure> {
        let instance = self.find(instance)?;
        end(&instance, grace).await;
        Ok(instance.status())
    }

    /// Forgets an instance that has ended, by name or id.
    ///
    /// # Errors
    /// There is none, or it may still run.
    pub async fn remove(&self, instance: &str) -> Result<(), Failure> {
        let instance = self.find(instance)?;
        if !let_go(&instance).await {
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

    /// Ends an instance at once and forgets it, because generation `generation` of it exists on another node; if that is
    /// its own, because its request was carried out twice, and `twin` came of it later. One that is not here has been
    /// fenced before, or never was. It goes on if the future is dropped.
    ///
    /// # Errors
    /// `generation` is not later than the instance's own: then it is the other one that is to be fenced.
    pub async fn fence(
        &self,
        id: InstanceId,
        generation: u64,
        twin: Option<InstanceId>,
    ) -> Result<(), Failure> {
        let Some(instance) = self.0.registry.by_id(id) else { return Ok(()) };
        let own = instance.assignment.generation;
        let has_twin = generation == own && twin.is_some_and(|twin| twin > id);
        if generation <= own && !has_twin {
            let problem = format!(
                "instance `{}` ({id}) is of generation {own} itself: only a later one fences it",
                instance.spec.name
            );
            return Err(self.invalid(&Invalid::new("generation", problem)).with("own", own.to_string()));
        }
        let agent = self.clone();
        let fenced = tokio::spawn(async move {
            end(&instance, Duration::ZERO).await;
            let_go(&instance).await;
            if agent.0.registry.forget(&instance) {
                let instance = instance.subject();
                agent.0.facts.record(FactKind::InstanceFenced { instance, generation });
            }
        });
        fenced.await.map_err(|_| self.failure(ErrorCode::Internal, "the instance could not be fenced"))
    }

    /// Takes no more instances, stops every one there is and then every provider. Instances stay listed, as stopped.
    pub async fn shutdown(&self, grace: Duration) {
        let instances = self.0.registry.close();
        self.0.facts.record(FactKind::NodeStopping);
        join_all(instances.iter().map(|instance| end(instance, grace))).await;
        self.0.provision.shutdown(DRAIN).await;
    }
}

/// Stops an instance and waits until it has ended.
async fn end(instance: &Arc<Instance>, grace: Duration) {
    let (done, ended) = oneshot::channel();
    if instance.order(Order::Stop { grace, done }).await {
        // A driver that goes away has ended too.
        let _ = ended.await;
    }
}

/// Ends the driver of an instance that has ended. `false`: it has not.
async fn let_go(instance: &Arc<Instance>) -> bool {
    let (done, gone) = oneshot::channel();
    // A driver that takes no orders has been told to forget the instance before, by somebody who then lost interest.
    !instance.order(Order::Remove { done }).await || gone.await.unwrap_or(true)
}
