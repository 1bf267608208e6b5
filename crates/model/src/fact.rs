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
    /// The word that users see, e.g. `instance-crashed`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NodeStarted { .. } => "node-started",
            Self::NodeStopping => "node-stopping",
            Self::InstanceCreated { .. } => "instance-created",
            Self::InstanceStarted { .. } => "instance-started",
            Self::InstanceStopping { .. } => "instance-stopping",
            Self::InstanceStopped { .. } => "instance-stopped",
            Self::InstanceCrashed { .. } => "instance-crashed",
            Self::InstanceRestarted { .. } => "instance-restarted",
            Self::RestartsExhausted { .. } => "restarts-exhausted",
            Self::InstanceRemoved { .. } => "instance-removed",
            Self::GrantAssigned { .. } => "grant-assigned",
            Self::GrantRevoked { .. } => "grant-revoked",
            Self::CapabilityDenied { .. } => "capability-denied",
            Self::ProviderStarted { .. } => "provider-started",
            Self::ProviderStopped { .. } => "provider-stopped",
        }
    }

    /// What there is to say about it in a line; empty where the name says all.
    pub fn detail(&self) -> String {
        match self {
            Self::NodeStarted { version } => version.clone(),
            Self::InstanceCreated { executor, .. } => format!("on {executor}"),
            Self::InstanceStopped { exit, .. } | Self::InstanceCrashed { exit, .. } => exit.cause.to_string(),
            Self::InstanceRestarted { restart_count, .. } | Self::RestartsExhausted { restart_count, .. } => {
                format!("restart {restart_count}")
            }
            Self::GrantAssigned { grant, .. } | Self::GrantRevoked { grant, .. } => grant.to_string(),
            Self::CapabilityDenied { operation, permission, .. } => format!("{operation} needs {permission}"),
            Self::ProviderStarted { capability } | Self::ProviderStopped { capability } => {
                capability.to_string()
            }
            Self::NodeStopping
            | Self::InstanceStarted { .. }
            | Self::InstanceStopping { .. }
            | Self::InstanceRemoved { .. } => String::new(),
        }
    }

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
