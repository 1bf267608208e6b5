//! The nodes as placement asks about them, kept in the order in which the rule prefers them, so that a start looks at
//! the first few however many there are.
//!
//! ```text
//!  what a node offers ─┐          ┌─ in order: those that take anything at all, the least loaded first
//!  what it lists ──────┼─► Board ─┤                                           └─ the first that fits is the choice
//!  starts under way ───┘          └─ all: asked only if none of these fits, for why each does not
//! ```
//!
//! It decides nothing: which node fits and which is preferred, [`super::place`] says, and a property holds the board to
//! its answers. It has no lock and no clock; [`crate::placing`] shares it.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use wasmatrix_model::{InstanceName, InstanceSpec, Labels, Load, NodeId, NodePhase, Registration};

use super::{Candidate, Request, Unplaceable, is_open, place, place_in_order, relative_load};
use crate::slab::Slab;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Board {
    rows: Slab<Row>,
    by_id: HashMap<Arc<NodeId>, u32>,
    /// The nodes that take anything at all.
    order: BTreeMap<Rank, u32>,
    no_labels: Labels,
}

/// What a node says of itself and what is said of it, as far as placement asks.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// What it last said of itself. `None`: it has not attended yet.
    pub(crate) registration: Option<Arc<Registration>>,
    /// Whether it is heard.
    pub(crate) phase: NodePhase,
    /// Why its agent can't be asked. `None`: it can.
    pub(crate) unreachable: Option<Arc<str>>,
    /// Whether somebody closed it to new instances.
    pub(crate) cordoned: bool,
}

impl Offer {
    /// Whether nothing has changed. A registration is another if it came in another message, whatever it says.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let registration = match (&self.registration, &other.registration) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        registration
            && (self.phase, self.cordoned, &self.unreachable)
                == (other.phase, other.cordoned, &other.unreachable)
    }
}

#[derive(Debug)]
struct Row {
    node: Arc<NodeId>,
    /// `None`: the node is not known; it still lists something, or a start is under way there.
    offer: Option<Offer>,
    listed: Load,
    /// What starts under way will take.
    reserved: Load,
    reserved_groups: HashMap<InstanceName, u32>,
    /// Its place in the order, if it has one.
    rank: Option<Rank>,
}

/// Where a node stands among those that fit, if it has none of the group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// The bits of its relative load. Of numbers that are not negative they are in the order of the numbers.
    load: u64,
    node: Arc<NodeId>,
}

impl Board {
    /// A node offers this from now on.
    pub(crate) fn offer(&mut self, node: &NodeId, offer: Offer) {
        self.change(node, |row| row.offer = Some(offer));
    }

    /// A node is not known any more.
    pub(crate) fn withdraw(&mut self, node: &NodeId) {
        self.change(node, |row| row.offer = None);
    }

    /// A node lists so much.
    pub(crate) fn list(&mut self, node: &NodeId, load: Load) {
        self.change(node, |row| row.listed = load);
    }

    /// Counts an instance whose start is under way, until [`Board::release`].
    pub(crate) fn reserve(&mut self, node: &NodeId, spec: &InstanceSpec) {
        self.change(node, |row| {
            row.reserved = sum(row.reserved, of_one(spec));
            if let Some(group) = &spec.placement.group {
                *row.reserved_groups.entry(group.clone()).or_default() += 1;
            }
        });
    }

