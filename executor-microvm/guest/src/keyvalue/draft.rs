//! `store` and `atomics` of wasi:keyvalue@0.2.0-draft: cursors and counters are unsigned numbers.

use alloc::{format, string::String, vec::Vec};

use wasmtime::component::{HasSelf, Linker, Resource};

use self::bindings::wasi::keyvalue::{atomics, store};
use super::{Bucket, Failure};
use crate::state::State;

/// The interfaces as Rust sees them.
pub(super) mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/keyvalue-0.2.0-draft",
        world: "wasi:keyvalue/imports",
        imports: { default: trappable },
        trappable_error_type: { "wasi:keyvalue/store.error" => crate::keyvalue::Failure },
        with: { "wasi:keyvalue/store.bucket": crate::keyvalue::Bucket },
    });
}

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    store::add_to_linker::<_, HasSelf<State>>(linker, |state| state)?;
    atomics::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

impl Failure {
    /// In the words of the interface; the batch interface of both drafts has the same.
    pub(super) fn into_error(self) -> wasmtime::Result<store::Error> {
        match self {
            Self::NoSuchStore => Ok(store::Error::NoSuchStore),
            Self::AccessDenied => Ok(store::Error::AccessDenied),
            Self::Other(message) => Ok(store::Error::Other(message)),
            Self::Trap(error) => Err(error),
        }
    }
}

impl store::Host for State {
    fn open(&mut self, identifier: String) -> Result<Resource<Bucket>, Failure> {
        self.open_bucket(&identifier)
    }

    fn convert_error(&mut self, failure: Failure) -> wasmtime::Result<store::Error> {
        failure.into_error()
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
        cursor: Option<u64>,
    ) -> Result<store::KeyResponse, Failure> {
        let after = match cursor {
            Some(cursor) => Some(self.table.get(&bucket)?.cursors.find(cursor)?),
            None => None,
        };
        let (keys, more) = self.list(&bucket, after)?;
        let cursor = match keys.last() {
            Some(last) if more => Some(self.table.get_mut(&bucket)?.cursors.give(last.clone())),
            Some(_) | None => None,
        };
        Ok(store::KeyResponse { keys, cursor })
    }

    fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.drop_bucket(bucket)
    }
}

impl atomics::Host for State {
    fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Result<u64, Failure> {
        let delta = i64::try_from(delta).map_err(|_| {
            Failure::invalid(&format!("{delta} is more than a counter holds: add at most {}", i64::MAX))
        })?;
        let sum = self.add(&bucket, &key, delta)?;
        u64::try_from(sum).map_err(|_| {
            let message =
                format!("`{key}` is now {sum}, and wasi:keyvalue@0.2.0-draft knows no negative counters");
            Failure::invalid(&message)
        })
    }
}
