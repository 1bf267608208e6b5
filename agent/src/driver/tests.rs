//! A guest that waits for an answer that never comes, and those who want it to end.

use std::sync::{Mutex, atomic::AtomicBool};

use async_trait::async_trait;
use futures::{FutureExt as _, future::join};
use tokio::sync::{Notify, watch};
use wasmatrix_executor_api::{
    CapabilityCall, CapabilityError, CapabilityReply, Capacity, Instance as Run, KvCall, Meter,
};
use wasmatrix_model::{Capability, Digest, ExecutorKind, InstanceSpec, Labels, SystemClock};
use wasmatrix_providers::{Namespace, Provider};

use super::*;
use crate::{
    Agent,
    agent::Node,
    artifacts::Artifacts,
    provision::Provision,
    registry::{Registry, Room},
};

const HOUR: Duration = Duration::from_secs(3600);

/// Answers nothing, and says when it was asked.
#[derive(Default)]
struct Silent(Arc<Notify>);

#[async_trait]
impl Provider for Silent {
    fn capability(&self) -> Capability {
        Capability::Kv
    }

    fn backend(&self) -> &'static str {
        "silent"
    }

    async fn call(&self, _: &Namespace, _: CapabilityCall) -> Result<CapabilityReply, CapabilityError> {
        self.0.notify_one();
        std::future::pending().await
    }

    async fn shutdown(&self) {}
}

/// Runs what makes one call and waits for its answer.
struct Asker(Capacity);

#[async_trait]
impl Executor for Asker {
    fn kind(&self) -> ExecutorKind {
        ExecutorKind::Wasmtime
    }

    fn capacity(&self) -> &Capacity {
        &self.0
    }

    async fn prepare(&self, artifact: &Artifact) -> Result<Prepared, Error> {
        Ok(Prepared::new(artifact.digest, Arc::new(())))
    }

    async fn launch(&self, launch: Launch) -> Result<Box<dyn Run>, Error> {
        let capabilities = Arc::clone(&launch.capabilities);
        let call = KvCall::Get { bucket: "default".parse().unwrap(), key: "k".parse().unwrap() };
        let asking = tokio::spawn(async move { drop(capabilities.call(CapabilityCall::Kv(call)).await) });
        Ok(Box::new(Asking(Mutex::new(Some(asking)))))
    }
}

struct Asking(Mutex<Option<tokio::task::JoinHandle<()>>>);

#[async_trait]
impl Run for Asking {
    async fn exited(&mut self) -> ExitCause {
        std::future::pending().await
    }

    async fn stop(&mut self) -> ExitCause {
        if let Some(asking) = self.0.lock().unwrap().take() {
            asking.abort();
        }
        ExitCause::StopRequested
    }

    fn meter(&self) -> Arc<Meter> {
        Arc::default()
    }
}

/// A node with such a guest, whose call is in flight.
async fn node() -> Agent {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let id: wasmatrix_model::NodeId = "here".parse().unwrap();
    let facts = Arc::new(Facts::new(id.clone(), Arc::clone(&clock), 100));
    let silent = Silent::default();
    let asked = Arc::clone(&silent.0);
    let agent = Agent::new(Node {
        id,
        address: String::new(),
        labels: Labels::default(),
        memory_bytes_total: 0,
        started_at: clock.now(),
        clock,
        executors: vec![Arc::new(Asker(Capacity { instances_max: 1, unavailable: None }))],
        provision: Arc::new(Provision::new(
            vec![Arc::new(silent)],
            Arc::clone(&facts),
            watch::Sender::default(),
        )),
        cordoned: AtomicBool::new(false),
        said: watch::Sender::default(),
        registry: Registry::new(Room { instances_max: 1, memory_bytes_max: None }),
        artifacts: Artifacts::new(0),
        facts,
        metrics: Arc::new(Metrics::new()),
    });
    let mut spec = InstanceSpec::new("asker".parse().unwrap(), Digest::of(b""));
    spec.grants = ["kv:read".parse().unwrap()].into_iter().collect();
    agent.start(spec, Some(Artifact::new(bytes::Bytes::new()))).await.unwrap();
    asked.notified().await;
    agent
}

#[tokio::test]
async fn a_more_urgent_stop_does_not_wait_for_the_patience_of_the_first() {
    let agent = node().await;
    let (patient, urgent) = (agent.stop("asker", HOUR), agent.stop("asker", Duration::ZERO));
    tokio::pin!(patient);
    assert!(patient.as_mut().now_or_never().is_none(), "a call is in flight");
    let (patient, urgent) = join(patient, urgent).await;
    assert_eq!((patient.unwrap().phase, urgent.unwrap().phase), (Phase::Stopped, Phase::Stopped));
}

#[tokio::test]
async fn a_more_patient_stop_does_not_make_the_first_wait() {
    let agent = node().await;
    let (urgent, patient) =
        join(agent.stop("asker", Duration::from_millis(20)), agent.stop("asker", HOUR)).await;
    assert_eq!((patient.unwrap().phase, urgent.unwrap().phase), (Phase::Stopped, Phase::Stopped));
}

#[tokio::test]
async fn a_fence_waits_for_nobody_and_is_done_though_nobody_waits_for_it() {
    let agent = node().await;
    let id = agent.get("asker").unwrap().id;
    let stop = agent.stop("asker", HOUR);
    tokio::pin!(stop);
    assert!(stop.as_mut().now_or_never().is_none());
    assert!(agent.fence(id, 2, None).now_or_never().is_none(), "given up as soon as it has begun");
    assert!(stop.await.is_ok());
    let mut changes = Box::pin(agent.watch(""));
    while let Some(changed) = futures::StreamExt::next(&mut changes).await {
        if changed.change == crate::changes::Change::Removed(id) || agent.list(None, 1).is_empty() {
            break;
        }
    }
    assert!(agent.list(None, 1).is_empty());
}
