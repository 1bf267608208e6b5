//! An instance's view of the provider, in words short enough for scenarios.

use bytes::Bytes;
use tempfile::TempDir;
use wasmatrix_executor_api::{
    CapabilityCall, CapabilityError, CapabilityErrorKind, CapabilityReply, KvCall, KvReply, Page, Swapped,
    Version, Versioned,
};
use wasmatrix_model::{BucketName, Key};
use wasmatrix_providers::{KvLimits, KvProvider, Namespace, Provider};

pub(crate) struct Guest<'a> {
    provider: &'a dyn Provider,
    owner: Namespace,
    bucket: BucketName,
}

type Answer<T> = Result<T, CapabilityErrorKind>;

macro_rules! expect_reply {
    ($reply:expr, $variant:ident) => {
        match $reply {
            KvReply::$variant(answer) => Ok(answer),
            other => panic!("the wrong kind of reply: {other:?}"),
        }
    };
}

impl<'a> Guest<'a> {
    pub(crate) fn new(provider: &'a dyn Provider, name: &str, bucket: &str) -> Self {
        Self { provider, owner: Namespace::of(&name.parse().unwrap()), bucket: bucket.parse().unwrap() }
    }

    pub(crate) async fn try_call(&self, call: KvCall) -> Result<KvReply, CapabilityError> {
        let CapabilityReply::Kv(reply) = self.provider.call(&self.owner, CapabilityCall::Kv(call)).await?;
        Ok(reply)
    }

    async fn call(&self, call: KvCall) -> Answer<KvReply> {
        self.try_call(call).await.map_err(|error| error.kind)
    }

    fn bucket(&self) -> BucketName {
        self.bucket.clone()
    }

    pub(crate) async fn get(&self, key: &str) -> Answer<Option<String>> {
        let call = KvCall::Get { bucket: self.bucket(), key: self::key(key) };
        let value = expect_reply!(self.call(call).await?, Value)?;
        Ok(value.map(|value| String::from_utf8(value.to_vec()).unwrap()))
    }

    pub(crate) async fn set(&self, key: &str, value: impl Into<Bytes>) -> Answer<()> {
        let call = KvCall::Set { bucket: self.bucket(), key: self::key(key), value: value.into() };
        self.done(call).await
    }

    pub(crate) async fn delete(&self, key: &str) -> Answer<()> {
        self.done(KvCall::Delete { bucket: self.bucket(), key: self::key(key) }).await
    }

    pub(crate) async fn exists(&self, key: &str) -> Answer<bool> {
        let call = KvCall::Exists { bucket: self.bucket(), key: self::key(key) };
        expect_reply!(self.call(call).await?, Exists)
    }

    pub(crate) async fn list(&self, after: Option<&str>) -> Answer<Page> {
        let call = KvCall::List { bucket: self.bucket(), after: after.map(self::key) };
        expect_reply!(self.call(call).await?, Keys)
    }

    pub(crate) async fn increment(&self, key: &str, delta: i64) -> Answer<i64> {
        let call = KvCall::Increment { bucket: self.bucket(), key: self::key(key), delta };
        expect_reply!(self.call(call).await?, Number)
    }

    pub(crate) async fn current(&self, key: &str) -> Answer<Option<Versioned>> {
        let call = KvCall::Current { bucket: self.bucket(), key: self::key(key) };
        expect_reply!(self.call(call).await?, Versioned)
    }

    pub(crate) async fn swap(
        &self,
        key: &str,
        expected: Option<Version>,
        value: impl Into<Bytes>,
    ) -> Answer<Swapped> {
        let value = value.into();
        let call = KvCall::Swap { bucket: self.bucket(), key: self::key(key), expected, value };
        expect_reply!(self.call(call).await?, Swapped)
    }

    pub(crate) async fn get_many(&self, keys: &[&str]) -> Answer<Vec<Option<Bytes>>> {
        let keys = keys.iter().map(|key| self::key(key)).collect();
        expect_reply!(self.call(KvCall::GetMany { bucket: self.bucket(), keys }).await?, Values)
    }

    pub(crate) async fn set_many(&self, entries: &[(&str, &str)]) -> Answer<()> {
        let entries = entries
            .iter()
            .map(|(key, value)| (self::key(key), Bytes::copy_from_slice(value.as_bytes())))
            .collect();
        self.done(KvCall::SetMany { bucket: self.bucket(), entries }).await
    }

    pub(crate) async fn delete_many(&self, keys: &[&str]) -> Answer<()> {
        let keys = keys.iter().map(|key| self::key(key)).collect();
        self.done(KvCall::DeleteMany { bucket: self.bucket(), keys }).await
    }

    async fn done(&self, call: KvCall) -> Answer<()> {
        match self.call(call).await? {
            KvReply::Done => Ok(()),
            other => panic!("the wrong kind of reply: {other:?}"),
        }
    }
}

pub(crate) fn key(key: &str) -> Key {
    key.parse().unwrap()
}

/// A store in a file of its own, which goes with it.
pub(crate) struct InFile {
    pub(crate) provider: KvProvider,
    pub(crate) dir: TempDir,
}

impl InFile {
    pub(crate) fn new(limits: KvLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let provider = KvProvider::open(dir.path().join("kv.redb"), limits).unwrap();
        Self { provider, dir }
    }

    /// The same file, closed and opened again.
    pub(crate) async fn reopened(self, limits: KvLimits) -> Self {
        self.provider.shutdown().await;
        let provider = KvProvider::open(self.dir.path().join("kv.redb"), limits).unwrap();
        Self { provider, dir: self.dir }
    }
}

/// Runs each scenario, an `async fn(&dyn Provider)`, on every backend, under the limits that `fn limits()` returns.
macro_rules! on_every_backend {
    ($($scenario:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                super::$scenario(&wasmatrix_providers::KvProvider::memory(super::limits())).await;
            })+
        }
        mod redb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                super::$scenario(&crate::guest::InFile::new(super::limits()).provider).await;
            })+
        }
    };
}
pub(crate) use on_every_backend;
