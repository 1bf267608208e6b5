//! Why a node will not do, for programs, and in one message that a person can act on.

use std::{collections::BTreeMap, fmt};

use bytesize::ByteSize;
use wasmatrix_model::{
    Capability, ErrorCode, ExecutorKind, InstanceName, InstanceSpec, NodeId, ProviderPhase,
};

/// How many nodes a message names; the others are counted.
const NODES_NAMED_MAX: usize = 10;
/// The most that is told of a reason which somebody else wrote, in characters.
const REASON_CHARS_MAX: usize = 200;

/// The question that a node failed, in the order in which they are asked: the later, the nearer it was to fitting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// The request names another node.
    NotAskedFor,
    /// It was silent for too long.
    Lost,
    /// It is silent for a while.
    Suspect,
    /// It is heard, but its agent can't be asked.
    Unreachable,
    /// Somebody closed it.
    Cordoned,
    /// The request leaves it out.
    Avoided,
    /// It lacks a label.
    Label,
    /// It can't run the executor.
    Executor,
    /// It has no running provider of a capability that the instance is granted.
    Provider,
    /// It has too little memory, or too little left.
    Memory,
    /// It lists as many instances as it takes.
    Instances,
}

impl Refusal {
    /// Whether waiting, or removing something, would help.
    pub const fn is_of_capacity(self) -> bool {
        matches!(self, Self::Memory | Self::Instances)
    }

    /// What is said where nodes are only counted.
    const fn counted(self) -> &'static str {
        match self {
            Self::NotAskedFor => "not asked for",
            Self::Lost => "lost",
            Self::Suspect => "silent",
            Self::Unreachable => "out of reach",
            Self::Cordoned => "cordoned",
            Self::Avoided => "left out",
            Self::Label => "without the label",
            Self::Executor => "without the executor",
            Self::Provider => "without the provider",
            Self::Memory => "short of memory",
            Self::Instances => "full",
        }
    }
}

/// A node that will not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which.
    pub node: NodeId,
    /// The first question that it failed.
    pub refusal: Refusal,
    /// That in words, to be read after the node's name, e.g. `is cordoned`.
    pub why: String,
}

/// No node fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplaceable {
    instance: InstanceName,
    wanted: Option<NodeId>,
    /// The nearest to fitting first, then by id.
    refused: Vec<Refused>,
}

impl std::error::Error for Unplaceable {}

impl Unplaceable {
    pub(super) fn new(spec: &InstanceSpec, mut refused: Vec<Refused>) -> Self {
        refused.sort_unstable_by(|one, other| {
            other.refusal.cmp(&one.refusal).then_with(|| one.node.cmp(&other.node))
        });
        Self { instance: spec.name.clone(), wanted: spec.placement.node.clone(), refused }
    }

    /// Every node, with the first reason against it: the nearest to fitting first.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// How it is told: RESOURCE_EXHAUSTED if every node that was in question is only short of room, else
    /// NODE_UNAVAILABLE.
    pub fn code(&self) -> ErrorCode {
        let mut in_question =
            self.refused.iter().map(|refused| refused.refusal).filter(|why| *why != Refusal::NotAskedFor);
        match in_question.next() {
            Some(first) if first.is_of_capacity() && in_question.all(Refusal::is_of_capacity) => {
                ErrorCode::ResourceExhausted
            }
            Some(_) | None => ErrorCode::NodeUnavailable,
        }
    }