    /// The start of an instance that was reserved is done, one way or the other.
    pub(crate) fn release(&mut self, node: &NodeId, spec: &InstanceSpec) {
        self.change(node, |row| {
            let (of_one, reserved) = (of_one(spec), row.reserved);
            row.reserved = Load {
                instances: reserved.instances.saturating_sub(of_one.instances),
                instances_live: reserved.instances_live.saturating_sub(of_one.instances_live),
                memory_bytes_committed: reserved
                    .memory_bytes_committed
                    .saturating_sub(of_one.memory_bytes_committed),
            };
            if let Some(group) = &spec.placement.group
                && let Some(count) = row.reserved_groups.get_mut(group)
            {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    row.reserved_groups.remove(group);
                }
            }
        });
    }

    /// Picks the node for a request, as [`place`] would among all that are known. `members` says how many of the
    /// request's group a node lists.
    ///
    /// # Errors
    /// No node fits: each with the first reason against it.
    pub(crate) fn place(
        &self,
        request: &Request<'_>,
        members: impl Fn(&NodeId) -> u32,
    ) -> Result<NodeId, Unplaceable> {
        let group = request.spec.placement.group.as_ref();
        let candidate = |row| self.candidate(row, group, &members);
        let chosen = match &request.spec.placement.node {
            Some(wanted) => place_in_order(self.row(wanted).and_then(candidate), request),
            None => {
                let rows = self.order.values().filter_map(|place| self.rows.get(*place));
                place_in_order(rows.filter_map(candidate), request)
            }
        };
        chosen.map_or_else(|| place(self.rows.iter().filter_map(candidate), request), Ok)
    }

    /// A node as the rule is asked about it, with what it has of that group.
    fn candidate<'a>(
        &'a self,
        row: &'a Row,
        group: Option<&InstanceName>,
        listed: &impl Fn(&NodeId) -> u32,
    ) -> Option<Candidate<'a>> {
        let members = |group| {
            let reserved = row.reserved_groups.get(group).copied().unwrap_or(0);
            listed(&row.node).saturating_add(reserved)
        };
        row.candidate(&self.no_labels, group.map_or(0, members))
    }

    fn row(&self, node: &NodeId) -> Option<&Row> {
        self.rows.get(*self.by_id.get(node)?)
    }

    /// Changes what is known of a node, and puts it where it belongs after that.
    fn change(&mut self, node: &NodeId, change: impl FnOnce(&mut Row)) {
        let place = match self.by_id.get(node) {
            Some(place) => *place,
            None => {
                let node = Arc::new(node.clone());
                let place = self.rows.insert(Row::new(Arc::clone(&node)));
                self.by_id.insert(node, place);
                place
            }
        };
        let Some(row) = self.rows.get_mut(place) else { return };
        change(row);
        let rank = row
            .candidate(&self.no_labels, 0)
            .filter(is_open)
            .map(|candidate| Rank { load: relative_load(&candidate).to_bits(), node: Arc::clone(&row.node) });
        if rank != row.rank {
            if let Some(before) = row.rank.take() {
                self.order.remove(&before);
            }
            self.order.extend(rank.clone().map(|rank| (rank, place)));
            row.rank = rank;
        }
        if row.is_empty() {
            self.by_id.remove(node);
            self.rows.remove(place);
        }
    }
}

impl Row {
    fn new(node: Arc<NodeId>) -> Self {
        let (listed, reserved) = (Load::default(), Load::default());
        Self { node, offer: None, listed, reserved, reserved_groups: HashMap::new(), rank: None }
    }

    /// Whether nothing is known of the node any more.
    fn is_empty(&self) -> bool {
        self.offer.is_none() && (self.listed, self.reserved) == (Load::default(), Load::default())
    }

    fn candidate<'a>(&'a self, no_labels: &'a Labels, group_members: u32) -> Option<Candidate<'a>> {
        let offer = self.offer.as_ref()?;
        let said = offer.registration.as_deref();
        Some(Candidate {
            node: &self.node,
            phase: offer.phase,
            unreachable: offer.unreachable.as_deref(),
            cordoned: offer.cordoned,
            labels: said.map_or(no_labels, |said| &said.labels),
            executors: said.map_or(&[], |said| &said.executors),
            providers: said.map_or(&[], |said| &said.providers),
            capacity: said.map(|said| said.capacity).unwrap_or_default(),
            load: sum(self.listed, self.reserved),
            group_members,
        })
    }
}

/// What a start under way will take.
const fn of_one(spec: &InstanceSpec) -> Load {
    Load { instances: 1, instances_live: 1, memory_bytes_committed: spec.limits.memory_bytes_max }
}

const fn sum(one: Load, other: Load) -> Load {
    Load {
        instances: one.instances.saturating_add(other.instances),
        instances_live: one.instances_live.saturating_add(other.instances_live),
        memory_bytes_committed: one.memory_bytes_committed.saturating_add(other.memory_bytes_committed),
    }
}
