//! One instance as the view remembers it: what is looked at as it is, the rest encoded, what is shared kept once.

use std::{collections::HashMap, sync::Arc};

use wasmatrix_model::{InstanceId, InstanceName, InstanceSpec, InstanceStatus, NodeId, OnNodeLoss, Phase};
use wasmatrix_wire::packed::{self, Head};

use crate::slab::Slab;

/// An instance. About 100 bytes, and what its boxes hold.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) id: InstanceId,
    pub(super) name: InstanceName,
    rest: Box<[u8]>,
    idempotency_key: Option<Box<str>>,
    pub(super) revision: u64,
    pub(super) generation: u64,
    /// Its place among the nodes.
    pub(super) node: u32,
    /// Its place among the specs.
    pub(super) spec: u32,
    /// The round of its node in which the stream last told of it.
    pub(super) told_in: u32,
    /// The round of its node in which this status came, by whatever way.
    pub(super) updated_in: u32,
    pub(super) phase: Phase,
    /// It is ended, and will be started again by its restart policy.
    returns: bool,
    grants_as_asked: bool,
}

impl Record {
    /// What the orders go by.
    pub(super) fn key(&self) -> (&InstanceName, InstanceId) {
        (&self.name, self.id)
    }

    /// The key of the start request, if it had one.
    pub(super) fn idempotency_key(&self) -> Option<&str> {
        self.idempotency_key.as_deref()
    }

    /// Whether its state can change by itself: its code may be running, or will be.
    pub(super) fn is_alive(&self) -> bool {
        self.phase.is_live() || self.returns
    }

    /// The status that was told. `None` can't be: what was packed can be unpacked, and a property of the wire says so.
    pub(super) fn status(&self, node: &NodeId, specs: &Specs) -> Option<InstanceStatus> {
        let head = Head {
            id: self.id,
            node: node.clone(),
            name: self.name.clone(),
            phase: self.phase,
            generation: self.generation,
            revision: self.revision,
            idempotency_key: self.idempotency_key.as_deref().map(str::to_owned),
            grants_as_asked: self.grants_as_asked,
        };
        packed::unpack(head, &specs.get(self.spec)?.bytes, &self.rest).ok()
    }
}

/// A spec without its name, as many instances have it that were made alike.
#[derive(Debug)]
pub(super) struct SharedSpec {
    bytes: Arc<[u8]>,
    holders: u32,
    pub(super) memory_bytes_max: u64,
    pub(super) group: Option<InstanceName>,
    pub(super) on_node_loss: OnNodeLoss,
}

/// Each spec that an instance has, once.
#[derive(Debug, Default)]
pub(super) struct Specs {
    specs: Slab<SharedSpec>,
    by_bytes: HashMap<Arc<[u8]>, u32>,
}

/// What is taken from a spec before it is packed.
struct Looked {
    memory_bytes_max: u64,
    group: Option<InstanceName>,
    on_node_loss: OnNodeLoss,
}

impl Specs {
    pub(super) fn get(&self, place: u32) -> Option<&SharedSpec> {
        self.specs.get(place)
    }

    /// The record of a status, at whose spec another holder is counted.
    pub(super) fn record(&mut self, node: u32, rounds: Rounds, status: InstanceStatus) -> Record {
        let returns = !status.phase.is_live() && status.next_restart_at.is_some();
        let looked = Looked::at(&status.spec);
        let (head, packed) = packed::pack(status);
        Record {
            id: head.id,
            name: head.name,
            rest: packed.rest.into(),
            idempotency_key: head.idempotency_key.map(Into::into),
            revision: head.revision,
            generation: head.generation,
            node,
            spec: self.hold(packed.spec, looked),
            told_in: rounds.told_in,
            updated_in: rounds.updated_in,
            phase: head.phase,
            returns,
            grants_as_asked: head.grants_as_asked,
        }
    }

    fn hold(&mut self, bytes: Vec<u8>, looked: Looked) -> u32 {
        if let Some(place) = self.by_bytes.get(bytes.as_slice()).copied()
            && let Some(spec) = self.specs.get_mut(place)
        {
            spec.holders += 1;
            return place;
        }
        let bytes: Arc<[u8]> = bytes.into();
        let Looked { memory_bytes_max, group, on_node_loss } = looked;
        let shared =
            SharedSpec { bytes: Arc::clone(&bytes), holders: 1, memory_bytes_max, group, on_node_loss };
        let place = self.specs.insert(shared);
        self.by_bytes.insert(bytes, place);
        place
    }

    /// One holder less; without any, the spec is forgotten.
    pub(super) fn release(&mut self, place: u32) {
        let Some(spec) = self.specs.get_mut(place) else { return };
        spec.holders -= 1;
        if spec.holders == 0
            && let Some(spec) = self.specs.remove(place)
        {
            self.by_bytes.remove(&spec.bytes);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_bytes.len()
    }
}

impl Looked {
    fn at(spec: &InstanceSpec) -> Self {
        Self {
            memory_bytes_max: spec.limits.memory_bytes_max,
            group: spec.placement.group.clone(),
            on_node_loss: spec.placement.on_node_loss,
        }
    }
}

/// When a status came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rounds {
    pub(super) told_in: u32,
    pub(super) updated_in: u32,
}
