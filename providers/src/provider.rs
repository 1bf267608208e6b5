//! What a provider is, and whose call it answers.

use std::fmt;

use async_trait::async_trait;
use wasmatrix_executor_api::{CapabilityCall, CapabilityError, CapabilityReply};
use wasmatrix_model::{Capability, InstanceName};

/// Serves one capability, for all instances of a node. The agent holds one for each capability.
#[async_trait]
pub trait Provider: Send + Sync {
    /// What it offers.
    fn capability(&self) -> Capability;

    /// How it offers it, in one word for people, e.g. `memory` or `redb`.
    fn backend(&self) -> &str;

    /// Answers a call of `owner`, which the caller of this has found to be permitted. Many calls may run at once.
    /// Dropping the future gives the answer up, not the effect: a write may or may not be done.
    ///
    /// # Errors
    /// The call breaks a rule, a limit stands in the way, the provider was shut down, or it failed.
    async fn call(&self, owner: &Namespace, call: CapabilityCall)
    -> Result<CapabilityReply, CapabilityError>;

    /// Finishes the calls in flight, takes no new ones, and lets go of files and threads. Ends the provider for good;
    /// calling it again changes nothing.
    async fn shutdown(&self);
}

/// Whose data a call is about: that of one instance, under its name. A later instance of the same name finds it again.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(InstanceName);

impl Namespace {
    /// The namespace of the instance with that name.
    pub fn of(name: &InstanceName) -> Self {
        Self(name.clone())
    }

    /// The instance's name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
