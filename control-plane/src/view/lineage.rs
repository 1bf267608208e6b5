//! Which instances were succeeded by a later generation, and so which copies must not run any more.
//!
//! An instance is stale if it was replaced: somebody said so ([`View::succeeded`]), or a status names it as its
//! predecessor. Of more distant ancestors nothing may be left but their own record, when their node returns after a
//! control plane's restart; such a one is known by its name, its spec and an earlier generation, if it is of those that
//! may be restarted elsewhere. An instance of the generation just before another, which that other does not name, is
//! none of its ancestors, and is left alone.
//!
//! Stale is also the earlier of two that came of one request: its answer was lost, the control plane was killed, and
//! whoever asked again with the same key was given another one on a node that could be heard. Both may not run, and he
//! knows of the later one.

use std::collections::{HashMap, VecDeque};

use wasmatrix_model::{InstanceId, InstanceName, InstanceStatus, NodeId, OnNodeLoss};

use super::{View, record::Record};

/// Most succeeded instances that are remembered; the oldest is forgotten first. About 20 MB.
const SUCCEEDED_MAX: usize = 1 << 18;

/// A copy that must be ended, because a later generation of it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// Where it is listed.
    pub node: NodeId,
    /// Which instance.
    pub id: InstanceId,
    /// Its name.
    pub name: InstanceName,
    /// Its own generation.
    pub generation: u64,
    /// The later one; its own, if that has a twin.
    pub later: u64,
    /// The later instance that came of the same request.
    pub twin: Option<InstanceId>,
}

/// Instances that were succeeded, with the generation of the one that came after. Kept until the node that had an
/// instance says that it is gone.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    succeeded: HashMap<InstanceId, u64>,
    /// In the order in which they were learned, some of them settled since.
    learned: VecDeque<InstanceId>,
}

impl Lineage {
    /// Learns from a status whom it replaces.
    pub(super) fn learn(&mut self, status: &InstanceStatus) {
        if let Some(predecessor) = status.predecessor {
            self.remember(predecessor, status.generation);
        }
    }

    fn remember(&mut self, id: InstanceId, generation: u64) {
        if let Some(known) = self.succeeded.get_mut(&id) {
            *known = generation.max(*known);
            return;
        }
        self.succeeded.insert(id, generation);
        self.learned.push_back(id);
        while self.learned.len() > SUCCEEDED_MAX
            && let Some(oldest) = self.learned.pop_front()
        {
            self.succeeded.remove(&oldest);
        }
    }

    /// An instance is gone: an id is never given twice, so nothing need be known of it.
    pub(super) fn settle(&mut self, id: InstanceId) {
        self.succeeded.remove(&id);
    }
}

impl View {
    /// The instance `id` has been succeeded by one of this generation: its copy is stale from now on, wherever it is.
    pub fn succeeded(&mut self, id: InstanceId, generation: u64) {
        self.lineage.remember(id, generation);
    }

    /// The generation of the one that succeeded `id`, if it is known that one did.
    pub fn succeeded_by(&self, id: InstanceId) -> Option<u64> {
        let record = self.by_id.get(&id).and_then(|place| self.records.get(*place));
        match record {
            Some(record) => self.later_generation(record),
            None => self.lineage.succeeded.get(&id).copied(),
        }
    }

    /// The stale copies that a node lists. To be asked when it has told all that there is.
    pub fn stale(&self, node: &NodeId) -> Vec<Stale> {
        let place = self.node_by_id.get(node);
        let instances = place.and_then(|place| self.nodes.get(*place)).map(|node| node.instances.iter());
        let records = instances.into_iter().flatten().filter_map(|place| self.records.get(place));
        records.filter_map(|record| self.stale_copy(record)).collect()
    }

    /// The stale copies, on any node, that there are with the instance `id`: those that it came after, and itself, if it
    /// is one. To be asked whenever it was told of.
    pub fn overtaken_by(&self, id: InstanceId) -> Vec<Stale> {
        let record = self.by_id.get(&id).and_then(|place| self.records.get(*place));
        let name = record.map(|record| &record.name);
        let of_that_name = name.into_iter().flat_map(|name| self.records_named(name));
        of_that_name.filter_map(|record| self.stale_copy(record)).collect()
    }

    fn stale_copy(&self, record: &Record) -> Option<Stale> {
        let later = self.later_generation(record)?;
        let node = self.nodes.get(record.node)?.id.clone();
        let name = record.name.clone();
        let twin = self.twin(record).filter(|_| later == record.generation).map(|twin| twin.id);
        Some(Stale { node, id: record.id, name, generation: record.generation, later, twin })
    }

    /// The later instance that came of the same request as this one: ids sort by the time at which they were made.
    fn twin(&self, record: &Record) -> Option<&Record> {
        let key = record.idempotency_key()?;
        let twins = self.records_named(&record.name).filter(|other| {
            other.idempotency_key() == Some(key)
                && (other.spec, other.generation) == (record.spec, record.generation)
                && other.id > record.id
        });
        twins.max_by_key(|other| other.id)
    }

    /// The latest generation that came after this record's instance, or its own, if a later one came of its request.
    pub(super) fn later_generation(&self, record: &Record) -> Option<u64> {
        let told = self.lineage.succeeded.get(&record.id).copied();
        let told = told.max(self.twin(record).map(|twin| twin.generation));
        let movable =
            self.specs.get(record.spec).is_some_and(|spec| spec.on_node_loss == OnNodeLoss::RestartElsewhere);
        if !movable {
            return told;
        }
        let distant = self.records_named(&record.name).filter(|other| {
            other.spec == record.spec && other.generation > record.generation.saturating_add(1)
        });
        told.max(distant.map(|other| other.generation).max())
    }
}
