//! Key-value storage for guests, in memory or in a file that outlives a crash.
//!
//! ```text
//!  KvCall ──► Operation ──► semantics ──► Table
//!            (whose data,   (what each    (a lock around a map, or a
//!             size limits)   call means)   transaction on a file)
//! ```
//!
//! What each call means is written once, in `semantics`, over the small trait `table::Table`. A backend gives
//! atomicity: it lets one write after the other have the table, and lets readers see only what is complete.
//!
//! | module | what it says |
//! |---|---|
//! | `limits` | how much may be stored and asked for |
//! | `operation` | a call, with the namespace it is about, within the limits |
//! | `semantics` | what each call means |
//! | `table` | what a backend offers to the semantics |
//! | `memory` | the backend that forgets |
//! | `redb_store` | the backend that does not |
//! | `error` | why a call failed |

mod error;
mod limits;
mod memory;
mod operation;
mod redb_store;
mod semantics;
mod table;

use std::{fmt, path::Path};

use async_trait::async_trait;
use wasmatrix_executor_api::{CapabilityCall, CapabilityError, CapabilityReply, KvReply};
use wasmatrix_model::Capability;

use self::{
    error::KvError,
    memory::MemoryStore,
    operation::{Operation, Read, Write},
    redb_store::RedbStore,
    table::Bucket,
};
pub use self::{limits::KvLimits, redb_store::OpenError};
use crate::{Namespace, Provider};

/// A backend: runs reads and writes, each atomically, and each seeing all writes that were answered before.
#[async_trait]
trait Store: Send + Sync {
    fn backend(&self) -> &'static str;
    async fn read(&self, bucket: Bucket, read: Read) -> Result<KvReply, KvError>;
    async fn write(&self, bucket: Bucket, write: Write) -> Result<KvReply, KvError>;
    async fn shutdown(&self);
}

/// The provider of [`Capability::Kv`].
pub struct KvProvider {
    store: Box<dyn Store>,
    limits: KvLimits,
}

impl KvProvider {
    /// Keeps everything in memory; it is gone when the process ends.
    pub fn memory(limits: KvLimits) -> Self {
        Self { store: Box::new(MemoryStore::new(limits.clone())), limits }
    }

    /// Keeps everything in the file at `path`, which is made if it is not there. What was answered is on the disk and
    /// survives a crash. Blocks while the file is opened, which takes longer after a crash, when it is checked whole.
    ///
    /// # Errors
    /// The file can't be used; the error names it and says what to do.
    pub fn open(path: impl AsRef<Path>, limits: KvLimits) -> Result<Self, OpenError> {
        Ok(Self { store: Box::new(RedbStore::open(path.as_ref(), limits.clone())?), limits })
    }
}

#[async_trait]
impl Provider for KvProvider {
    fn capability(&self) -> Capability {
        Capability::Kv
    }

    fn backend(&self) -> &str {
        self.store.backend()
    }

    async fn call(
        &self,
        owner: &Namespace,
        call: CapabilityCall,
    ) -> Result<CapabilityReply, CapabilityError> {
        let CapabilityCall::Kv(call) = call;
        let (bucket, operation) = Operation::of(owner, call, &self.limits)?;
        let reply = match operation {
            Operation::Read(read) => self.store.read(bucket, read).await?,
            Operation::Write(write) => self.store.write(bucket, write).await?,
        };
        Ok(CapabilityReply::Kv(reply))
    }

    async fn shutdown(&self) {
        self.store.shutdown().await;
    }
}

impl fmt::Debug for KvProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvProvider").field("backend", &self.store.backend()).finish_non_exhaustive()
    }
}
