//! The one gate between a guest and the world: every capability call of every instance passes here.
//!
//! ```text
//! executor ──CapabilityCall──► Gate ──(grants in force now cover it)──► provider
//!                               │
//!                               └─(they do not)──► PERMISSION_DENIED, a fact, a count
//! ```
//!
//! What a call needs is said by [`CapabilityCall::required_permission`]; whether the grants cover it is decided by
//! [`wasmatrix_model::Grants::permit`]; here the one is put to the other, at the time of the call.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Instant,
};

use async_trait::async_trait;
use tokio_util::task::TaskTracker;
use wasmatrix_executor_api::{
    Capabilities, CapabilityCall, CapabilityError, CapabilityErrorKind, CapabilityReply,
};
use wasmatrix_facts::Facts;
use wasmatrix_model::FactKind;
use wasmatrix_providers::Namespace;

use crate::{instance::Instance, metrics::Metrics, provision::Provision, rate::PerMinute};

/// Denials of one instance that become facts in a minute. The counts are exact, but a guest that does nothing but
/// ask for what it may not have must not push everybody else's facts out of the ring.
const DENIAL_FACTS_PER_MINUTE: u32 = 60;

/// The gate of one instance.
pub(crate) struct Gate {
    instance: Arc<Instance>,
    owner: Namespace,
    provision: Arc<Provision>,
    facts: Arc<Facts>,
    metrics: Arc<Metrics>,
    denials: Mutex<PerMinute>,
    in_flight: TaskTracker,
    closed: AtomicBool,
}

impl Gate {
    /// A gate for `instance`, which serves all its runs.
    pub(crate) fn new(
        instance: Arc<Instance>,
        provision: Arc<Provision>,
        facts: Arc<Facts>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let owner = Namespace::of(&instance.spec.name);
        Self {
            instance,
            owner,
            provision,
            facts,
            metrics,
            denials: Mutex::new(PerMinute::new(DENIAL_FACTS_PER_MINUTE)),
            in_flight: TaskTracker::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// Lets no further call through from now on, and gives a future that waits until those in flight are done: what a
    /// run that is to be stopped has begun outside of itself is finished, and what it only waits for is not.
    pub(crate) fn close(&self) -> impl Future<Output = ()> + Send + 'static {
        self.closed.store(true, SeqCst);
        self.in_flight.close();
        let in_flight = self.in_flight.clone();
        async move { in_flight.wait().await }
    }

    fn deny(&self, operation: &'static str, missing: String) -> CapabilityError {
        self.instance.count_call(false);
        let recorded = self.denials.lock().unwrap_or_else(PoisonError::into_inner).ask(Instant::now());
        if recorded {
            self.facts.record(FactKind::CapabilityDenied {
                instance: self.instance.subject(),
                operation: operation.to_owned(),
                permission: missing.clone(),
            });
        }
        CapabilityError::new(
            CapabilityErrorKind::Denied,
            format!("{operation} needs {missing}, which is not granted"),
        )
    }
}

#[async_trait]
impl Capabilities for Gate {
    async fn call(&self, call: CapabilityCall) -> Result<CapabilityReply, CapabilityError> {
        let operation = call.operation();
        let begun = Instant::now();
        let in_flight = self.in_flight.token();
        if self.closed.load(SeqCst) {
            // The run is about to be ended, in which this call goes down with it.
            drop(in_flight);
            return std::future::pending().await;
        }
        let needed = call.required_permission();
        let capability = needed.capability();
        let answer = match self.instance.permit(&needed) {
            Err(uncovered) => Err(self.deny(operation, uncovered.missing)),
            Ok(()) => {
                self.instance.count_call(true);
                match self.provision.lease(capability) {
                    Ok(lease) => lease.call(&self.owner, call).await,
                    Err(unavailable) => Err(unavailable),
                }
            }
        };
        let outcome = answer.as_ref().map_or_else(|error| error.kind.code().as_str(), |_| "OK");
        self.metrics.called(operation, outcome, begun.elapsed());
        answer
    }
}