    fn tell_of_wanted(&self, wanted: &NodeId, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Refused { why, .. }) = self.refused.iter().find(|refused| refused.node == *wanted) {
            return write!(f, "`{}` asks for the node {wanted}, which {why}", self.instance);
        }
        write!(f, "`{}` asks for the node {wanted}, which is not known here; there is: ", self.instance)?;
        for (index, Refused { node, .. }) in self.refused.iter().take(NODES_NAMED_MAX).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{node}")?;
        }
        match self.refused.len().saturating_sub(NODES_NAMED_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl fmt::Display for Unplaceable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instance = &self.instance;
        if self.refused.is_empty() {
            return write!(
                f,
                "no node can run `{instance}`, because there is none yet: add one with `wasmatrix join` on its machine"
            );
        }
        if let Some(wanted) = &self.wanted {
            return self.tell_of_wanted(wanted, f);
        }
        write!(f, "no node can run `{instance}`: ")?;
        let (named, others) = self.refused.split_at(NODES_NAMED_MAX.min(self.refused.len()));
        for (index, Refused { node, why, .. }) in named.iter().enumerate() {
            let semicolon = if index == 0 { "" } else { "; " };
            write!(f, "{semicolon}{node} {why}")?;
        }
        if others.is_empty() {
            return Ok(());
        }
        let mut counts = BTreeMap::<_, usize>::new();
        for Refused { refusal, .. } in others {
            *counts.entry(*refusal).or_default() += 1;
        }
        write!(f, "; and {} more: ", others.len())?;
        for (index, (refusal, count)) in counts.iter().rev().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{count} {}", refusal.counted())?;
        }
        Ok(())
    }
}

/// The first reason against a node, borrowed: most are looked at and never told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Why<'a> {
    NotAskedFor,
    Lost,
    Suspect,
    Unreachable(&'a str),
    Cordoned(&'a NodeId),
    Avoided,
    Label { key: &'a str, wanted: &'a str, has: Option<&'a str> },
    Executor { kind: ExecutorKind, reason: Option<&'a str> },
    Provider { capability: Capability, phase: Option<ProviderPhase> },
    Machine { needed_bytes: u64, total_bytes: u64 },
    Memory { needed_bytes: u64, committed_bytes: u64, max_bytes: u64 },
    Instances { listed: u32, max: u32 },
}

impl Why<'_> {
    pub(super) const fn refusal(&self) -> Refusal {
        match self {
            Self::NotAskedFor => Refusal::NotAskedFor,
            Self::Lost => Refusal::Lost,
            Self::Suspect => Refusal::Suspect,
            Self::Unreachable(_) => Refusal::Unreachable,
            Self::Cordoned(_) => Refusal::Cordoned,
            Self::Avoided => Refusal::Avoided,
            Self::Label { .. } => Refusal::Label,
            Self::Executor { .. } => Refusal::Executor,
            Self::Provider { .. } => Refusal::Provider,
            Self::Machine { .. } | Self::Memory { .. } => Refusal::Memory,
            Self::Instances { .. } => Refusal::Instances,
        }
    }
}

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAskedFor => f.write_str("was not asked for"),
            Self::Lost => f.write_str("is lost"),
            Self::Suspect => f.write_str("has not been heard for a while"),
            Self::Unreachable(reason) => write!(f, "can't be reached: {}", shown(reason)),
            Self::Cordoned(node) => write!(f, "is cordoned (`wasmatrix node uncordon {node}` opens it)"),
            Self::Avoided => f.write_str("was left out"),
            Self::Label { key, wanted, has: Some(has) } => {
                write!(f, "has the label {key}={has}, not {key}={wanted}")
            }
            Self::Label { key, wanted, has: None } => write!(f, "lacks the label {key}={wanted}"),
            Self::Executor { kind, reason: None } => write!(f, "has no executor {kind}"),
            Self::Executor { kind, reason: Some(reason) } => write!(f, "can't run {kind}: {}", shown(reason)),
            Self::Provider { capability, phase: None } => write!(f, "has no provider of {capability}"),
            Self::Provider { capability, phase: Some(phase) } => {
                write!(f, "has a provider of {capability} that is {}", phase.as_str())
            }
            Self::Machine { needed_bytes, total_bytes } => {
                let (needed, total) = (ByteSize(*needed_bytes), ByteSize(*total_bytes));
                write!(f, "has {total} of memory, less than its limit of {needed}")
            }
            Self::Memory { needed_bytes, committed_bytes, max_bytes } => {
                let (needed, max) = (ByteSize(*needed_bytes), ByteSize(*max_bytes));
                let left = ByteSize(max_bytes.saturating_sub(*committed_bytes));
                write!(f, "has {left} of {max} left for instances, less than its limit of {needed}")
            }
            Self::Instances { listed, max } => write!(f, "is full: it lists {listed} of {max} instances"),
        }
    }
}

fn shown(reason: &str) -> String {
    reason.chars().take(REASON_CHARS_MAX).collect()
}
