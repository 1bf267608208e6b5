//! A call, taken apart: which bucket it is about, and whether it reads or writes. What breaks a size limit goes no
//! further than this.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use wasmatrix_executor_api::{KvCall, Version};
use wasmatrix_model::Key;

use super::{KvLimits, error::KvError, table::Bucket};
use crate::Namespace;

/// What is asked of a bucket.
#[derive(Debug)]
pub(super) enum Operation {
    Read(Read),
    Write(Write),
}

/// Changes nothing.
#[derive(Debug)]
pub(super) enum Read {
    Get(Key),
    Exists(Key),
    Current(Key),
    List { after: Option<Key> },
    GetMany(Vec<Key>),
}

/// May change something. Of entries given twice under one key, the last counts.
#[derive(Debug)]
pub(super) enum Write {
    Put(BTreeMap<Key, Bytes>),
    Remove(BTreeSet<Key>),
    Increment { key: Key, delta: i64 },
    Swap { key: Key, expected: Option<Version>, value: Bytes },
}

impl Operation {
    pub(super) fn of(owner: &Namespace, call: KvCall, limits: &KvLimits) -> Result<(Bucket, Self), KvError> {
        let (name, operation) = match call {
            KvCall::Get { bucket, key } => (bucket, Self::Read(Read::Get(key))),
            KvCall::Exists { bucket, key } => (bucket, Self::Read(Read::Exists(key))),
            KvCall::Current { bucket, key } => (bucket, Self::Read(Read::Current(key))),
            KvCall::List { bucket, after } => (bucket, Self::Read(Read::List { after })),
            KvCall::GetMany { bucket, keys } => {
                limits.check_batch(keys.len())?;
                (bucket, Self::Read(Read::GetMany(keys)))
            }
            KvCall::Set { bucket, key, value } => {
                limits.check_value(&value)?;
                (bucket, Self::Write(Write::Put(BTreeMap::from([(key, value)]))))
            }
            KvCall::SetMany { bucket, entries } => {
                limits.check_batch(entries.len())?;
                limits.check_values(entries.iter().map(|(_, value)| value))?;
                (bucket, Self::Write(Write::Put(entries.into_iter().collect())))
            }
            KvCall::Delete { bucket, key } => (bucket, Self::Write(Write::Remove(BTreeSet::from([key])))),
            KvCall::DeleteMany { bucket, keys } => {
                limits.check_batch(keys.len())?;
                (bucket, Self::Write(Write::Remove(keys.into_iter().collect())))
            }
            KvCall::Increment { bucket, key, delta } => {
                (bucket, Self::Write(Write::Increment { key, delta }))
            }
            KvCall::Swap { bucket, key, expected, value } => {
                limits.check_value(&value)?;
                (bucket, Self::Write(Write::Swap { key, expected, value }))
            }
        };
        Ok((Bucket::of(owner, name), operation))
    }
}

impl Write {
    /// The bytes of the values that it brings.
    pub(super) fn value_bytes(&self) -> usize {
        match self {
            Self::Put(entries) => entries.values().map(Bytes::len).sum(),
            Self::Swap { value, .. } => value.len(),
            Self::Remove(_) | Self::Increment { .. } => 0,
        }
    }
}

impl KvLimits {
    fn check_value(&self, value: &Bytes) -> Result<(), KvError> {
        if value.len() > self.value_bytes_max {
            return Err(KvError::ValueTooLarge { bytes: value.len(), bytes_max: self.value_bytes_max });
        }
        Ok(())
    }

    fn check_batch(&self, entries: usize) -> Result<(), KvError> {
        if entries > self.batch_entries_max {
            return Err(KvError::BatchTooLong { entries, entries_max: self.batch_entries_max });
        }
        Ok(())
    }

    fn check_values<'a>(&self, values: impl Iterator<Item = &'a Bytes>) -> Result<(), KvError> {
        let mut bytes = 0_usize;
        for value in values {
            self.check_value(value)?;
            bytes = bytes.saturating_add(value.len());
        }
        if bytes > self.batch_bytes_max {
            return Err(KvError::BatchTooLarge { bytes, bytes_max: self.batch_bytes_max });
        }
        Ok(())
    }
}
