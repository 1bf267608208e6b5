//! Which instances there are on this node, and which names are free. Kept in memory alone.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{Arc, PoisonError, RwLock},
};

use wasmatrix_model::{Digest, ExecutorKind, InstanceId, InstanceName, Load};

use crate::{
    changes::{Journal, REMOVALS_KEPT},
    instance::Instance,
};

/// The instances, by name, by id and by the key of the request that started them.
#[derive(Debug)]
pub(crate) struct Registry {
    inner: RwLock<Inner>,
    room: Room,
    /// Written while `inner` is locked, so that it tells of instances in the order in which they came and went.
    journal: Arc<Journal>,
}

/// How much a node takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Most instances listed.
    pub(crate) instances_max: u32,
    /// The most that the memory limits of the instances that have not ended may be together, in bytes. `None`: any sum.
    pub(crate) memory_bytes_max: Option<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    by_name: BTreeMap<InstanceName, Arc<Instance>>,
    by_id: HashMap<InstanceId, Arc<Instance>>,
    by_key: HashMap<String, Arc<Instance>>,
    /// Nothing is taken in any more.
    closed: bool,
}

/// Why an instance was not taken in.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    /// A request with the same key started this one.
    Known(Arc<Instance>),
    /// Another one has the name.
    NameTaken,
    /// The node lists as many as it may.
    Full,
    /// The memory limits of those that have not ended leave this many bytes.
    NoMemory(u64),
    /// The node is being shut down.
    Closed,
}

impl Registry {
    pub(crate) fn new(room: Room) -> Self {
        Self::remembering(room, REMOVALS_KEPT)
    }

    /// One whose journal remembers so many removals.
    pub(crate) fn remembering(room: Room, removals_kept: usize) -> Self {
        Self { inner: RwLock::default(), room, journal: Arc::new(Journal::new(removals_kept)) }
    }

    /// What changed, and when.
    pub(crate) const fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Takes an instance in, if its name is free and there is room.
    pub(crate) fn admit(&self, instance: &Arc<Instance>) -> Result<(), Refusal> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = instance.idempotency_key().and_then(|key| inner.by_key.get(key)) {
            return Err(Refusal::Known(Arc::clone(known)));
        }
        if inner.closed {
            return Err(Refusal::Closed);
        }
        if inner.by_name.contains_key(&instance.spec.name) {
            return Err(Refusal::NameTaken);
        }
        if inner.by_name.len() >= self.room.instances_max as usize {
            return Err(Refusal::Full);
        }
        if let Some(max) = self.room.memory_bytes_max {
            let left = max.saturating_sub(inner.memory_bytes_promised());
            if instance.spec.limits.memory_bytes_max > left {
                return Err(Refusal::NoMemory(left));
            }
        }
        inner.by_name.insert(instance.spec.name.clone(), Arc::clone(instance));
        inner.by_id.insert(instance.id, Arc::clone(instance));
        if let Some(key) = instance.idempotency_key() {
            inner.by_key.insert(key.to_owned(), Arc::clone(instance));
        }
        instance.listed();
        Ok(())
    }

    /// Takes no more in, and gives all that there are: none that is not among them will ever come.
    pub(crate) fn close(&self) -> Vec<Arc<Instance>> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.closed = true;
        inner.by_name.values().cloned().collect()
    }

    /// Forgets an instance. `false`: it was forgotten before.
    pub(crate) fn forget(&self, instance: &Instance) -> bool {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if inner.by_id.remove(&instance.id).is_none() {
            return false;
        }
        inner.by_name.remove(&instance.spec.name);
        if let Some(key) = instance.idempotency_key() {
            inner.by_key.remove(key);
        }
        self.journal.removed(instance.id);
        true
    }

    /// The instance of that name or id.
    pub(crate) fn find(&self, name_or_id: &str) -> Option<Arc<Instance>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let by_name = name_or_id.parse().ok().and_then(|name: InstanceName| inner.by_name.get(&name));
        let found =
            by_name.or_else(|| name_or_id.parse().ok().and_then(|id: InstanceId| inner.by_id.get(&id)));
        found.cloned()
    }

    /// The instance of that id.
    pub(crate) fn by_id(&self, id: InstanceId) -> Option<Arc<Instance>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).by_id.get(&id).cloned()
    }

    /// The instance that was started by a request with that key.
    pub(crate) fn by_key(&self, key: &str) -> Option<Arc<Instance>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).by_key.get(key).cloned()
    }

    /// Up to `count` instances in the order of their names, those after `after`.
    pub(crate) fn page(&self, after: Option<&InstanceName>, count: usize) -> Vec<Arc<Instance>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        inner
            .by_name
            .range((from, Bound::Unbounded))
            .take(count)
            .map(|(_, instance)| Arc::clone(instance))
            .collect()
    }

    /// An instance that has this artifact ready on this executor.
    pub(crate) fn with_prepared(&self, digest: Digest, executor: ExecutorKind) -> Option<Arc<Instance>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let same = |instance: &&Arc<Instance>| {
            instance.spec.digest == digest
                && instance.spec.executor == executor
                && instance.prepared().is_some()
        };
        inner.by_name.values().find(same).cloned()
    }

    /// How much of the node is taken.
    pub(crate) fn load(&self) -> Load {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let mut load = Load { instances: count(inner.by_name.len()), ..Load::default() };
        for instance in inner.by_name.values().filter(|instance| instance.phase().is_live()) {
            load.instances_live += 1;
            let bytes = instance.spec.limits.memory_bytes_max;
            load.memory_bytes_committed = load.memory_bytes_committed.saturating_add(bytes);
        }
        load
    }

    /// How much there may be.
    pub(crate) const fn room(&self) -> Room {
        self.room
    }
}

impl Inner {
    /// The memory limits of those that run or will run again, together, in bytes.
    fn memory_bytes_promised(&self) -> u64 {
        let lasting = self.by_name.values().filter(|instance| !instance.is_final());
        lasting.fold(0, |sum: u64, instance| sum.saturating_add(instance.spec.limits.memory_bytes_max))
    }
}

fn count(instances: usize) -> u32 {
    u32::try_from(instances).unwrap_or(u32::MAX)
}
