//! What a guest can ask for, what each call needs, and what comes back.
//!
//! These types are the whole vocabulary between a guest and the world. They grow by variants. What a call needs is
//! decided in one function, [`CapabilityCall::required_permission`], and whether it is allowed in one other place:
//! the agent's gate.

use async_trait::async_trait;
use bytes::Bytes;
use wasmatrix_model::{BucketName, ErrorCode, Key, KeySet, KvAction, Permission};

/// A guest's way out: gives calls to whoever decides on them. The agent's gate implements it.
#[async_trait]
pub trait Capabilities: Send + Sync {
    /// Asks for one thing and waits for the answer. The grants in force when it is called decide.
    ///
    /// # Errors
    /// Denied, unavailable, or failed; the kind says which. An error is an answer to the guest, not a crash.
    async fn call(&self, call: CapabilityCall) -> Result<CapabilityReply, CapabilityError>;
}

/// One thing that a guest asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CapabilityCall {
    /// Of key-value storage.
    Kv(KvCall),
}

/// What can be asked of key-value storage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "bucket, key, keys and value are what their types say")]
pub enum KvCall {
    /// The value of a key. Answer: [`KvReply::Value`].
    Get { bucket: BucketName, key: Key },
    /// Makes or replaces a value. Answer: [`KvReply::Done`].
    Set { bucket: BucketName, key: Key, value: Bytes },
    /// Removes a value; no value is no error. Answer: [`KvReply::Done`].
    Delete { bucket: BucketName, key: Key },
    /// Whether there is a value. Answer: [`KvReply::Exists`].
    Exists { bucket: BucketName, key: Key },
    /// Keys in order, those after `after`. Answer: [`KvReply::Keys`].
    List { bucket: BucketName, after: Option<Key> },
    /// Adds to a number, atomically; no value counts as 0. Answer: [`KvReply::Number`], the sum.
    Increment { bucket: BucketName, key: Key, delta: i64 },
    /// The value with its version, for a later swap. Answer: [`KvReply::Versioned`].
    Current { bucket: BucketName, key: Key },
    /// Sets the value if the version is still `expected` (`None`: no value). Answer: [`KvReply::Swapped`].
    Swap { bucket: BucketName, key: Key, expected: Option<Version>, value: Bytes },
    /// The values of several keys, as of one moment. Answer: [`KvReply::Values`], in the order of `keys`.
    GetMany { bucket: BucketName, keys: Vec<Key> },
    /// Several values, all or none. Answer: [`KvReply::Done`].
    SetMany { bucket: BucketName, entries: Vec<(Key, Bytes)> },
    /// Removes several values, all or none. Answer: [`KvReply::Done`].
    DeleteMany { bucket: BucketName, keys: Vec<Key> },
}

/// Which write made a value. Never used twice in a store, so a value that was removed and made anew differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(pub u64);

/// A value and the write that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The value.
    pub value: Bytes,
    /// The write.
    pub version: Version,
}

/// Some keys of a bucket, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The keys.
    pub keys: Vec<Key>,
    /// Whether more follow the last of them.
    pub more: bool,
}

/// What became of a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// The value was set.
    Done,
    /// Another write came first; nothing was changed.
    Stale,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CapabilityReply {
    /// Of key-value storage.
    Kv(KvReply),
}

/// The answer to a [`KvCall`]; each call names its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvReply {
    /// A value, or that there is none.
    Value(Option<Bytes>),
    /// It is done, and will outlast a crash if the backend says so.
    Done,
    /// Whether there is a value.
    Exists(bool),
    /// Some keys.
    Keys(Page),
    /// A number.
    Number(i64),
    /// A value with its version, or that there is none.
    Versioned(Option<Versioned>),
    /// What became of a swap.
    Swapped(Swapped),
    /// Values in the order asked for.
    Values(Vec<Option<Bytes>>),
}

/// What kind of failure a call met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CapabilityErrorKind {
    /// No grant in force covers it.
    Denied,
    /// The call itself breaks a rule: a bad name, a value that is no number.
    Invalid,
    /// The provider is stopped or out of reach.
    Unavailable,
    /// A limit of the provider stands in the way.
    Exhausted,
    /// The provider took too long.
    Timeout,
    /// The provider failed.
    Failed,
}

impl CapabilityErrorKind {
    /// The code that a client sees.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Denied => ErrorCode::PermissionDenied,
            Self::Invalid => ErrorCode::InvalidRequest,
            Self::Unavailable => ErrorCode::ProviderUnavailable,
            Self::Exhausted => ErrorCode::ResourceExhausted,
            Self::Timeout => ErrorCode::Timeout,
            Self::Failed => ErrorCode::Internal,
        }
    }
}

/// Why a call failed. The guest sees it as an error of the interface that it called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", .kind.code())]
pub struct CapabilityError {
    /// What kind of failure.
    pub kind: CapabilityErrorKind,
    /// What was wrong.
    pub message: String,
}

impl CapabilityError {
    /// A failure of that kind.
    pub fn new(kind: CapabilityErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl CapabilityCall {
    /// What the caller must have been granted, for every call there is.
    ///
    /// A call that both sees and changes a value (increment, swap) needs both permissions, because either alone would
    /// let a guest with the other one in through its back door.
    pub fn required_permission(&self) -> Permission<'_> {
        use KvAction::{Delete, Read, Write};
        let Self::Kv(call) = self;
        let (actions, bucket, keys): (&'static [KvAction], _, _) = match call {
            KvCall::Get { bucket, key }
            | KvCall::Exists { bucket, key }
            | KvCall::Current { bucket, key } => (&[Read], bucket, KeySet::One(key)),
            KvCall::List { bucket, .. } => (&[Read], bucket, KeySet::All),
            KvCall::GetMany { bucket, keys } => (&[Read], bucket, KeySet::Many(keys)),
            KvCall::Set { bucket, key, .. } => (&[Write], bucket, KeySet::One(key)),
            KvCall::SetMany { bucket, entries } => (&[Write], bucket, KeySet::Entries(entries)),
            KvCall::Increment { bucket, key, .. } | KvCall::Swap { bucket, key, .. } => {
                (&[Read, Write], bucket, KeySet::One(key))
            }
            KvCall::Delete { bucket, key } => (&[Delete], bucket, KeySet::One(key)),
            KvCall::DeleteMany { bucket, keys } => (&[Delete], bucket, KeySet::Many(keys)),
        };
        Permission { actions, bucket, keys }
    }

    /// What is being done, for facts and metrics, e.g. `kv.get`. One of a fixed, small set.
    pub const fn operation(&self) -> &'static str {
        let Self::Kv(call) = self;
        match call {
            KvCall::Get { .. } => "kv.get",
            KvCall::Set { .. } => "kv.set",
            KvCall::Delete { .. } => "kv.delete",
            KvCall::Exists { .. } => "kv.exists",
            KvCall::List { .. } => "kv.list",
            KvCall::Increment { .. } => "kv.increment",
            KvCall::Current { .. } => "kv.current",
            KvCall::Swap { .. } => "kv.swap",
            KvCall::GetMany { .. } => "kv.get-many",
            KvCall::SetMany { .. } => "kv.set-many",
            KvCall::DeleteMany { .. } => "kv.delete-many",
        }
    }
}
