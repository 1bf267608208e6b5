//! `wasi:keyvalue`: each operation becomes one [`CapabilityCall`], and what comes back is told in the interface's
//! own words.
//!
//! A bucket is only a name here. Opening one asks for nothing; whether the guest may use it is decided at every
//! call, by whoever holds the grants.
//!
//! | module | interfaces |
//! |---|---|
//! | [`draft`] | `store` and `atomics` of 0.2.0-draft |
//! | [`draft2`] | `store` and `atomics` of 0.2.0-draft2 |
//! | [`batch`] | `batch` of both, in either shape that was published |

use std::{collections::VecDeque, str::FromStr};

use bytes::Bytes;
use wasmatrix_artifact::offered::KEYVALUE_BATCH;
use wasmatrix_executor_api::{
    CapabilityCall, CapabilityError, CapabilityErrorKind, CapabilityReply, KvCall, KvReply, Page, Swapped,
    Versioned,
};
use wasmatrix_model::{BucketName, Key};
use wasmtime::component::{Component, Linker, Resource, ResourceTableError};

use super::{CALL_BYTES_MAX, State};
use crate::trap::HostFault;

mod batch;
#[expect(clippy::error_impl_error, reason = "bindgen! takes the name from the interface")]
mod draft;
#[expect(clippy::error_impl_error, reason = "bindgen! takes the name from the interface")]
mod draft2;

/// The bucket that the empty name means.
const DEFAULT_BUCKET: &str = "default";
/// Listings that a bucket of the first draft can be in the middle of; the oldest is forgotten.
const CURSORS_MAX: usize = 16;

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    draft::add_to_linker(linker)?;
    draft2::add_to_linker(linker)
}

pub(super) fn add_batch_to_linker(linker: &mut Linker<State>, component: &Component) -> wasmtime::Result<()> {
    for name in KEYVALUE_BATCH {
        batch::add_to_linker(linker, component, name)?;
    }
    Ok(())
}

/// What a guest's bucket handle stands for.
#[expect(unreachable_pub, reason = "bindgen! exports it again")]
pub struct Bucket {
    name: BucketName,
    cursors: Cursors,
}

/// Why an operation failed: an answer to the guest, or the end of it.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "bindgen! exports it again")]
pub enum Failure {
    NoSuchStore,
    AccessDenied,
    Other(String),
    Trap(wasmtime::Error),
}

impl Failure {
    fn invalid(message: impl Into<String>) -> Self {
        CapabilityError::new(CapabilityErrorKind::Invalid, message).into()
    }

    /// An answer that does not belong to the question.
    fn mismatch(reply: &KvReply) -> Self {
        Self::Trap(HostFault(format!("a provider gave an answer of the wrong kind: {reply:?}")).into())
    }
}

impl From<CapabilityError> for Failure {
    fn from(error: CapabilityError) -> Self {
        match error.kind {
            CapabilityErrorKind::Denied => Self::AccessDenied,
            CapabilityErrorKind::Invalid
            | CapabilityErrorKind::Unavailable
            | CapabilityErrorKind::Exhausted
            | CapabilityErrorKind::Timeout
            | CapabilityErrorKind::Failed => Self::Other(error.to_string()),
        }
    }
}

impl From<ResourceTableError> for Failure {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

/// A key, or why it is none.
fn key(text: &str) -> Result<Key, Failure> {
    Key::from_str(text).map_err(|invalid| Failure::invalid(invalid.to_string()))
}

/// Refuses a call that carries more than a call may.
fn bound(bytes: usize) -> Result<(), Failure> {
    if bytes > CALL_BYTES_MAX {
        return Err(Failure::invalid(format!(
            "a call carries at most {CALL_BYTES_MAX} bytes, this one {bytes}"
        )));
    }
    Ok(())
}

/// The operations, in the terms of no draft.
impl State {
    async fn kv(&mut self, call: KvCall) -> Result<KvReply, Failure> {
        let CapabilityReply::Kv(reply) = self.capabilities.call(CapabilityCall::Kv(call)).await?;
        Ok(reply)
    }

    fn open_bucket(&mut self, identifier: &str) -> Result<Resource<Bucket>, Failure> {
        let name = if identifier.is_empty() { DEFAULT_BUCKET } else { identifier };
        let name = name.parse().map_err(|_| Failure::NoSuchStore)?;
        Ok(self.table.push(Bucket { name, cursors: Cursors::default() })?)
    }

    fn bucket(&self, bucket: &Resource<Bucket>) -> Result<BucketName, Failure> {
        Ok(self.table.get(bucket)?.name.clone())
    }

