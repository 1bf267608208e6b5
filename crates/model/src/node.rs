//! What a node says of itself, and what the control plane knows of it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ExecutorKind, NodeId, ProviderStatus, Timestamp, failure::Invalid, placement::Labels};

/// One run of an agent: a node that is restarted has another. A UUID.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(Uuid);

impl RunId {
    /// A new one. They sort by the time they were made (UUID version 7).
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let objection = |_| Invalid::new("run", format!("`{text}` is no agent's run (a UUID)"));
        Uuid::try_parse(text).map(Self).map_err(objection)
    }
}

/// A version of the protocol, `MAJOR.MINOR`. Of one major version, older and newer understand each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProtocolVersion {
    /// Another one is refused.
    pub major: u32,
    /// Grows with what is added.
    pub minor: u32,
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ProtocolVersion {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parse = || {
            let (major, minor) = text.split_once('.')?;
            Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
        };
        let shown: String = text.chars().take(40).collect();
        parse().ok_or_else(|| Invalid::new("protocol", format!("`{shown}` is no version: write MAJOR.MINOR")))
    }
}

/// Whether a node can be heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodePhase {
    /// It is heard.
    #[default]
    Ready,
    /// Silent for a while: it takes no new instances.
    Suspect,
    /// Silent for too long: its instances are unknown.
    Lost,
}

impl NodePhase {
    /// Every phase there is.
    pub const ALL: [Self; 3] = [Self::Ready, Self::Suspect, Self::Lost];

    /// The word that users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Suspect => "suspect",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for NodePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How much a node takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// The most instances it lists.
    pub instances_max: u32,
    /// The most that the memory limits of its live instances may be together, in bytes. `None`: any sum.
    pub memory_bytes_max: Option<u64>,
    /// The machine's memory, in bytes; 0: not known. No instance with a higher limit is placed there.
    pub memory_bytes_total: u64,
}

/// How much of a node is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Instances listed, whatever their phase.
    pub instances: u32,
    /// Instances pending, starting, running or stopping.
    pub instances_live: u32,
    /// The memory limits of the live ones together, in bytes.
    pub memory_bytes_committed: u64,
}

/// Whether a node can run instances on an executor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorStatus {
    /// Which executor.
    pub kind: ExecutorKind,
    /// Why it can't be used here, and how to change that. `None`: it can.
    pub unavailable: Option<String>,
}

/// What a node says of itself when it attends a control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Which node.
    pub id: NodeId,
    /// Which run of its agent.
    pub run: RunId,
    /// Where its agent listens, e.g. `https://10.0.0.2:7119`; empty: within the control plane's process.
    pub address: String,
    /// The version of Wasmatrix it runs.
    pub version: String,
    /// The protocol it speaks.
    pub protocol: ProtocolVersion,
    /// Since when this run is.
    pub started_at: Timestamp,
    /// What its operator says of it.
    pub labels: Labels,
    /// What it can run; for an executor it can't, why not.
    pub executors: Vec<ExecutorStatus>,
    /// What it offers to guests.
    pub providers: Vec<ProviderStatus>,
    /// How much it takes.
    pub capacity: Capacity,
    /// It was told to take no new instances.
    pub cordoned: bool,
}

/// A node as it describes itself, and as the control plane sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Which node.
    pub id: NodeId,
    /// The version of Wasmatrix it runs.
    pub version: String,
    /// Since when.
    pub started_at: Timestamp,
    /// What it can run; for an executor it can't, why not.
    pub executors: Vec<ExecutorStatus>,
    /// What it offers to guests.
    pub providers: Vec<ProviderStatus>,
    /// Where its agent listens; empty: within the control plane's process.
    pub address: String,
    /// What its operator says of it.
    pub labels: Labels,
    /// How much it takes.
    pub capacity: Capacity,
    /// How much of it is taken.
    pub load: Load,
    /// Whether it can be heard.
    pub phase: NodePhase,
    /// It takes no new instances, because somebody said so.
    pub cordoned: bool,
    /// When it was last heard. `None`: it was not yet, or describes itself.
    pub last_seen_at: Option<Timestamp>,
    /// Why it is not ready, or can't be reached. `None`: it is and can.
    pub reason: Option<String>,
}
