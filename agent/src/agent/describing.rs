//! What a node says of itself, and what becomes of its providers.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use tokio::sync::watch;
use wasmatrix_model::{
    Capability, Capacity, ErrorCode, ExecutorStatus, Failure, Load, NodePhase, NodeStatus, ProviderStatus,
    Registration, RunId,
};
use wasmatrix_wire::PROTOCOL;

use crate::{Agent, provision::NotStarted};

impl Agent {
    /// Lets a provider answer again.
    ///
    /// # Errors
    /// The node has none of that capability, or is shut down.
    pub async fn start_provider(&self, capability: Capability) -> Result<ProviderStatus, Failure> {
        self.0.provision.start(capability).await.map_err(|why| match why {
            NotStarted::None => self.no_provider(capability),
            NotStarted::Closed => {
                let message = format!("node {} is shutting down: its providers start no more", self.0.id);
                self.failure(ErrorCode::NodeUnavailable, message)
            }
        })
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

    fn no_provider(&self, capability: Capability) -> Failure {
        let message = format!("node {} has no {capability} provider", self.0.id);
        self.failure(ErrorCode::CapabilityNotFound, message)
    }

    /// Remembers whether the node takes new instances, for a control plane that begins anew. It is the control plane that
    /// places none here: an agent refuses nothing for it.
    pub fn cordon(&self, cordoned: bool) -> NodeStatus {
        if self.0.cordoned.swap(cordoned, SeqCst) != cordoned {
            self.0.said.send_modify(|said| *said += 1);
        }
        self.describe()
    }

    fn is_cordoned(&self) -> bool {
        self.0.cordoned.load(SeqCst)
    }

    /// Which run of the node's agent this is.
    pub fn run(&self) -> RunId {
        self.0.facts.run()
    }

    /// How much of the node is taken.
    pub fn load(&self) -> Load {
        self.0.registry.load()
    }

    /// What the node says of itself to a control plane. Neither waits nor blocks.
    pub fn registration(&self) -> Registration {
        let node = &*self.0;
        Registration {
            id: node.id.clone(),
            run: self.run(),
            address: node.address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            started_at: node.started_at,
            labels: node.labels.clone(),
            executors: self.executors(),
            providers: node.provision.statuses(),
            capacity: self.capacity(),
            cordoned: self.is_cordoned(),
        }
    }

    /// Word of every change of what [`Agent::registration`] says.
    pub fn registration_changes(&self) -> watch::Receiver<u64> {
        self.0.said.subscribe()
    }

    /// The node as it is now.
    pub fn describe(&self) -> NodeStatus {
        let node = &*self.0;
        NodeStatus {
            id: node.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: node.started_at,
            executors: self.executors(),
            providers: node.provision.statuses(),
            address: node.address.clone(),
            labels: node.labels.clone(),
            capacity: self.capacity(),
            load: self.load(),
            phase: NodePhase::Ready,
            cordoned: self.is_cordoned(),
            last_seen_at: None,
            reason: None,
        }
    }

    fn executors(&self) -> Vec<ExecutorStatus> {
        let status = |executor: &std::sync::Arc<dyn wasmatrix_executor_api::Executor>| ExecutorStatus {
            kind: executor.kind(),
            unavailable: executor.capacity().unavailable.clone(),
        };
        self.0.executors.iter().map(status).collect()
    }

    fn capacity(&self) -> Capacity {
        let room = self.0.registry.room();
        Capacity {
            instances_max: room.instances_max,
            memory_bytes_max: room.memory_bytes_max,
            memory_bytes_total: self.0.memory_bytes_total,
        }
    }
}
