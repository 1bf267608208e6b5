//! Decides which node runs an instance, or says of each node why it can't.
//!
//! A pure rule over what is known of the nodes: no clock, no lock, no chance. First it is asked which nodes will do;
//! [`Refusal`] lists the questions in their order. Of those that will do, the one is taken
//!
//! 1. that has the fewest members of the instance's group,
//! 2. then that is loaded least, in proportion to what it takes,
//! 3. then whose id comes first.
//!
//! So the same nodes and the same request always give the same answer, and instances that are alike are spread.
//!
//! [`place`] looks at every node. The control plane keeps its nodes in the order of 2 and 3 on a `board`, and there the
//! first that fits is the one, or the first that has none of the group.

pub(crate) mod board;
mod refusal;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use wasmatrix_model::{
    Capacity, ExecutorStatus, InstanceSpec, Labels, Load, NodeId, NodePhase, ProviderPhase, ProviderStatus,
};

use refusal::Why;
pub use refusal::{Refusal, Refused, Unplaceable};

/// A node, as far as placement asks. Borrowed, so that ten thousand are looked at without a copy.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Which node.
    pub node: &'a NodeId,
    /// Whether it is heard.
    pub phase: NodePhase,
    /// Why its agent can't be asked. `None`: it can.
    pub unreachable: Option<&'a str>,
    /// Whether somebody closed it to new instances.
    pub cordoned: bool,
    /// What its operator says of it.
    pub labels: &'a Labels,
    /// What it can run.
    pub executors: &'a [ExecutorStatus],
    /// What it offers to guests.
    pub providers: &'a [ProviderStatus],
    /// How much it takes.
    pub capacity: Capacity,
    /// How much of it is taken, starts under way with it.
    pub load: Load,
    /// How many of the instance's group it has, starts under way with them.
    pub group_members: u32,
}

/// What a node is wanted for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The instance.
    pub spec: &'a InstanceSpec,
    /// Nodes that will not do, whatever they offer: the one that it is moved away from, those that were tried.
    pub avoid: &'a [NodeId],
}

/// Picks the node for `request`. The order of the candidates makes no difference. Looks at each candidate once if one
/// fits, twice if none does, and allocates only then.
///
/// # Errors
/// No node fits: each with the first reason against it.
pub fn place<'a>(
    candidates: impl IntoIterator<Item = Candidate<'a>> + Clone,
    request: &Request<'a>,
) -> Result<NodeId, Unplaceable> {
    let fitting = candidates.clone().into_iter().filter(|candidate| objection(candidate, request).is_none());
    if let Some(best) = fitting.min_by(preferred) {
        return Ok(best.node.clone());
    }
    let refused = candidates.into_iter().filter_map(|candidate| {
        let why = objection(&candidate, request)?;
        Some(Refused { node: candidate.node.clone(), refusal: why.refusal(), why: why.to_string() })
    });
    Err(Unplaceable::new(request.spec, refused.collect()))
}

/// Picks the node for `request` from candidates that come with the less loaded first, then by id: the one that [`place`]
/// would pick of them. Looks no further than it must. `None`: none fits.
fn place_in_order<'a>(
    candidates: impl IntoIterator<Item = Candidate<'a>>,
    request: &Request<'a>,
) -> Option<NodeId> {
    let mut best: Option<Candidate<'_>> = None;
    for candidate in candidates {
        let is_better = best.is_none_or(|best| candidate.group_members < best.group_members);
        if is_better && objection(&candidate, request).is_none() {
            best = Some(candidate);
            if candidate.group_members == 0 {
                break;
            }
        }
    }
    best.map(|best| best.node.clone())
}

/// Whether there can be a request for which a node will do.
fn is_open(candidate: &Candidate<'_>) -> bool {
    closed(candidate).is_none() && room(candidate).is_none()
}

