//! What happened, in order. A fact is written once and never changed.

use serde::{Deserialize, Serialize};

use crate::{
    Digest, ExecutorKind, Exit, Grant, InstanceId, InstanceName, NodeId, Timestamp, grant::Capability,
};

/// Something that happened on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Its number on that node since the agent started, from 1, without gaps.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Where.
    pub node: NodeId,
    /// What.
    #[serde(flatten)]
    pub kind: FactKind,
}

/// The instance that a fact is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its id.
    pub id: InstanceId,
    /// Its name.
    pub name: InstanceName,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "kebab-case")]
pub enum FactKind {
    /// The agent began its work.
    NodeStarted {
        /// The version of Wasmatrix.
        version: String,
    },
    /// The agent takes no more work.
    NodeStopping,
    /// An instance was accepted.
    InstanceCreated {
        /// Which.
        instance: Subject,
        /// What it runs.
        digest: Digest,
        /// Where.
        executor: ExecutorKind,
    },
    /// A run of an instance began; `restart_count` 0 is the first.
    InstanceStarted {
        /// Which.
        instance: Subject,
        /// Restarts before this run.
        restart_count: u32,
    },
    /// Somebody asked an instance to stop.
    InstanceStopping {
        /// Which.
        instance: Subject,
    },
    /// A run ended well, or because somebody asked.
    InstanceStopped {
        /// Which.
        instance: Subject,
        /// How.
        exit: Exit,
        /// When it will be started again (restart policy `always`).
        next_restart_at: Option<Timestamp>,
    },
    /// A run ended badly, or could not begin.
    InstanceCrashed {
        /// Which.
        instance: Subject,
        /// How: the trap, the reason, the backtrace.
        exit: Exit,
        /// Restarts before this run.
        restart_count: u32,
        /// When it will be started again, if it will.
        next_restart_at: Option<Timestamp>,
    },
    /// The restart policy starts an instance again.
    InstanceRestarted {
        /// Which.
        instance: Subject,
        /// Restarts with this one.
        restart_count: u32,
    },
    /// The restart policy gave an instance up.
    RestartsExhausted {
        /// Which.
        instance: Subject,
        /// Restarts that were tried.
        restart_count: u32,
    },
    /// An instance is listed no longer.
    InstanceRemoved {
        /// Which.
        instance: Subject,
    },
    /// An instance was granted something.
    GrantAssigned {
        /// Which.
        instance: Subject,
        /// What.
        grant: Grant,
    },
    /// An instance lost a grant.
    GrantRevoked {
        /// Which.
        instance: Subject,
        /// What.
        grant: Grant,
    },
    /// An instance tried what it was not granted.
    CapabilityDenied {
        /// Which.
        instance: Subject,
        /// What it called, e.g. `kv.set`.
        operation: String,
        /// The permission that it lacks, e.g. `kv:write:settings/ui/theme`.
        permission: String,
    },
    /// A provider began to answer.
    ProviderStarted {
        /// What it offers.
        capability: Capability,
    },
    /// A provider answers no longer.
    ProviderStopped {
        /// What it offered.
        capability: Capability,
    },
}

impl FactKind {
    /// The instance it is about, if it is about one.
    pub const fn subject(&self) -> Option<&Subject> {
        match self {
            Self::InstanceCreated { instance, .. }
            | Self::InstanceStarted { instance, .. }
            | Self::InstanceStopping { instance }
            | Self::InstanceStopped { instance, .. }
            | Self::InstanceCrashed { instance, .. }
            | Self::InstanceRestarted { instance, .. }
            | Self::RestartsExhausted { instance, .. }
            | Self::InstanceRemoved { instance }
            | Self::GrantAssigned { instance, .. }
            | Self::GrantRevoked { instance, .. }
            | Self::CapabilityDenied { instance, .. } => Some(instance),
            Self::NodeStarted { .. }
            | Self::NodeStopping
            | Self::ProviderStarted { .. }
            | Self::ProviderStopped { .. } => None,
        }
    }
}
