//! `wasi:keyvalue`: each operation becomes one call of the host, and what comes back is told in the interface's own
//! words, the same as in process.
//!
//! A bucket is only a name here. Opening one asks for nothing; whether the program may use it is decided at every
//! call, by the host.
//!
//! | module | interfaces |
//! |---|---|
//! | [`draft`] | `store` and `atomics` of 0.2.0-draft |
//! | [`draft2`] | `store` and `atomics` of 0.2.0-draft2 |
//! | [`batch`] | `batch` of both, in either shape that was published |

use alloc::{
    collections::VecDeque,
    format,
    string::{String, ToString},
    vec::Vec,
};

use wasmatrix_microvm_abi::{KvAnswer, KvRequest, kv::Operation, layout::CALL_BYTES_MAX};
use wasmtime::component::{Component, Linker, Resource, ResourceTableError};

use crate::{ending::RuntimeFault, host, state::State};

mod batch;
mod draft;
mod draft2;

/// The bucket that the empty name means.
const DEFAULT_BUCKET: &str = "default";
/// Longest bucket name, in bytes; the host has the same rule, and the last word.
const BUCKET_BYTES_MAX: usize = 64;
/// Listings that a bucket of the first draft can be in the middle of; the oldest is forgotten.
const CURSORS_MAX: usize = 16;

/// Links what is the same for every component.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    draft::add_to_linker(linker)?;
    draft2::add_to_linker(linker)
}

/// Links what has the shape that the component wants.
pub(crate) fn add_batch_to_linker(linker: &mut Linker<State>, component: &Component) -> wasmtime::Result<()> {
    for name in ["wasi:keyvalue/batch@0.2.0-draft", "wasi:keyvalue/batch@0.2.0-draft2"] {
        batch::add_to_linker(linker, component, name)?;
    }
    Ok(())
}

/// What a bucket handle stands for.
pub struct Bucket {
    name: String,
    cursors: Cursors,
}

/// Why an operation failed: an answer to the program, or the end of it.
#[derive(Debug)]
pub enum Failure {
    NoSuchStore,
    AccessDenied,
    Other(String),
    Trap(wasmtime::Error),
}

impl Failure {
    fn invalid(message: &str) -> Self {
        Self::Other(format!("INVALID_REQUEST: {message}"))
    }

    /// An answer that is a failure, or does not belong to the question.
    fn of(answer: KvAnswer) -> Self {
        match answer {
            KvAnswer::Denied { .. } => Self::AccessDenied,
            KvAnswer::Failed { message } => Self::Other(message),
            other => Self::Trap(
                RuntimeFault(format!("a provider gave an answer of the wrong kind: {other:?}")).into(),
            ),
        }
    }
}

impl From<ResourceTableError> for Failure {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

/// Refuses a call that carries more than a call may.
fn bound(bytes: usize) -> Result<(), Failure> {
    if bytes > CALL_BYTES_MAX as usize {
        return Err(Failure::invalid(&format!(
            "a call carries at most {CALL_BYTES_MAX} bytes, this one {bytes}"
        )));
    }
    Ok(())
}

/// Whether a bucket may have that name.
fn is_bucket(name: &str) -> bool {
    let bare = name.strip_prefix('@').unwrap_or(name);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !bare.is_empty() && name.len() <= BUCKET_BYTES_MAX && bare.bytes().all(legal)
}

/// Asks the host.
fn call(bucket: &str, operation: Operation<'_>) -> KvAnswer {
    host::kv(KvRequest { bucket, operation })
}

/// The operations, in the terms of no draft.
impl State {
    fn open_bucket(&mut self, identifier: &str) -> Result<Resource<Bucket>, Failure> {
        let name = if identifier.is_empty() { DEFAULT_BUCKET } else { identifier };
        if !is_bucket(name) {
            return Err(Failure::NoSuchStore);
        }
        Ok(self.table.push(Bucket { name: name.to_string(), cursors: Cursors::default() })?)
    }

    fn bucket(&self, bucket: &Resource<Bucket>) -> Result<&str, Failure> {
        Ok(&self.table.get(bucket)?.name)
    }

    fn get_value(&self, bucket: &Resource<Bucket>, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        match call(self.bucket(bucket)?, Operation::Get { key }) {
            KvAnswer::Value(value) => Ok(value),
            other => Err(Failure::of(other)),
        }
    }

    fn set_value(&self, bucket: &Resource<Bucket>, key: &str, value: &[u8]) -> Result<(), Failure> {
        bound(value.len())?;
        done(call(self.bucket(bucket)?, Operation::Set { key, value }))
    }

    fn delete_value(&self, bucket: &Resource<Bucket>, key: &str) -> Result<(), Failure> {
        done(call(self.bucket(bucket)?, Operation::Delete { key }))
    }

    fn has_value(&self, bucket: &Resource<Bucket>, key: &str) -> Result<bool, Failure> {
        match call(self.bucket(bucket)?, Operation::Exists { key }) {
            KvAnswer::Exists(exists) => Ok(exists),
            other => Err(Failure::of(other)),
        }
    }

    fn list(&self, bucket: &Resource<Bucket>, after: Option<&str>) -> Result<(Vec<String>, bool), Failure> {
        match call(self.bucket(bucket)?, Operation::List { after }) {
            KvAnswer::Keys { keys, more } => Ok((keys, more)),
            other => Err(Failure::of(other)),
        }
    }

    fn add(&self, bucket: &Resource<Bucket>, key: &str, delta: i64) -> Result<i64, Failure> {
        match call(self.bucket(bucket)?, Operation::Increment { key, delta }) {
            KvAnswer::Number(number) => Ok(number),
            other => Err(Failure::of(other)),
        }
    }

    fn drop_bucket(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

fn done(answer: KvAnswer) -> Result<(), Failure> {
    match answer {
        KvAnswer::Done => Ok(()),
        other => Err(Failure::of(other)),
    }
}

/// The numbers that the first draft gives in place of the key at which a listing goes on.
#[derive(Default)]
struct Cursors {
    given: VecDeque<(u64, String)>,
    next: u64,
}

impl Cursors {
    fn give(&mut self, key: String) -> u64 {
        if self.given.len() >= CURSORS_MAX {
            self.given.pop_front();
        }
        self.next += 1;
        self.given.push_back((self.next, key));
        self.next
    }

    fn find(&self, cursor: u64) -> Result<&str, Failure> {
        let found = self.given.iter().find(|(number, _)| *number == cursor);
        found.map(|(_, key)| key.as_str()).ok_or_else(|| {
            Failure::invalid(&format!(
                "cursor {cursor} is not known: a bucket remembers the last {CURSORS_MAX} it gave; list from the start"
            ))
        })
    }
}
