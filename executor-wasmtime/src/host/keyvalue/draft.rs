//! `store` and `atomics` of wasi:keyvalue@0.2.0-draft: cursors and counters are unsigned numbers.

use wasmtime::component::{HasSelf, Linker, Resource};

use self::wasi::keyvalue::{atomics, store};
use super::{Bucket, Failure, key};
use crate::host::State;

wasmtime::component::bindgen!({
    path: "wit/keyvalue-0.2.0-draft",
    world: "wasi:keyvalue/imports",
    imports: { default: async | trappable },
    trappable_error_type: { "wasi:keyvalue/store.error" => Failure },
    with: { "wasi:keyvalue/store.bucket": crate::host::keyvalue::Bucket },
});

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
    async fn open(&mut self, identifier: String) -> Result<Resource<Bucket>, Failure> {
        self.open_bucket(&identifier)
    }

    fn convert_error(&mut self, failure: Failure) -> wasmtime::Result<store::Error> {
        failure.into_error()
    }
}

impl store::HostBucket for State {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Result<Option<Vec<u8>>, Failure> {
        Self::get(self, &bucket, &key).await
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Result<(), Failure> {
        Self::set(self, &bucket, &key, value).await
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Result<(), Failure> {
        Self::delete(self, &bucket, &key).await
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Result<bool, Failure> {
        Self::exists(self, &bucket, &key).await
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> Result<store::KeyResponse, Failure> {
        let after = match cursor {
            Some(cursor) => Some(self.table.get(&bucket)?.cursors.find(cursor)?),
            None => None,
        };
        let page = self.list(&bucket, after).await?;
        let cursor = match page.keys.last() {
            Some(last) if page.more => Some(self.table.get_mut(&bucket)?.cursors.give(last.clone())),
            Some(_) | None => None,
        };
        Ok(store::KeyResponse { keys: page.keys.iter().map(ToString::to_string).collect(), cursor })
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.drop_bucket(bucket)
    }
}

impl atomics::Host for State {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        text: String,
        delta: u64,
    ) -> Result<u64, Failure> {
        let delta = i64::try_from(delta).map_err(|_| {
            Failure::invalid(format!("{delta} is more than a counter holds: add at most {}", i64::MAX))
        })?;
        let sum = Self::increment(self, &bucket, &text, delta).await?;
        let key = key(&text)?;
        u64::try_from(sum).map_err(|_| {
            Failure::invalid(format!(
                "`{key}` is now {sum}, and wasi:keyvalue@0.2.0-draft knows no negative counters"
            ))
        })
    }
}
