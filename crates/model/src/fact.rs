//! What happened, in order. A fact is written once and never changed.

use serde::{Deserialize, Serialize};

use crate::{
    Digest, ExecutorKind, Exit, Grant, InstanceId, InstanceName, NodeId, NodePhase, Phase, Timestamp,
    grant::Capability,
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
        /// Among instances of its name, the higher is the later; the first is 1.
        generation: u64,
        /// The instance that it replaces.
        predecessor: Option<InstanceId>,
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
    /// A later generation of an instance was started elsewhere, so this copy was ended and forgotten.
    InstanceFenced {
        /// Which copy.
        instance: Subject,
        /// The later generation.
        generation: u64,
    },
    /// The control plane began its work.
    ControlPlaneStarted {
        /// The version of Wasmatrix.
        version: String,
    },
    /// A node made itself known, or known again.
    NodeRegistered {
        /// Which; what a fact is about, while [`Fact::node`] is who recorded it.
        #[serde(rename = "about")]
        node: NodeId,
        /// Where its agent listens.
        address: String,
        /// The version of Wasmatrix it runs.
        version: String,
    },
    /// A node is heard again, or no longer.
    NodePhaseChanged {
        /// Which.
        #[serde(rename = "about")]
        node: NodeId,
        /// What it is now.
        phase: NodePhase,
        /// Why.
        reason: String,
    },
    /// Somebody closed a node to new instances, or opened it again.
    NodeCordoned {
        /// Which.
        #[serde(rename = "about")]
        node: NodeId,
        /// Whether it was closed.
        cordoned: bool,
        /// Who did.
        by: String,
    },
    /// Somebody gave a lost node up.
    NodeForgotten {
        /// Which.
        #[serde(rename = "about")]
        node: NodeId,
        /// Who did.
        by: String,
    },
    /// The node of an instance was lost: nobody can tell how the instance is.
    InstanceUnknown {
        /// Which.
        instance: Subject,
        /// Its node.
        #[serde(rename = "about")]
        node: NodeId,
        /// The last that its agent said.
        last_phase: Phase,
    },
    /// An instance is no more, though nobody saw it end: its agent came back without it, or its node was given up.
    InstanceLost {
        /// Which.
        instance: Subject,
        /// Its node.
        #[serde(rename = "about")]
        node: NodeId,
        /// How that is known.
        reason: String,
    },
    /// A successor was started for an instance whose node was lost or drained.
    InstanceSucceeded {
        /// The one that is replaced.
        instance: Subject,
        /// The one that replaces it.
        successor: InstanceId,
        /// Where that is.
        #[serde(rename = "about")]
        node: NodeId,
        /// Its generation.
        generation: u64,
    },
    /// No successor could be started; it is not tried again.
    SuccessionFailed {
        /// The one that was to be replaced.
        instance: Subject,
        /// Why.
        reason: String,
    },
    /// Somebody asked what they may not, or could not prove who they are.
    AccessRefused {
        /// Who: the identity, if there is one, and the address.
        peer: String,
        /// What, e.g. `/wasmatrix.v1.ControlPlane/StopInstance`.
        method: String,
        /// Why it was refused.
        reason: String,
    },
    /// Something that this version has no word for: a newer one recorded it.
    #[serde(rename = "unknown-fact")]
    Unrecognized,
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
            Self::InstanceFenced { .. } => "instance-fenced",
            Self::ControlPlaneStarted { .. } => "control-plane-started",
            Self::NodeRegistered { .. } => "node-registered",
            Self::NodePhaseChanged { phase: NodePhase::Ready, .. } => "node-ready",
            Self::NodePhaseChanged { phase: NodePhase::Suspect, .. } => "node-suspect",
            Self::NodePhaseChanged { phase: NodePhase::Lost, .. } => "node-lost",
            Self::NodeCordoned { cordoned: true, .. } => "node-cordoned",
            Self::NodeCordoned { cordoned: false, .. } => "node-uncordoned",
            Self::NodeForgotten { .. } => "node-forgotten",
            Self::InstanceUnknown { .. } => "instance-unknown",
            Self::InstanceLost { .. } => "instance-lost",
            Self::InstanceSucceeded { .. } => "instance-succeeded",
            Self::SuccessionFailed { .. } => "succession-failed",
            Self::AccessRefused { .. } => "access-refused",
            Self::Unrecognized => "unknown-fact",
        }
    }

    /// What there is to say about it in a line; empty where the name says all.
    pub fn detail(&self) -> String {
        match self {
            Self::NodeStarted { version } | Self::ControlPlaneStarted { version } => version.clone(),
            Self::InstanceCreated { executor, generation: 1, .. } => format!("on {executor}"),
            Self::InstanceCreated { executor, generation, .. } => {
                format!("on {executor}, generation {generation}")
            }
            Self::InstanceStopped { exit, .. } | Self::InstanceCrashed { exit, .. } => exit.cause.to_string(),
            Self::InstanceRestarted { restart_count, .. } | Self::RestartsExhausted { restart_count, .. } => {
                format!("restart {restart_count}")
            }
            Self::GrantAssigned { grant, .. } | Self::GrantRevoked { grant, .. } => grant.to_string(),
            Self::CapabilityDenied { operation, permission, .. } => format!("{operation} needs {permission}"),
            Self::ProviderStarted { capability } | Self::ProviderStopped { capability } => {
                capability.to_string()
            }
            Self::InstanceFenced { generation, .. } => format!("generation {generation} is elsewhere"),
            Self::NodeRegistered { node, address, version } if address.is_empty() => {
                format!("{node}, {version}")
            }
            Self::NodeRegistered { node, address, version } => format!("{node} at {address}, {version}"),
            Self::NodePhaseChanged { node, reason, .. } => format!("{node}: {reason}"),
            Self::NodeCordoned { node, by, .. } | Self::NodeForgotten { node, by } => {
                format!("{node}, by {by}")
            }
            Self::InstanceUnknown { node, last_phase, .. } => {
                format!("node {node} is lost; it was {last_phase}")
            }
            Self::InstanceLost { node, reason, .. } => format!("with node {node}: {reason}"),
            Self::InstanceSucceeded { successor, node, generation, .. } => {
                format!("by {successor} on node {node}, generation {generation}")
            }
            Self::SuccessionFailed { reason, .. } => reason.clone(),
            Self::AccessRefused { peer, method, reason } => format!("{peer}, {method}: {reason}"),
            Self::Unrecognized => {
                "a newer version of Wasmatrix tells what this one has no word for: upgrade this one"
                    .to_owned()
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
            | Self::CapabilityDenied { instance, .. }
            | Self::InstanceFenced { instance, .. }
            | Self::InstanceUnknown { instance, .. }
            | Self::InstanceLost { instance, .. }
            | Self::InstanceSucceeded { instance, .. }
            | Self::SuccessionFailed { instance, .. } => Some(instance),
            Self::NodeStarted { .. }
            | Self::NodeStopping
            | Self::ProviderStarted { .. }
            | Self::ProviderStopped { .. }
            | Self::ControlPlaneStarted { .. }
            | Self::NodeRegistered { .. }
            | Self::NodePhaseChanged { .. }
            | Self::NodeCordoned { .. }
            | Self::NodeForgotten { .. }
            | Self::AccessRefused { .. }
            | Self::Unrecognized => None,
        }
    }
}
