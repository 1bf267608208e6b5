//! Which instances there are on this node, and which names are free. Kept in memory alone.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{Arc, PoisonError, RwLock},
};

use wasmatrix_model::{Digest, ExecutorKind, InstanceId, InstanceName};

use crate::instance::Instance;

/// The instances, by name and by id.
#[derive(Debug)]
pub(crate) struct Registry {
    inner: RwLock<Inner>,
    instances_max: u32,
}

#[derive(Debug, Default)]
struct Inner {
    by_name: BTreeMap<InstanceName, Arc<Instance>>,
    by_id: HashMap<InstanceId, Arc<Instance>>,
    /// Nothing is taken in any more.
    closed: bool,
}

/// Why an instance was not taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Another one has the name.
    NameTaken,
    /// The node lists as many as it may.
    Full,
    /// The node is being shut down.
    Closed,
}

impl Registry {
    pub(crate) fn new(instances_max: u32) -> Self {
        Self { inner: RwLock::default(), instances_max }
    }

    /// Takes an instance in, if its name is free and there is room.
    pub(crate) fn admit(&self, instance: &Arc<Instance>) -> Result<(), Refusal> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if inner.closed {
            return Err(Refusal::Closed);
        }
        if inner.by_name.contains_key(&instance.spec.name) {
            return Err(Refusal::NameTaken);
        }
        if inner.by_name.len() >= self.instances_max as usize {
            return Err(Refusal::Full);
        }
        inner.by_name.insert(instance.spec.name.clone(), Arc::clone(instance));
        inner.by_id.insert(instance.id, Arc::clone(instance));
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

    /// How many there are.
    pub(crate) fn len(&self) -> u32 {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        u32::try_from(inner.by_name.len()).unwrap_or(u32::MAX)
    }

    /// The most there may be.
    pub(crate) const fn instances_max(&self) -> u32 {
        self.instances_max
    }
}
