//! Remembers the last that each node told of each of its instances, and finds them by name, id and node.
//!
//! A mirror, and nothing but: it decides nothing, wants nothing, asks nobody, and has no clock. Two sources fill it:
//!
//! ```text
//!          stream of changes                       answers to calls
//!  reset ► upsert… remove… ► synced ► upsert…      upsert, remove; early or late
//!          └──── a round ───┘                      (a client reads its own writes)
//! ```
//!
//! The stream is told in order, and can be cut anywhere: it goes on after its last token, or begins a new round with a
//! reset. Answers come in any order, and must not bring back what the stream knows better. So of two statuses of an
//! instance the one with the higher revision counts; what was removed stays removed, for no id is given twice; an
//! answer older than the last whole listing, about what was not on it, counts for nothing; and neither does what was
//! said in another run of the agent.
//!
//! A node that can't be asked makes what lived there unknown: that is said of the node, once, and shows in every status
//! that is read.
//!
//! A million instances take a few hundred bytes each: the spec is kept once for all that were made alike, the rest is
//! kept encoded, and the orders by name hold numbers only.
//!
//! | module | what it does |
//! |---|---|
//! | [`reading`] | finds, pages, counts |
//! | [`lineage`] | knows which instances were succeeded, and so which copies are stale |
//! | [`places`] | where a record is found and counted |
//! | [`record`] | an instance in few bytes |
//! | [`order`] | sorted numbers, which stand for places |

mod lineage;
mod order;
mod places;
mod reading;
mod record;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};

use wasmatrix_model::{
    InstanceId, InstanceName, InstanceStatus, Load, NodeId, Phase, RunId, Timestamp, Unknown,
};

use lineage::Lineage;
pub use lineage::Stale;
use order::Order;
pub use reading::{Found, Members, Page, PageToken};
use record::{Record, Rounds, Specs};

use crate::slab::Slab;

/// Most instances that are remembered. More are refused.
pub const INSTANCES_MAX: usize = 1 << 24;
/// Most instances that one node may list. More are refused.
pub const NODE_INSTANCES_MAX: u32 = 1 << 18;
/// Most instances of one name that one node may list. An agent has one at a time; while the word of a removal is on its
/// way, it seems to have more. Whatever is looked up by name is so bounded, whatever a node says.
pub const NAMESAKES_MAX: usize = 64;
/// How many removed instances are remembered as such, for longer than any answer is late.
const REMOVED_MAX: usize = 1 << 16;

/// See the module's head.
#[derive(Debug, Default)]
pub struct View {
    nodes: Slab<Node>,
    node_by_id: HashMap<NodeId, u32>,
    records: Slab<Record>,
    by_id: HashMap<InstanceId, u32>,
    by_name: Order,
    by_key: Order,
    specs: Specs,
    groups: HashMap<InstanceName, HashMap<u32, u32>>,
    removed: Removed,
    lineage: Lineage,
}

#[derive(Debug)]
struct Node {
    id: NodeId,
    run: RunId,
    /// Counts the resets.
    round: u32,
    /// The first round of this run.
    run_since: u32,
    synced: bool,
    /// At this revision, all that there was has been listed: what was not on it has ended or begun since.
    listed_through: u64,
    unknown: Option<Silence>,
    instances: Order,
    load: Load,
}

#[derive(Debug)]
struct Silence {
    since: Timestamp,
    reason: String,
}

/// Instances that were removed lately.
#[derive(Debug, Default)]
struct Removed {
    ids: HashSet<InstanceId>,
    oldest_first: VecDeque<InstanceId>,
}

impl Removed {
    fn contains(&self, id: InstanceId) -> bool {
        self.ids.contains(&id)
    }

    fn remember(&mut self, id: InstanceId) {
        if !self.ids.insert(id) {
            return;
        }
        self.oldest_first.push_back(id);
        if self.oldest_first.len() > REMOVED_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

/// Where a piece of news comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The node's stream of changes.
    Stream,
    /// The answer to a call.
    Answer,
}

/// What came of a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The instance was not listed before.
    New,
    /// It was.
    Updated,
    /// Something later is known: nothing was changed.
    Outdated,
    /// The node has no right to say so: nothing was changed. Why, in words.
    Refused(&'static str),
}

/// An instance that a node listed before and lists no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The last that was told of it.
    pub status: InstanceStatus,
    /// It was of an earlier run of the agent, which ended without a word about it. `false`: somebody removed it.
    pub lost: bool,
    /// The later generation of it that exists already.
    pub succeeded: Option<u64>,
}