/// The first reason against a node. `None`: it will do.
fn objection<'a>(candidate: &Candidate<'a>, request: &Request<'a>) -> Option<Why<'a>> {
    let placement = &request.spec.placement;
    if placement.node.as_ref().is_some_and(|wanted| wanted != candidate.node) {
        return Some(Why::NotAskedFor);
    }
    if let Some(why) = closed(candidate) {
        return Some(why);
    }
    if request.avoid.contains(candidate.node) {
        return Some(Why::Avoided);
    }
    if let Some((key, wanted)) = placement.labels.first_missing_in(candidate.labels) {
        return Some(Why::Label { key, wanted, has: candidate.labels.get(key) });
    }
    lacking(candidate, request.spec).or_else(|| full(candidate, request.spec))
}

/// Why the node takes nothing at present, whatever it is asked for.
fn closed<'a>(candidate: &Candidate<'a>) -> Option<Why<'a>> {
    match (candidate.phase, candidate.unreachable) {
        (NodePhase::Lost, _) => Some(Why::Lost),
        (NodePhase::Suspect, _) => Some(Why::Suspect),
        (NodePhase::Ready, Some(reason)) => Some(Why::Unreachable(reason)),
        (NodePhase::Ready, None) => candidate.cordoned.then_some(Why::Cordoned(candidate.node)),
    }
}

/// What the instance needs and the node does not offer.
fn lacking<'a>(candidate: &Candidate<'a>, spec: &'a InstanceSpec) -> Option<Why<'a>> {
    match candidate.executors.iter().find(|executor| executor.kind == spec.executor) {
        None => return Some(Why::Executor { kind: spec.executor, reason: None }),
        Some(ExecutorStatus { unavailable: Some(reason), .. }) => {
            return Some(Why::Executor { kind: spec.executor, reason: Some(reason) });
        }
        Some(ExecutorStatus { unavailable: None, .. }) => {}
    }
    spec.grants.iter().map(|grant| grant.capability()).find_map(|capability| {
        let mut offers = candidate.providers.iter().filter(|provider| provider.capability == capability);
        if offers.clone().any(|provider| provider.phase == ProviderPhase::Running) {
            return None;
        }
        Some(Why::Provider { capability, phase: offers.next().map(|provider| provider.phase) })
    })
}

/// What the instance needs and the node has no room for.
fn full<'a>(candidate: &Candidate<'a>, spec: &InstanceSpec) -> Option<Why<'a>> {
    let Candidate { capacity, load, .. } = candidate;
    let needed_bytes = spec.limits.memory_bytes_max;
    if capacity.memory_bytes_total != 0 && needed_bytes > capacity.memory_bytes_total {
        return Some(Why::Machine { needed_bytes, total_bytes: capacity.memory_bytes_total });
    }
    if let Some(max_bytes) = capacity.memory_bytes_max
        && needed_bytes > max_bytes.saturating_sub(load.memory_bytes_committed)
    {
        let committed_bytes = load.memory_bytes_committed;
        return Some(Why::Memory { needed_bytes, committed_bytes, max_bytes });
    }
    room(candidate)
}

/// Why not one instance more has a place there, however small it is.
fn room<'a>(candidate: &Candidate<'a>) -> Option<Why<'a>> {
    let Candidate { capacity, load, .. } = candidate;
    (load.instances >= capacity.instances_max)
        .then_some(Why::Instances { listed: load.instances, max: capacity.instances_max })
}

/// Which of two nodes that will do is the better: `Less`, the first.
fn preferred(one: &Candidate<'_>, other: &Candidate<'_>) -> Ordering {
    one.group_members
        .cmp(&other.group_members)
        .then_with(|| relative_load(one).total_cmp(&relative_load(other)))
        .then_with(|| one.node.cmp(other.node))
}

/// The greater of two shares: of the instances that the node takes, and of its memory. 0 is idle; memory may be
/// promised more than once, so it can exceed 1.
fn relative_load(candidate: &Candidate<'_>) -> f64 {
    let Candidate { capacity, load, .. } = candidate;
    let share = |taken: u64, of: u64| if of == 0 { 0.0 } else { taken as f64 / of as f64 };
    let memory_bytes = capacity.memory_bytes_max.unwrap_or(capacity.memory_bytes_total);
    share(load.instances_live.into(), capacity.instances_max.into())
        .max(share(load.memory_bytes_committed, memory_bytes))
}
