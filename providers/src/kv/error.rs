//! Why a call failed, in words for the guest's author. Nothing here tells of the host: a path or an operating
//! system's message goes to the node's log.

use wasmatrix_executor_api::{CapabilityError, CapabilityErrorKind};

use super::table::Fault;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KvError {
    #[error("the value has {bytes} bytes; at most {bytes_max} are taken")]
    ValueTooLarge { bytes: usize, bytes_max: usize },
    #[error("the batch has {entries} entries; at most {entries_max} are taken")]
    BatchTooLong { entries: usize, entries_max: usize },
    #[error("the values of the batch have {bytes} bytes together; at most {bytes_max} are taken")]
    BatchTooLarge { bytes: usize, bytes_max: usize },
    #[error("the values asked for have more than {bytes_max} bytes together; ask for fewer at once")]
    AnswerTooLarge { bytes_max: usize },
    #[error("{whose} would hold {bytes} bytes; at most {bytes_max} are taken: delete something first")]
    SpaceFull { whose: String, bytes: u64, bytes_max: u64 },
    #[error("the node's key-value store is full ({bytes_max} bytes over all instances)")]
    StoreFull { bytes_max: u64 },
    #[error(
        "the value is not a number: only decimal text between {} and {} can be incremented",
        i64::MIN,
        i64::MAX
    )]
    NotANumber,
    #[error("{value} and {delta} add up to more than 64 bits can hold; the value was left as it is")]
    Overflow { value: i64, delta: i64 },
    #[error("the key-value store was shut down")]
    Closed,
    #[error("the key-value store failed; if this was a write, it may or may not have taken effect")]
    Storage(#[from] Fault),
}

impl KvError {
    const fn kind(&self) -> CapabilityErrorKind {
        match self {
            Self::ValueTooLarge { .. }
            | Self::BatchTooLong { .. }
            | Self::BatchTooLarge { .. }
            | Self::AnswerTooLarge { .. }
            | Self::SpaceFull { .. }
            | Self::StoreFull { .. } => CapabilityErrorKind::Exhausted,
            Self::NotANumber | Self::Overflow { .. } => CapabilityErrorKind::Invalid,
            Self::Closed => CapabilityErrorKind::Unavailable,
            Self::Storage(_) => CapabilityErrorKind::Failed,
        }
    }
}

impl From<KvError> for CapabilityError {
    fn from(error: KvError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}