impl View {
    /// The node begins to tell everything anew, as `run`. What was told before stays until [`View::synced`]. To be called
    /// when the stream says so, and as soon as another run is known of: from then on answers of the earlier run count
    /// for nothing.
    pub fn reset(&mut self, node: &NodeId, run: RunId) {
        let place = self.node_or_new(node, run);
        let Some(node) = self.nodes.get_mut(place) else { return };
        node.round += 1;
        node.synced = false;
        if node.run != run {
            node.run = run;
            node.run_since = node.round;
            node.listed_through = 0;
        }
    }

    /// The node told, in its run `run`, how one of its instances is.
    pub fn upsert(&mut self, node: &NodeId, run: RunId, source: Source, status: InstanceStatus) -> Change {
        if status.node != *node {
            return Change::Refused("it speaks for another node");
        }
        if status.phase == Phase::Unknown {
            return Change::Refused("it says of its own instance that nobody can tell how it is");
        }
        let place = self.node_or_new(node, run);
        let listed = self.by_id.get(&status.id).copied();
        let Some(node) = self.nodes.get_mut(place) else { return Change::Outdated };
        if node.run != run {
            return Change::Outdated;
        }
        let late = source == Source::Answer && status.revision <= node.listed_through;
        let lists = node.load.instances;
        match listed {
            None if late || self.removed.contains(status.id) => Change::Outdated,
            None if self.by_id.len() >= INSTANCES_MAX => Change::Refused("too many instances are listed"),
            None if lists >= NODE_INSTANCES_MAX => Change::Refused("it lists more instances than a node may"),
            None if self.namesakes(place, &status.spec.name) >= NAMESAKES_MAX => {
                Change::Refused("it lists more instances of one name than it can have")
            }
            None => {
                self.insert(place, source, status);
                Change::New
            }
            Some(record) => self.update(place, record, source, status),
        }
    }

    /// How many instances of that name a node lists.
    fn namesakes(&self, node: u32, name: &InstanceName) -> usize {
        self.records_named(name).filter(|record| record.node == node).count()
    }

    fn insert(&mut self, node: u32, source: Source, status: InstanceStatus) {
        let round = self.nodes.get(node).map_or(0, |node| node.round);
        let told_in = if source == Source::Answer { 0 } else { round };
        self.lineage.learn(&status);
        let record = self.specs.record(node, Rounds { told_in, updated_in: round }, status);
        let id = record.id;
        let place = self.records.insert(record);
        self.by_id.insert(id, place);
        self.enter(place);
    }

    fn update(&mut self, node: u32, place: u32, source: Source, status: InstanceStatus) -> Change {
        let (Some(known), Some(teller)) = (self.records.get_mut(place), self.nodes.get(node)) else {
            return Change::Outdated;
        };
        if known.node != node {
            return Change::Refused("another node lists that instance");
        }
        if known.name != status.spec.name {
            return Change::Refused("an instance keeps its name");
        }
        if source != Source::Answer {
            known.told_in = teller.round;
        }
        let of_this_run = known.updated_in >= teller.run_since;
        // A state comes before its revision, so of the same revision the stream may have told a later state already.
        let is_news = match source {
            Source::Stream => status.revision >= known.revision,
            Source::Answer => status.revision > known.revision,
        };
        if of_this_run && !is_news {
            return Change::Outdated;
        }
        let rounds = Rounds { told_in: known.told_in, updated_in: teller.round };
        let old_spec = known.spec;
        let record = self.specs.record(node, rounds, status);
        let in_order = known.key() == record.key() && known.idempotency_key() == record.idempotency_key();
        if in_order {
            self.count(place, false);
        } else {
            self.leave(place);
        }
        if let Some(known) = self.records.get_mut(place) {
            *known = record;
        }
        self.specs.release(old_spec);
        if in_order {
            self.count(place, true);
        } else {
            self.enter(place);
        }
        Change::Updated
    }

    /// The node told, in its run `run`, by the stream or by an answer, that it lists an instance no longer. What was last
    /// told of it, if it was listed.
    pub fn remove(&mut self, node: &NodeId, run: RunId, id: InstanceId) -> Option<InstanceStatus> {
        let place = *self.node_by_id.get(node)?;
        self.nodes.get(place).filter(|teller| teller.run == run)?;
        match self.by_id.get(&id).copied() {
            Some(record) if self.records.get(record).is_some_and(|record| record.node != place) => None,
            Some(record) => {
                self.lineage.settle(id);
                self.removed.remember(id);
                self.take_out(record)
            }
            None => {
                // A late answer may still tell of it.
                self.removed.remember(id);
                None
            }
        }
    }

