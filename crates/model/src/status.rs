//! All that is known of an instance or a provider now. A status is what the agent saw, never what was asked.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Exit, Grants, InstanceId, InstanceSpec, NodeId, Phase, Timestamp, grant::Capability};

/// An instance as its agent sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Which instance.
    pub id: InstanceId,
    /// On which node.
    pub node: NodeId,
    /// What was asked for.
    pub spec: InstanceSpec,
    /// Where it is in its life.
    pub phase: Phase,
    /// What it may do now.
    pub grants: Grants,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When its present or last run began.
    pub started_at: Option<Timestamp>,
    /// How its last run ended.
    pub last_exit: Option<Exit>,
    /// How often it was started again.
    pub restart_count: u32,
    /// When it will be started again, if the restart policy says so.
    pub next_restart_at: Option<Timestamp>,
    /// What it used so far.
    pub usage: Usage,
    /// Among instances of one name, the higher is the later; the first is 1.
    pub generation: u64,
    /// The instance that this one replaces, on a node that was lost or drained.
    pub predecessor: Option<InstanceId>,
    /// The key of the start request, if it had one.
    pub idempotency_key: Option<String>,
    /// Grows with every change of the node's instances, since its agent began. Of two statuses of one run of an agent,
    /// the one with the higher is the later.
    pub revision: u64,
    /// Why nobody can tell how it is; set if and only if the phase is [`Phase::Unknown`].
    pub unknown: Option<Unknown>,
}

/// Why nobody can tell how an instance is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unknown {
    /// Since when.
    pub since: Timestamp,
    /// The last that its agent said.
    pub last_phase: Phase,
    /// Why its node can't be asked.
    pub reason: String,
}

/// What an instance used, over all its runs but for the memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Linear memory of the present run, in bytes.
    pub memory_bytes: u64,
    /// The most linear memory that a run had, in bytes.
    pub memory_bytes_peak: u64,
    /// Processor time, measured each time the guest hands control back.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub cpu_time: Duration,
    /// Capability calls that were allowed.
    pub calls_allowed: u64,
    /// Capability calls that were denied.
    pub calls_denied: u64,
}

/// Whether a provider answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderPhase {
    /// It answers.
    Running,
    /// It answers what it had already taken, and takes nothing new.
    Draining,
    /// It answers nothing.
    Stopped,
}

impl ProviderPhase {
    /// Every phase there is.
    pub const ALL: [Self; 3] = [Self::Running, Self::Draining, Self::Stopped];

    /// The word that users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

/// A capability provider on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderStatus {
    /// What it offers.
    pub capability: Capability,
    /// How it offers it, e.g. `redb` or `memory`.
    pub backend: String,
    /// Whether it answers.
    pub phase: ProviderPhase,
}
