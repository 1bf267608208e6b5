//! What each call means, written once for all backends.
//!
//! A write looks at everything it needs and refuses before it changes anything, so that a refusal leaves no trace.
//! Every value that is written gets the next version of one count for the whole store, which is stored with the data
//! and never goes back: a value that was removed and made anew has another version, and a swap notices.
//!
//! A number is decimal text, as an increment writes it (`-7`, `0`, `42`; no `+`, no zeros in front, no spaces). It is
//! what Redis and wasmtime's own in-memory store keep, what people can read, and what a guest can set by hand; Spin's
//! file store keeps eight binary bytes instead. A value of any other shape is no number, an increment of it is
//! refused, and it stays as it is; a sum that does not fit is refused too, and never wraps or saturates.

use bytes::Bytes;
use wasmatrix_executor_api::{KvReply, Page, Swapped, Version, Versioned};
use wasmatrix_model::Key;

use super::{
    KvLimits,
    error::KvError,
    operation::{Read, Write},
    table::{Bucket, Counter, Table, View},
};

/// Answers a read.
pub(super) fn read(
    view: &impl View,
    bucket: &Bucket,
    read: Read,
    limits: &KvLimits,
) -> Result<KvReply, KvError> {
    Ok(match read {
        Read::Get(key) => KvReply::Value(view.get(bucket, &key)?.map(|entry| entry.value)),
        Read::Exists(key) => KvReply::Exists(view.value_bytes(bucket, &key)?.is_some()),
        Read::Current(key) => KvReply::Versioned(view.get(bucket, &key)?),
        Read::List { after } => {
            // One more than is shown tells whether there is more.
            let mut keys = view.keys_after(bucket, after.as_ref(), limits.page_keys_max.saturating_add(1))?;
            let more = keys.len() > limits.page_keys_max;
            keys.truncate(limits.page_keys_max);
            KvReply::Keys(Page { keys, more })
        }
        Read::GetMany(keys) => {
            let mut bytes_left = limits.batch_bytes_max;
            let mut values = Vec::with_capacity(keys.len());
            for key in &keys {
                let bytes = view.value_bytes(bucket, key)?.unwrap_or(0);
                bytes_left = bytes_left
                    .checked_sub(bytes)
                    .ok_or(KvError::AnswerTooLarge { bytes_max: limits.batch_bytes_max })?;
                values.push(view.get(bucket, key)?.map(|entry| entry.value));
            }
            KvReply::Values(values)
        }
    })
}

/// Does a write, or refuses it and changes nothing.
pub(super) fn write(
    table: &mut impl Table,
    bucket: &Bucket,
    write: Write,
    limits: &KvLimits,
) -> Result<KvReply, KvError> {
    match write {
        Write::Put(entries) => {
            put(table, bucket, entries.into_iter().collect(), limits)?;
            Ok(KvReply::Done)
        }
        Write::Remove(keys) => {
            let mut freed = 0;
            for key in &keys {
                if let Some(bytes) = table.value_bytes(bucket, key)? {
                    freed += entry_bytes(bucket, key, bytes);
                    table.remove(bucket, key)?;
                }
            }
            charge(table, bucket, freed, 0)?;
            Ok(KvReply::Done)
        }
        Write::Increment { key, delta } => {
            let value = match table.get(bucket, &key)? {
                Some(entry) => number(&entry.value).ok_or(KvError::NotANumber)?,
                None => 0,
            };
            let sum = value.checked_add(delta).ok_or(KvError::Overflow { value, delta })?;
            put(table, bucket, vec![(key, sum.to_string().into())], limits)?;
            Ok(KvReply::Number(sum))
        }
        Write::Swap { key, expected, value } => {
            if table.get(bucket, &key)?.map(|entry| entry.version) != expected {
                return Ok(KvReply::Swapped(Swapped::Stale));
            }
            put(table, bucket, vec![(key, value)], limits)?;
            Ok(KvReply::Swapped(Swapped::Done))
        }
    }
}

/// Makes or replaces entries, each key once, if there is room for all of them.
fn put(
    table: &mut impl Table,
    bucket: &Bucket,
    entries: Vec<(Key, Bytes)>,
    limits: &KvLimits,
) -> Result<(), KvError> {
    let (mut freed, mut taken) = (0, 0);
    for (key, value) in &entries {
        if let Some(bytes) = table.value_bytes(bucket, key)? {
            freed += entry_bytes(bucket, key, bytes);
        }
        taken += entry_bytes(bucket, key, value.len());
    }
    check_room(table, bucket, freed, taken, limits)?;

    let mut version = table.counter(Counter::LastVersion)?;
    for (key, value) in entries {
        version += 1;
        table.put(bucket, &key, Versioned { value, version: Version(version) })?;
    }
    table.set_counter(Counter::LastVersion, version)?;
    charge(table, bucket, freed, taken)
}

/// Whether `taken` bytes fit once `freed` are gone. What does not grow always fits, so that a space that is over its
/// limit, because the limit was lowered, can still be brought down.
fn check_room(
    table: &impl Table,
    bucket: &Bucket,
    freed: u64,
    taken: u64,
    limits: &KvLimits,
) -> Result<(), KvError> {
    if taken <= freed {
        return Ok(());
    }
    let space_bytes = table.counter(Counter::SpaceBytes(&bucket.space))?.saturating_sub(freed) + taken;
    if space_bytes > limits.namespace_bytes_max {
        return Err(KvError::SpaceFull {
            whose: bucket.space.describe(),
            bytes: space_bytes,
            bytes_max: limits.namespace_bytes_max,
        });
    }
    let store_bytes = table.counter(Counter::StoreBytes)?.saturating_sub(freed) + taken;
    if store_bytes > limits.store_bytes_max {
        return Err(KvError::StoreFull { bytes_max: limits.store_bytes_max });
    }
    Ok(())
}

/// Counts what a write freed and took.
fn charge(table: &mut impl Table, bucket: &Bucket, freed: u64, taken: u64) -> Result<(), KvError> {
    if freed != taken {
        for counter in [Counter::SpaceBytes(&bucket.space), Counter::StoreBytes] {
            let bytes = table.counter(counter)?;
            table.set_counter(counter, bytes.saturating_sub(freed) + taken)?;
        }
    }
    Ok(())
}

/// What an entry counts against the limits. Each part is far below 2³², so that sums of them do not overflow.
fn entry_bytes(bucket: &Bucket, key: &Key, value_bytes: usize) -> u64 {
    let bytes = bucket.name.as_str().len() + key.as_str().len() + value_bytes;
    bytes as u64 + KvLimits::ENTRY_OVERHEAD_BYTES
}

/// The number that a value stands for, if it is written as an increment would write it.
fn number(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn only_what_an_increment_writes_is_a_number() {
        for (text, expected) in [("0", 0), ("42", 42), ("-7", -7), ("9223372036854775807", i64::MAX)] {
            assert_eq!(number(text.as_bytes()), Some(expected));
        }
        for bad in ["", "+1", "007", "-0", " 1", "1\n", "1.0", "0x1", "9223372036854775808", "one"] {
            assert_eq!(number(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(number(&5_i64.to_le_bytes()), None);
        assert_eq!(number(&[0xff]), None);
    }
}
