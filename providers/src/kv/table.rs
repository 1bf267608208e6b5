//! What a backend offers to the semantics: entries in order, and a few counters beside them.

use std::borrow::Cow;

use wasmatrix_executor_api::Versioned;
use wasmatrix_model::{BucketName, Key};

use crate::Namespace;

/// What the bytes of a bucket are counted under, and what keeps instances apart: an instance's name, or the name of
/// a shared bucket. The two never meet, because only the latter begins with `@`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Space(Box<str>);

impl Space {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// For an error: who is full.
    pub(super) fn describe(&self) -> String {
        if self.0.starts_with('@') {
            format!("the shared bucket {}", self.0)
        } else {
            "this instance".to_owned()
        }
    }
}

/// One bucket among all that there are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bucket {
    pub(super) space: Space,
    pub(super) name: BucketName,
}

impl Bucket {
    /// The bucket that `owner` means by `name`: one of its own, or a shared one.
    pub(super) fn of(owner: &Namespace, name: BucketName) -> Self {
        let space = if name.is_shared() { name.as_str() } else { owner.as_str() };
        Self { space: Space(space.into()), name }
    }
}

/// A number that is stored with the entries and changes with them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counter<'a> {
    /// The version that the last write was given.
    LastVersion,
    /// Bytes of all entries.
    StoreBytes,
    /// Bytes of the entries of one space.
    SpaceBytes(&'a Space),
}

impl<'a> Counter<'a> {
    /// What it is stored under.
    pub(super) fn name(self) -> Cow<'a, str> {
        match self {
            Self::LastVersion => "version".into(),
            Self::StoreBytes => "bytes".into(),
            Self::SpaceBytes(space) => format!("bytes/{}", space.as_str()).into(),
        }
    }
}

/// The storage failed. Display says no more than a guest may know; the cause is for the node's log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the storage failed")]
pub(super) struct Fault {
    pub(super) cause: String,
}

/// The entries as of one moment.
pub(super) trait View {
    fn get(&self, bucket: &Bucket, key: &Key) -> Result<Option<Versioned>, Fault>;

    /// The length of a value, without reading it.
    fn value_bytes(&self, bucket: &Bucket, key: &Key) -> Result<Option<usize>, Fault>;

    /// Up to `keys_max` keys of the bucket in order, those after `after`.
    fn keys_after(&self, bucket: &Bucket, after: Option<&Key>, keys_max: usize) -> Result<Vec<Key>, Fault>;
}

/// The entries for one write, which has them to itself. A write that returns an error of its own has changed nothing;
/// after a [`Fault`] the backend undoes what was changed.
pub(super) trait Table: View {
    fn put(&mut self, bucket: &Bucket, key: &Key, entry: Versioned) -> Result<(), Fault>;

    fn remove(&mut self, bucket: &Bucket, key: &Key) -> Result<(), Fault>;

    /// 0 until it is set.
    fn counter(&self, counter: Counter<'_>) -> Result<u64, Fault>;

    fn set_counter(&mut self, counter: Counter<'_>, value: u64) -> Result<(), Fault>;
}