    /// The node has told all that there is, up to the revision `through` (that of the message's resume token). The
    /// instances that it listed before, and not since the reset: they are gone. What is listed there is known again.
    pub fn synced(&mut self, node: &NodeId, run: RunId, through: u64) -> Vec<Gone> {
        let Some(place) = self.node_by_id.get(node).copied() else { return Vec::new() };
        let Some(teller) = self.nodes.get_mut(place).filter(|teller| teller.run == run) else {
            return Vec::new();
        };
        if !teller.synced {
            teller.listed_through = teller.listed_through.max(through);
        }
        teller.synced = true;
        teller.unknown = None;
        let (round, run_since) = (teller.round, teller.run_since);
        let untold = teller.instances.iter().filter_map(|place| {
            let record = self.records.get(place)?;
            let of_earlier_run = record.updated_in < run_since;
            // An answer can be ahead of the stream; then the stream will tell of it yet.
            let gone = record.told_in != round && (of_earlier_run || record.revision <= through);
            gone.then_some((place, of_earlier_run))
        });
        let untold: Vec<_> = untold.collect();
        let gone = untold.into_iter().filter_map(|(place, lost)| {
            let succeeded = self.records.get(place).and_then(|record| self.later_generation(record));
            let status = self.take_out(place)?;
            self.lineage.settle(status.id);
            self.removed.remember(status.id);
            Some(Gone { status, lost, succeeded })
        });
        gone.collect()
    }

    /// The node can't be asked any more. The instances that this makes unknown, as they are now told: those that lived, or
    /// would have been started again. None, if it was known already.
    pub fn unknown(&mut self, node: &NodeId, since: Timestamp, reason: &str) -> Vec<InstanceStatus> {
        let Some(place) = self.node_by_id.get(node) else { return Vec::new() };
        let Some(silent) = self.nodes.get_mut(*place) else { return Vec::new() };
        if silent.unknown.is_some() {
            return Vec::new();
        }
        silent.unknown = Some(Silence { since, reason: reason.to_owned() });
        let (nodes, records) = (&self.nodes, &self.records);
        let instances = nodes.get(*place).into_iter().flat_map(|node| node.instances.iter());
        let alive = instances.filter(|place| records.get(*place).is_some_and(Record::is_alive));
        alive.filter_map(|place| self.status(place)).collect()
    }

    /// The node can be asked again, and nothing was missed. [`View::synced`] says so too.
    pub fn known(&mut self, node: &NodeId) {
        let place = self.node_by_id.get(node);
        if let Some(node) = place.and_then(|place| self.nodes.get_mut(*place)) {
            node.unknown = None;
        }
    }

    /// Forgets a node, and the instances that it listed: these, as they were told at the end. Which of them were succeeded
    /// stays known, should the node return.
    pub fn forget(&mut self, node: &NodeId) -> Vec<InstanceStatus> {
        let Some(place) = self.node_by_id.get(node).copied() else { return Vec::new() };
        let instances: Vec<_> =
            self.nodes.get(place).into_iter().flat_map(|node| node.instances.iter()).collect();
        let forgotten = instances.into_iter().filter_map(|instance| self.take_out(instance)).collect();
        self.node_by_id.remove(node);
        self.nodes.remove(place);
        forgotten
    }

    fn node_or_new(&mut self, id: &NodeId, run: RunId) -> u32 {
        if let Some(place) = self.node_by_id.get(id) {
            return *place;
        }
        let place = self.nodes.insert(Node {
            id: id.clone(),
            run,
            round: 1,
            run_since: 1,
            synced: false,
            listed_through: 0,
            unknown: None,
            instances: Order::default(),
            load: Load::default(),
        });
        self.node_by_id.insert(id.clone(), place);
        place
    }

    /// The status of the instance at `place`, as it is to be told: unknown, if its node can't be asked.
    fn status(&self, place: u32) -> Option<InstanceStatus> {
        let record = self.records.get(place)?;
        let node = self.nodes.get(record.node)?;
        let mut status = record.status(&node.id, &self.specs)?;
        if let Some(Silence { since, reason }) = &node.unknown
            && record.is_alive()
        {
            status.unknown =
                Some(Unknown { since: *since, last_phase: status.phase, reason: reason.clone() });
            status.phase = Phase::Unknown;
        }
        Some(status)
    }

    /// Forgets the instance at `place`.
    fn take_out(&mut self, place: u32) -> Option<InstanceStatus> {
        let status = self.status(place);
        self.leave(place);
        let record = self.records.remove(place)?;
        self.specs.release(record.spec);
        self.by_id.remove(&record.id);
        status
    }
}
