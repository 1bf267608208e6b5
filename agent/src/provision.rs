//! The providers of this node, each of which starts and stops on its own.
//!
//! ```text
//!            start                    stop
//! Stopped ───────────► Running ───────────────► Draining ──(calls in flight are done, or out of time)──► Stopped
//! ```
//!
//! A call takes a [`Lease`] first and holds it until its answer is there. A provider that is not running leases
//! nothing, so every call gets either its answer or "unavailable", never silence.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::sync::{Mutex, OwnedRwLockReadGuard, RwLock, watch};
use tokio_util::sync::CancellationToken;
use wasmatrix_executor_api::{CapabilityCall, CapabilityError, CapabilityErrorKind, CapabilityReply};
use wasmatrix_facts::Facts;
use wasmatrix_model::{Capability, FactKind, ProviderPhase, ProviderStatus};
use wasmatrix_providers::{Namespace, Provider};

/// How long a provider may take for one call.
const CALL_TIME_MAX: Duration = Duration::from_secs(30);

/// All providers of the node.
pub(crate) struct Provision {
    slots: BTreeMap<Capability, Slot>,
    facts: Arc<Facts>,
    /// How often what the node says of itself changed; every step of a provider is such a change.
    said: watch::Sender<u64>,
    /// None is started any more.
    closed: AtomicBool,
}

/// Why a provider was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotStarted {
    /// There is none of that capability.
    None,
    /// The node is shut down.
    Closed,
}

struct Slot {
    provider: Arc<dyn Provider>,
    phase: watch::Sender<ProviderPhase>,
    /// Read-locked by every call in flight; a stop waits for the write lock.
    in_flight: Arc<RwLock<()>>,
    /// Cancelled when a stop is out of patience; replaced at the next start.
    abandon: std::sync::Mutex<CancellationToken>,
    /// Held while starting or stopping, so that the two do not mix.
    change: Mutex<()>,
}

/// The right to make one call of a running provider.
pub(crate) struct Lease {
    provider: Arc<dyn Provider>,
    abandon: CancellationToken,
    _in_flight: OwnedRwLockReadGuard<()>,
}

impl Provision {
    /// Takes the providers, all running. Every step of one is counted in `said`.
    pub(crate) fn new(
        providers: Vec<Arc<dyn Provider>>,
        facts: Arc<Facts>,
        said: watch::Sender<u64>,
    ) -> Self {
        let slots = providers.into_iter().map(|provider| {
            let capability = provider.capability();
            facts.record(FactKind::ProviderStarted { capability });
            let slot = Slot {
                provider,
                phase: watch::Sender::new(ProviderPhase::Running),
                in_flight: Arc::default(),
                abandon: std::sync::Mutex::default(),
                change: Mutex::default(),
            };
            (capability, slot)
        });
        let slots = slots.collect();
        Self { slots, facts, said, closed: AtomicBool::new(false) }
    }

    /// The right to call the provider of `capability`, if it is running.
    pub(crate) fn lease(&self, capability: Capability) -> Result<Lease, CapabilityError> {
        let unavailable = || {
            let message = format!("the {capability} provider is not running on this node");
            CapabilityError::new(CapabilityErrorKind::Unavailable, message)
        };
        let slot = self.slots.get(&capability).ok_or_else(unavailable)?;
        // The lock first and the phase second: a stop changes the phase first and takes the lock second, so one of
        // the two sees the other.
        let in_flight = Arc::clone(&slot.in_flight).try_read_owned().map_err(|_| unavailable())?;
        if *slot.phase.borrow() != ProviderPhase::Running {
            return Err(unavailable());
        }
        Ok(Lease {
            provider: Arc::clone(&slot.provider),
            abandon: slot.abandon().clone(),
            _in_flight: in_flight,
        })
    }

    /// Lets a provider answer again.
    pub(crate) async fn start(&self, capability: Capability) -> Result<ProviderStatus, NotStarted> {
        let slot = self.slots.get(&capability).ok_or(NotStarted::None)?;
        let _change = slot.change.lock().await;
        // Read under the lock: a shutdown says so before it takes it.
        if self.closed.load(SeqCst) {
            return Err(NotStarted::Closed);
        }
        if *slot.phase.borrow() != ProviderPhase::Running {
            *slot.abandon() = CancellationToken::new();
            self.step(slot, ProviderPhase::Running);
            self.facts.record(FactKind::ProviderStarted { capability });
        }
        Ok(slot.status())
    }

