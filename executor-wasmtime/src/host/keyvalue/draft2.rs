//! `store` and `atomics` of wasi:keyvalue@0.2.0-draft2: cursors are text, counters signed, and there is
//! compare-and-swap.

use bytes::Bytes;
use wasmatrix_executor_api::{KvCall, Swapped, Version};
use wasmatrix_model::{BucketName, Key};
use wasmtime::component::{HasSelf, Linker, Resource};

use self::wasi::keyvalue::{atomics, store};
use super::{Bucket, Failure, bound, key, value_of};
use crate::host::State;

wasmtime::component::bindgen!({
    path: "wit/keyvalue-0.2.0-draft2",
    world: "wasi:keyvalue/imports",
    imports: { default: async | trappable },
    trappable_error_type: { "wasi:keyvalue/store.error" => Failure },
    with: {
        "wasi:keyvalue/store.bucket": crate::host::keyvalue::Bucket,
        "wasi:keyvalue/atomics.cas": Cas,
    },
});

/// A value as it was seen, for a swap that holds only while it is still so.
#[expect(unreachable_pub, reason = "bindgen! exports it again")]
pub struct Cas {
    bucket: BucketName,
    key: Key,
    seen: Option<Version>,
    value: Option<Bytes>,
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
    async fn observe(&mut self, bucket: BucketName, key: Key) -> Result<Resource<Cas>, Failure> {
        let current = self.current(bucket.clone(), key.clone()).await?;
        let value = value_of(current.as_ref());
        let seen = current.map(|current| current.version);
        Ok(self.table.push(Cas { bucket, key, seen, value })?)
    }

    async fn try_swap(&mut self, cas: Cas, value: Vec<u8>) -> Result<Result<(), Resource<Cas>>, Failure> {
        bound(value.len())?;
        let Cas { bucket, key, seen, value: _ } = cas;
        let call =
            KvCall::Swap { bucket: bucket.clone(), key: key.clone(), expected: seen, value: value.into() };
        match self.swap(call).await? {
            Swapped::Done => Ok(Ok(())),
            Swapped::Stale => Ok(Err(self.observe(bucket, key).await?)),
        }
    }
}

impl store::Host for State {
    async fn open(&mut self, identifier: String) -> Result<Resource<Bucket>, Failure> {
        self.open_bucket(&identifier)
    }

    fn convert_error(&mut self, failure: Failure) -> wasmtime::Result<store::Error> {
        into_error(failure)
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
        cursor: Option<String>,
    ) -> Result<store::KeyResponse, Failure> {
        // The cursor is the last key that was given: it needs no memory here and is good for ever.
        let after = cursor.as_deref().map(key).transpose()?;
        let page = self.list(&bucket, after).await?;
        let keys: Vec<String> = page.keys.iter().map(ToString::to_string).collect();
        let cursor = keys.last().filter(|_| page.more).cloned();
        Ok(store::KeyResponse { keys, cursor })
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.drop_bucket(bucket)
    }
}

impl atomics::Host for State {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: i64) -> Result<i64, Failure> {
        Self::increment(self, &bucket, &key, delta).await
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), atomics::CasError>> {
        let cas = self.table.delete(cas)?;
        match self.try_swap(cas, value).await {
            Ok(Ok(())) => Ok(Ok(())),
            Ok(Err(fresh)) => Ok(Err(atomics::CasError::CasFailed(fresh))),
            Err(failure) => Ok(Err(atomics::CasError::StoreError(into_error(failure)?))),
        }
    }
}

impl atomics::HostCas for State {
    async fn new(&mut self, bucket: Resource<Bucket>, text: String) -> Result<Resource<Cas>, Failure> {
        let bucket = self.bucket(&bucket)?;
        self.observe(bucket, key(&text)?).await
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.table.get(&cas)?.value.clone().map(Vec::from))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}
