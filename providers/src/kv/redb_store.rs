//! The backend that does not forget: a redb file, one thread that writes, and readers that never wait for it.
//!
//! ```text
//!  write ──► bounded queue ──► writer thread: one transaction for all that wait ──► fsync ──► answers
//!  read  ──► blocking pool: the last committed state
//! ```
//!
//! A write is answered when it is on the disk. An fsync costs milliseconds whatever it carries, so the writer takes
//! all writes that have gathered while it was busy and commits them as a group: the more callers, the larger the
//! groups. Each write of a group sees those before it, and a refused one leaves no trace. If the storage itself fails,
//! the whole group is undone and each of its callers told so.
//!
//! | module | what it does |
//! |---|---|
//! | [`open`] | finds or makes the file, and says why it can't |
//! | [`database`] | keeps a panic of redb's from spreading |
//! | [`tables`] | the entries in the file |
//! | [`writer`] | the thread, the queue and the groups |

mod database;
mod open;
#[cfg(test)]
mod power_loss;
mod tables;
mod writer;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use redb::{Database, ReadableDatabase as _};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use wasmatrix_executor_api::KvReply;

pub use self::open::OpenError;
use self::{
    database::{SharedDatabase, contain},
    tables::{ENTRIES, Entries},
    writer::{QUEUE_WRITES_MAX, Queued, Writer},
};
use super::{
    KvLimits, Store,
    error::KvError,
    operation::{Read, Write},
    semantics,
    table::{Bucket, Fault},
};

/// Reads at one time, each on a thread of tokio's blocking pool. More of them wait.
const READS_MAX: u32 = 32;

pub(super) struct RedbStore {
    /// `None` once it was shut down.
    open: Mutex<Option<Open>>,
    /// A permit for each read in flight, given back after the read let go of the database.
    reads: Arc<Semaphore>,
    /// Becomes true when the writer has answered everything and let go of the database.
    writer_ended: watch::Receiver<bool>,
    limits: Arc<KvLimits>,
    path: Arc<Path>,
}

#[derive(Clone)]
struct Open {
    database: SharedDatabase,
    queue: mpsc::Sender<Queued>,
}

impl RedbStore {
    pub(super) fn open(path: &Path, limits: KvLimits) -> Result<Self, OpenError> {
        let database = contain(|| open::database(path))
            .map_err(|fault| OpenError::NotAStore { path: path.to_owned(), reason: fault.cause })??;
        Self::over(database, path, limits)
    }

    /// Starts the work on a database that holds the tables. `path` is for the log.
    fn over(database: Database, path: &Path, limits: KvLimits) -> Result<Self, OpenError> {
        let database = SharedDatabase::new(database);
        let limits = Arc::new(limits);
        let path: Arc<Path> = path.into();
        let (queue, queued) = mpsc::channel(QUEUE_WRITES_MAX);
        let (ended, writer_ended) = watch::channel(false);
        let writer = Writer {
            database: database.clone(),
            queue: queued,
            limits: Arc::clone(&limits),
            path: Arc::clone(&path),
        };
        std::thread::Builder::new()
            .name("kv-writer".to_owned())
            .spawn(move || {
                writer.run();
                ended.send_replace(true);
            })
            .map_err(|source| OpenError::Thread { source })?;
        Ok(Self {
            open: Mutex::new(Some(Open { database, queue })),
            reads: Arc::new(Semaphore::new(READS_MAX as usize)),
            writer_ended,
            limits,
            path,
        })
    }

    fn opened(&self) -> Result<Open, KvError> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.clone().ok_or(KvError::Closed)
    }
}

#[async_trait]
impl Store for RedbStore {
    fn backend(&self) -> &'static str {
        "redb"
    }

    async fn read(&self, bucket: Bucket, read: Read) -> Result<KvReply, KvError> {
        let permit = Arc::clone(&self.reads).acquire_owned().await.map_err(|_| KvError::Closed)?;
        let Open { database, queue: _ } = self.opened()?;
        let (limits, path) = (Arc::clone(&self.limits), Arc::clone(&self.path));
        let answer = tokio::task::spawn_blocking(move || {
            let answer = contain(|| read_committed(&database, &bucket, read, &limits));
            let answer = answer.unwrap_or_else(|fault| Err(fault.into()));
            if let Err(KvError::Storage(fault)) = &answer {
                log_fault(&path, fault);
            }
            drop(database);
            drop(permit);
            answer
        });
        // It was never aborted and did not panic: the runtime ends.
        answer.await.map_err(|error| Fault { cause: error.to_string() })?
    }

    async fn write(&self, bucket: Bucket, write: Write) -> Result<KvReply, KvError> {
        let (reply, answer) = oneshot::channel();
        let queue = self.opened()?.queue;
        queue.send(Queued { bucket, write, reply }).await.map_err(|_| KvError::Closed)?;
        drop(queue);
        answer.await.map_err(|_| Fault { cause: "the writer ended".to_owned() })?
    }

    async fn shutdown(&self) {
        // Without this sender, the writer ends once the queue is empty.
        drop(self.open.lock().unwrap_or_else(PoisonError::into_inner).take());
        // Once it holds every permit, no read holds the database. Already closed: another shutdown did that.
        let idle = self.reads.acquire_many(READS_MAX).await;
        self.reads.close();
        drop(idle);
        // An error too means that it has ended.
        let _ = self.writer_ended.clone().wait_for(|ended| *ended).await;
    }
}

fn read_committed(
    database: &SharedDatabase,
    bucket: &Bucket,
    read: Read,
    limits: &KvLimits,
) -> Result<KvReply, KvError> {
    let transaction = database.get().begin_read().map_err(tables::fault)?;
    let entries = Entries(transaction.open_table(ENTRIES).map_err(tables::fault)?);
    semantics::read(&entries, bucket, read, limits)
}

/// Tells the node's log what the guest need not know.
fn log_fault(path: &Path, fault: &Fault) {
    tracing::error!(path = %path.display(), cause = fault.cause, "the key-value store failed");
}
