//! `store` and `atomics` of wasi:keyvalue@0.2.0-draft2: cursors are text, counters signed, and there is
//! compare-and-swap.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use wasmatrix_microvm_abi::{KvAnswer, kv::Operation};
use wasmtime::component::{HasSelf, Linker, Resource};

use self::bindings::wasi::keyvalue::{atomics, store};
use super::{Bucket, Failure, bound, call};
use crate::state::State;

/// The interfaces as Rust sees them.
mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/keyvalue-0.2.0-draft2",
        world: "wasi:keyvalue/imports",
        imports: { default: trappable },
        trappable_error_type: { "wasi:keyvalue/store.error" => crate::keyvalue::Failure },
        with: {
            "wasi:keyvalue/store.bucket": crate::keyvalue::Bucket,
            "wasi:keyvalue/atomics.cas": super::Cas,
        },
    });
}

/// A value as it was seen, for a swap that holds only while it is still so.
pub struct Cas {
    bucket: String,
    key: String,
    seen: Option<u64>,
    value: Option<Vec<u8>>,
}

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    store::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    atomics::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

fn into_error(failure: Failure) -> wasmtime::Result<store::Error> {
    match failure {
        Failure::NoSuchStore => Ok(store::Error::NoSuchStore),
        Failure::AccessDenied => Ok(store::Error::AccessDenied),
        Failure::Other(message) => Ok(store::Error::Other(message)),
        Failure::Trap(error) => Err(error),
    }
}

impl State {
    /// Looks at the value and keeps what it saw.
    fn observe(&mut self, bucket: String, key: String) -> Result<Resource<Cas>, Failure> {
        let (value, seen) = match call(&bucket, Operation::Current { key: &key }) {
            KvAnswer::Versioned(current) => current.unzip(),
            other => return Err(Failure::of(other)),
        };
        Ok(self.table.push(Cas { bucket, key, seen, value })?)
    }

    fn try_swap(&mut self, cas: Cas, value: &[u8]) -> Result<Result<(), Resource<Cas>>, Failure> {
        bound(value.len())?;
        match call(&cas.bucket, Operation::Swap { key: &cas.key, expected: cas.seen, value }) {
            KvAnswer::Swapped(true) => Ok(Ok(())),
            KvAnswer::Swapped(false) => Ok(Err(self.observe(cas.bucket, cas.key)?)),
            other => Err(Failure::of(other)),
        }
    }
}

impl store::Host for State {
    fn open(&mut self, identifier: String) -> Result<Resource<Bucket>, Failure> {
        self.open_bucket(&identifier)
    }

    fn convert_error(&mut self, failure: Failure) -> wasmtime::Result<store::Error> {
        into_error(failure)
    }
}

impl store::HostBucket for State {
    fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Result<Option<Vec<u8>>, Failure> {
        self.get_value(&bucket, &key)
    }

    fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Result<(), Failure> {
        self.set_value(&bucket, &key, &value)
    }

    fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Result<(), Failure> {
        self.delete_value(&bucket, &key)
    }

    fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Result<bool, Failure> {
        self.has_value(&bucket, &key)
    }

    fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<String>,
    ) -> Result<store::KeyResponse, Failure> {
        // The cursor is the last key that was given: it needs no memory here and is good for ever.
        let (keys, more) = self.list(&bucket, cursor.as_deref())?;
        let cursor = keys.last().filter(|_| more).cloned();
        Ok(store::KeyResponse { keys, cursor })
    }

    fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.drop_bucket(bucket)
    }
}

impl atomics::Host for State {
    fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: i64) -> Result<i64, Failure> {
        self.add(&bucket, &key, delta)
    }

    fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), atomics::CasError>> {
        let cas = self.table.delete(cas)?;
        match self.try_swap(cas, &value) {
            Ok(Ok(())) => Ok(Ok(())),
            Ok(Err(fresh)) => Ok(Err(atomics::CasError::CasFailed(fresh))),
            Err(failure) => Ok(Err(atomics::CasError::StoreError(into_error(failure)?))),
        }
    }
}

impl atomics::HostCas for State {
    fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Result<Resource<Cas>, Failure> {
        let bucket = self.bucket(&bucket)?.to_string();
        self.observe(bucket, key)
    }

    fn current(&mut self, cas: Resource<Cas>) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.table.get(&cas)?.value.clone())
    }

    fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}