    async fn get(&mut self, bucket: &Resource<Bucket>, text: &str) -> Result<Option<Vec<u8>>, Failure> {
        let call = KvCall::Get { bucket: self.bucket(bucket)?, key: key(text)? };
        match self.kv(call).await? {
            KvReply::Value(value) => Ok(value.map(Vec::from)),
            other => Err(Failure::mismatch(&other)),
        }
    }

    async fn set(&mut self, bucket: &Resource<Bucket>, text: &str, value: Vec<u8>) -> Result<(), Failure> {
        bound(value.len())?;
        let call = KvCall::Set { bucket: self.bucket(bucket)?, key: key(text)?, value: value.into() };
        match self.kv(call).await? {
            KvReply::Done => Ok(()),
            other => Err(Failure::mismatch(&other)),
        }
    }

    async fn delete(&mut self, bucket: &Resource<Bucket>, text: &str) -> Result<(), Failure> {
        let call = KvCall::Delete { bucket: self.bucket(bucket)?, key: key(text)? };
        match self.kv(call).await? {
            KvReply::Done => Ok(()),
            other => Err(Failure::mismatch(&other)),
        }
    }

    async fn exists(&mut self, bucket: &Resource<Bucket>, text: &str) -> Result<bool, Failure> {
        let call = KvCall::Exists { bucket: self.bucket(bucket)?, key: key(text)? };
        match self.kv(call).await? {
            KvReply::Exists(exists) => Ok(exists),
            other => Err(Failure::mismatch(&other)),
        }
    }

    async fn list(&mut self, bucket: &Resource<Bucket>, after: Option<Key>) -> Result<Page, Failure> {
        let call = KvCall::List { bucket: self.bucket(bucket)?, after };
        match self.kv(call).await? {
            KvReply::Keys(page) => Ok(page),
            other => Err(Failure::mismatch(&other)),
        }
    }

    async fn increment(&mut self, bucket: &Resource<Bucket>, text: &str, delta: i64) -> Result<i64, Failure> {
        let call = KvCall::Increment { bucket: self.bucket(bucket)?, key: key(text)?, delta };
        match self.kv(call).await? {
            KvReply::Number(number) => Ok(number),
            other => Err(Failure::mismatch(&other)),
        }
    }

    async fn current(&mut self, bucket: BucketName, key: Key) -> Result<Option<Versioned>, Failure> {
        match self.kv(KvCall::Current { bucket, key }).await? {
            KvReply::Versioned(versioned) => Ok(versioned),
            other => Err(Failure::mismatch(&other)),
        }
    }

    async fn swap(&mut self, call: KvCall) -> Result<Swapped, Failure> {
        match self.kv(call).await? {
            KvReply::Swapped(swapped) => Ok(swapped),
            other => Err(Failure::mismatch(&other)),
        }
    }

    fn drop_bucket(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

/// The numbers that the first draft gives a guest in place of the key at which its listing goes on.
#[derive(Default)]
struct Cursors {
    given: VecDeque<(u64, Key)>,
    next: u64,
}

impl Cursors {
    fn give(&mut self, key: Key) -> u64 {
        if self.given.len() >= CURSORS_MAX {
            self.given.pop_front();
        }
        self.next += 1;
        self.given.push_back((self.next, key));
        self.next
    }

    fn find(&self, cursor: u64) -> Result<Key, Failure> {
        let found = self.given.iter().find(|(number, _)| *number == cursor);
        found.map(|(_, key)| key.clone()).ok_or_else(|| {
            Failure::invalid(format!(
                "cursor {cursor} is not known: a bucket remembers the last {CURSORS_MAX} it gave; list from the start"
            ))
        })
    }
}

/// The value alone.
fn value_of(versioned: Option<&Versioned>) -> Option<Bytes> {
    versioned.map(|versioned| versioned.value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_bounded_and_go_on_after_a_forgotten_one() {
        let mut cursors = Cursors::default();
        let given: Vec<u64> =
            (0..=CURSORS_MAX).map(|n| cursors.give(format!("k{n}").parse().unwrap())).collect();
        assert!(
            matches!(cursors.find(given[0]), Err(Failure::Other(text)) if text.contains("list from the start"))
        );
        assert_eq!(cursors.find(given[1]).unwrap().as_str(), "k1");
        assert_eq!(cursors.find(given[CURSORS_MAX]).unwrap().as_str(), format!("k{CURSORS_MAX}"));
    }
}