    /// Lets a provider finish the calls in flight, for at most `drain`, and answer no more. `None`: there is none.
    pub(crate) async fn stop(&self, capability: Capability, drain: Duration) -> Option<ProviderStatus> {
        let slot = self.slots.get(&capability)?;
        let _change = slot.change.lock().await;
        // One that is draining was left so by a stop that was given up; this one brings it to its end.
        if *slot.phase.borrow() != ProviderPhase::Stopped {
            self.step(slot, ProviderPhase::Draining);
            if tokio::time::timeout(drain, slot.in_flight.write()).await.is_err() {
                slot.abandon().cancel();
                drop(slot.in_flight.write().await);
            }
            self.step(slot, ProviderPhase::Stopped);
            self.facts.record(FactKind::ProviderStopped { capability });
        }
        Some(slot.status())
    }

    /// Stops every provider, and lets it put away what it holds. None can be started again.
    pub(crate) async fn shutdown(&self, drain: Duration) {
        self.closed.store(true, SeqCst);
        for (capability, slot) in &self.slots {
            self.stop(*capability, drain).await;
            slot.provider.shutdown().await;
        }
    }

    fn step(&self, slot: &Slot, phase: ProviderPhase) {
        slot.phase.send_replace(phase);
        self.said.send_modify(|said| *said += 1);
    }

    /// What there is, and how it is.
    pub(crate) fn statuses(&self) -> Vec<ProviderStatus> {
        self.slots.values().map(Slot::status).collect()
    }
}

impl Slot {
    fn status(&self) -> ProviderStatus {
        ProviderStatus {
            capability: self.provider.capability(),
            backend: self.provider.backend().to_owned(),
            phase: *self.phase.borrow(),
        }
    }

    fn abandon(&self) -> std::sync::MutexGuard<'_, CancellationToken> {
        self.abandon.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Lease {
    /// Makes the call.
    pub(crate) async fn call(
        self,
        owner: &Namespace,
        call: CapabilityCall,
    ) -> Result<CapabilityReply, CapabilityError> {
        let operation = call.operation();
        tokio::select! {
            answer = self.provider.call(owner, call) => answer,
            () = self.abandon.cancelled() => Err(CapabilityError::new(
                CapabilityErrorKind::Unavailable,
                format!("the provider was stopped before {operation} was done; it may or may not have taken effect"),
            )),
            () = tokio::time::sleep(CALL_TIME_MAX) => Err(CapabilityError::new(
                CapabilityErrorKind::Timeout,
                format!("{operation} took more than {CALL_TIME_MAX:?}; it may or may not have taken effect"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use wasmatrix_model::SystemClock;
    use wasmatrix_providers::{KvLimits, KvProvider};

    use super::*;

    #[tokio::test]
    async fn a_stop_that_was_given_up_is_brought_to_its_end_by_the_next() {
        let facts = Arc::new(Facts::new("n".parse().unwrap(), Arc::new(SystemClock), 10));
        let kv: Arc<dyn Provider> = Arc::new(KvProvider::memory(KvLimits::default()));
        let provision = Provision::new(vec![kv], facts, watch::Sender::default());
        let lease = provision.lease(Capability::Kv).unwrap();
        let hour = Duration::from_secs(3600);
        assert!(provision.stop(Capability::Kv, hour).now_or_never().is_none(), "a call is in flight");
        assert_eq!(provision.statuses()[0].phase, ProviderPhase::Draining);
        drop(lease);
        let status = provision.stop(Capability::Kv, hour).await.unwrap();
        assert_eq!(status.phase, ProviderPhase::Stopped);
        assert!(provision.lease(Capability::Kv).is_err());
        assert!(provision.start(Capability::Kv).await.is_ok());
        provision.shutdown(hour).await;
        assert_eq!(provision.start(Capability::Kv).await, Err(NotStarted::Closed));
        assert_eq!(provision.statuses()[0].phase, ProviderPhase::Stopped);
    }
}
