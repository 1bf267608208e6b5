//! The entries in the file.
//!
//! | table | key | value |
//! |---|---|---|
//! | `entries` | space, bucket, key | version, value |
//! | `counters` | name | number |

use std::ops::Bound;

use bytes::Bytes;
use redb::{ReadableTable, TableDefinition};
use wasmatrix_executor_api::{Version, Versioned};
use wasmatrix_model::Key;

use crate::kv::table::{Bucket, Counter, Fault, Table, View};

type EntryKey = (&'static str, &'static str, &'static str);
type EntryValue = (u64, &'static [u8]);

pub(super) const ENTRIES: TableDefinition<'static, EntryKey, EntryValue> = TableDefinition::new("entries");
pub(super) const COUNTERS: TableDefinition<'static, &str, u64> = TableDefinition::new("counters");
/// The counter that says which layout the tables have. No [`Counter`] has that name.
pub(super) const FORMAT: &str = "format";

/// A failure of redb's, as the semantics see it.
pub(super) fn fault(error: impl Into<redb::Error>) -> Fault {
    Fault { cause: error.into().to_string() }
}

/// The entries, in any kind of transaction.
pub(super) struct Entries<T>(pub(super) T);

impl<T: ReadableTable<EntryKey, EntryValue>> View for Entries<T> {
    fn get(&self, bucket: &Bucket, key: &Key) -> Result<Option<Versioned>, Fault> {
        let found = self.0.get(row(bucket, key.as_str())).map_err(fault)?;
        Ok(found.map(|entry| {
            let (version, value) = entry.value();
            Versioned { version: Version(version), value: Bytes::copy_from_slice(value) }
        }))
    }

    fn value_bytes(&self, bucket: &Bucket, key: &Key) -> Result<Option<usize>, Fault> {
        let found = self.0.get(row(bucket, key.as_str())).map_err(fault)?;
        Ok(found.map(|entry| entry.value().1.len()))
    }

    fn keys_after(&self, bucket: &Bucket, after: Option<&Key>, keys_max: usize) -> Result<Vec<Key>, Fault> {
        // No key is empty, so nothing is lost by leaving out the row of the empty key.
        let first = Bound::Excluded(row(bucket, after.map_or("", Key::as_str)));
        let rows = self.0.range::<(&str, &str, &str)>((first, Bound::Unbounded)).map_err(fault)?;
        let mut keys = Vec::new();
        for entry in rows.take(keys_max) {
            let (found, _) = entry.map_err(fault)?;
            let (space, name, key) = found.value();
            if (space, name) != (bucket.space.as_str(), bucket.name.as_str()) {
                break;
            }
            keys.push(key.parse().map_err(|_| Fault { cause: format!("`{key}` is stored and is no key") })?);
        }
        Ok(keys)
    }
}

fn row<'a>(bucket: &'a Bucket, key: &'a str) -> (&'a str, &'a str, &'a str) {
    (bucket.space.as_str(), bucket.name.as_str(), key)
}

/// The tables in a write transaction.
pub(super) struct WriteTables<'txn> {
    pub(super) entries: Entries<redb::Table<'txn, EntryKey, EntryValue>>,
    pub(super) counters: redb::Table<'txn, &'static str, u64>,
    /// Whether anything was put or removed: if nothing was, there is nothing to commit.
    pub(super) changed: bool,
}

impl View for WriteTables<'_> {
    fn get(&self, bucket: &Bucket, key: &Key) -> Result<Option<Versioned>, Fault> {
        self.entries.get(bucket, key)
    }

    fn value_bytes(&self, bucket: &Bucket, key: &Key) -> Result<Option<usize>, Fault> {
        self.entries.value_bytes(bucket, key)
    }

    fn keys_after(&self, bucket: &Bucket, after: Option<&Key>, keys_max: usize) -> Result<Vec<Key>, Fault> {
        self.entries.keys_after(bucket, after, keys_max)
    }
}

impl Table for WriteTables<'_> {
    fn put(&mut self, bucket: &Bucket, key: &Key, entry: Versioned) -> Result<(), Fault> {
        self.changed = true;
        let value = (entry.version.0, entry.value.as_ref());
        self.entries.0.insert(row(bucket, key.as_str()), value).map_err(fault)?;
        Ok(())
    }

    fn remove(&mut self, bucket: &Bucket, key: &Key) -> Result<(), Fault> {
        self.changed = true;
        self.entries.0.remove(row(bucket, key.as_str())).map_err(fault)?;
        Ok(())
    }

    fn counter(&self, counter: Counter<'_>) -> Result<u64, Fault> {
        let found = self.counters.get(&*counter.name()).map_err(fault)?;
        Ok(found.map_or(0, |number| number.value()))
    }

    fn set_counter(&mut self, counter: Counter<'_>, value: u64) -> Result<(), Fault> {
        if value == 0 {
            self.counters.remove(&*counter.name()).map_err(fault)?;
        } else {
            self.counters.insert(&*counter.name(), value).map_err(fault)?;
        }
        Ok(())
    }
}
