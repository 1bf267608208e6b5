//! The backend that forgets: a lock around a map.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{PoisonError, RwLock},
};

use async_trait::async_trait;
use wasmatrix_executor_api::{KvReply, Versioned};
use wasmatrix_model::Key;

use super::{
    KvLimits, Store,
    error::KvError,
    operation::{Read, Write},
    semantics,
    table::{Bucket, Counter, Fault, Table, View},
};

pub(super) struct MemoryStore {
    /// `None` once it was shut down.
    entries: RwLock<Option<Entries>>,
    limits: KvLimits,
}

/// Empty buckets and counters of zero are not kept, so that what was freed is free.
#[derive(Debug, Default)]
struct Entries {
    buckets: BTreeMap<Bucket, BTreeMap<Key, Versioned>>,
    counters: BTreeMap<String, u64>,
}

impl MemoryStore {
    pub(super) fn new(limits: KvLimits) -> Self {
        Self { entries: RwLock::new(Some(Entries::default())), limits }
    }
}

// The lock is never held across an await, and poison means nothing: a write that panicked had panicked before its
// first change, since changing a map does not panic.
#[async_trait]
impl Store for MemoryStore {
    fn backend(&self) -> &'static str {
        "memory"
    }

    async fn read(&self, bucket: Bucket, read: Read) -> Result<KvReply, KvError> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        semantics::read(entries.as_ref().ok_or(KvError::Closed)?, &bucket, read, &self.limits)
    }

    async fn write(&self, bucket: Bucket, write: Write) -> Result<KvReply, KvError> {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        semantics::write(entries.as_mut().ok_or(KvError::Closed)?, &bucket, write, &self.limits)
    }

    async fn shutdown(&self) {
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl View for Entries {
    fn get(&self, bucket: &Bucket, key: &Key) -> Result<Option<Versioned>, Fault> {
        Ok(self.buckets.get(bucket).and_then(|entries| entries.get(key)).cloned())
    }

    fn value_bytes(&self, bucket: &Bucket, key: &Key) -> Result<Option<usize>, Fault> {
        Ok(self.buckets.get(bucket).and_then(|entries| entries.get(key)).map(|entry| entry.value.len()))
    }

    fn keys_after(&self, bucket: &Bucket, after: Option<&Key>, keys_max: usize) -> Result<Vec<Key>, Fault> {
        let Some(entries) = self.buckets.get(bucket) else { return Ok(Vec::new()) };
        let first = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(entries.range((first, Bound::Unbounded)).map(|(key, _)| key.clone()).take(keys_max).collect())
    }
}

impl Table for Entries {
    fn put(&mut self, bucket: &Bucket, key: &Key, entry: Versioned) -> Result<(), Fault> {
        self.buckets.entry(bucket.clone()).or_default().insert(key.clone(), entry);
        Ok(())
    }

    fn remove(&mut self, bucket: &Bucket, key: &Key) -> Result<(), Fault> {
        if let Some(entries) = self.buckets.get_mut(bucket) {
            entries.remove(key);
            if entries.is_empty() {
                self.buckets.remove(bucket);
            }
        }
        Ok(())
    }

    fn counter(&self, counter: Counter<'_>) -> Result<u64, Fault> {
        Ok(self.counters.get(&*counter.name()).copied().unwrap_or(0))
    }

    fn set_counter(&mut self, counter: Counter<'_>, value: u64) -> Result<(), Fault> {
        if value == 0 {
            self.counters.remove(&*counter.name());
        } else {
            self.counters.insert(counter.name().into_owned(), value);
        }
        Ok(())
    }
}
