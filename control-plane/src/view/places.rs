//! Where a record is found and counted: the orders by name and key, its node's load, its group.

use std::cmp::Ordering;

use wasmatrix_model::{InstanceId, Load};

use super::{View, record::Record};
use crate::slab::Slab;

impl View {
    /// Puts the record at `place` into every order and count.
    pub(super) fn enter(&mut self, place: u32) {
        self.count(place, true);
        let Some(record) = self.records.get(place) else { return };
        let by_name = |other| compare(&self.records, other, record);
        self.by_name.insert(place, by_name);
        if let Some(node) = self.nodes.get_mut(record.node) {
            node.instances.insert(place, by_name);
        }
        if record.idempotency_key().is_some() {
            self.by_key.insert(place, |other| compare_keys(&self.records, other, record));
        }
    }

    /// Takes the record at `place` out of every order and count.
    pub(super) fn leave(&mut self, place: u32) {
        self.count(place, false);
        let Some(record) = self.records.get(place) else { return };
        let by_name = |other| compare(&self.records, other, record);
        self.by_name.remove(place, by_name);
        if let Some(node) = self.nodes.get_mut(record.node) {
            node.instances.remove(place, by_name);
        }
        if record.idempotency_key().is_some() {
            self.by_key.remove(place, |other| compare_keys(&self.records, other, record));
        }
    }

    /// Counts the record at `place` in its node's load and in its group, or no longer.
    pub(super) fn count(&mut self, place: u32, counted: bool) {
        let Some(record) = self.records.get(place) else { return };
        let (Some(spec), Some(node)) = (self.specs.get(record.spec), self.nodes.get_mut(record.node)) else {
            return;
        };
        let live = u32::from(record.phase.is_live());
        let bytes = spec.memory_bytes_max * u64::from(live);
        let load = node.load;
        node.load = if counted {
            Load {
                instances: load.instances + 1,
                instances_live: load.instances_live + live,
                memory_bytes_committed: load.memory_bytes_committed.saturating_add(bytes),
            }
        } else {
            Load {
                instances: load.instances - 1,
                instances_live: load.instances_live - live,
                memory_bytes_committed: load.memory_bytes_committed.saturating_sub(bytes),
            }
        };
        if let Some(group) = spec.group.as_ref().filter(|_| record.is_alive()) {
            let members = self.groups.entry(group.clone()).or_default();
            let on_node = members.entry(record.node).or_default();
            *on_node = if counted { *on_node + 1 } else { *on_node - 1 };
            if *on_node == 0 {
                members.remove(&record.node);
            }
            if members.is_empty() {
                self.groups.remove(group);
            }
        }
    }
}

/// How the record at `place` stands to another, in the order of names.
fn compare(records: &Slab<Record>, place: u32, other: &Record) -> Ordering {
    records.get(place).map_or(Ordering::Less, |record| record.key().cmp(&other.key()))
}

/// How the record at `place` stands to another, in the order of idempotency keys.
fn compare_keys(records: &Slab<Record>, place: u32, other: &Record) -> Ordering {
    fn key(record: &Record) -> (Option<&str>, InstanceId) {
        (record.idempotency_key(), record.id)
    }
    records.get(place).map_or(Ordering::Less, |record| key(record).cmp(&key(other)))
}
