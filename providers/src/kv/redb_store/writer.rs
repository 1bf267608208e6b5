//! The thread that writes, the queue before it, and the groups that it makes of what waits there.

use std::{path::Path, sync::Arc};

use redb::Durability;
use tokio::sync::{mpsc, oneshot};
use wasmatrix_executor_api::KvReply;

use super::{
    database::{SharedDatabase, contain},
    log_fault,
    tables::{COUNTERS, ENTRIES, Entries, WriteTables, fault},
};
use crate::kv::{
    KvLimits,
    error::KvError,
    operation::Write,
    semantics,
    table::{Bucket, Fault},
};

/// Writes that wait. More callers wait before the queue, each with its own write, and there is one call at a time of
/// each instance.
pub(super) const QUEUE_WRITES_MAX: usize = 256;
/// Most writes in one transaction.
const GROUP_WRITES_MAX: usize = 128;
/// Values in one transaction, in bytes, after which no more writes are taken into it.
const GROUP_BYTES_MAX: usize = 16 << 20;

/// A write on its way, and where its answer is waited for.
pub(super) struct Queued {
    pub(super) bucket: Bucket,
    pub(super) write: Write,
    pub(super) reply: oneshot::Sender<Result<KvReply, KvError>>,
}

pub(super) struct Writer {
    pub(super) database: SharedDatabase,
    pub(super) queue: mpsc::Receiver<Queued>,
    pub(super) limits: Arc<KvLimits>,
    pub(super) path: Arc<Path>,
}

impl Writer {
    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self) {
        while let Some(first) = self.queue.blocking_recv() {
            let group = self.gather(first);
            self.commit(group);
        }
    }

    /// Takes what already waits, and waits for nothing.
    fn gather(&mut self, first: Queued) -> Vec<Queued> {
        let mut bytes = first.write.value_bytes();
        let mut group = vec![first];
        while group.len() < GROUP_WRITES_MAX && bytes < GROUP_BYTES_MAX {
            let Ok(next) = self.queue.try_recv() else { break };
            bytes = bytes.saturating_add(next.write.value_bytes());
            group.push(next);
        }
        group
    }

    /// Does the writes of a group in one transaction, and answers them when it is on the disk.
    fn commit(&self, group: Vec<Queued>) {
        let (mut replies, mut writes) = (Vec::with_capacity(group.len()), Vec::with_capacity(group.len()));
        for Queued { bucket, write, reply } in group {
            // Whose caller has gone need not be done; nobody was told that it was.
            if !reply.is_closed() {
                replies.push(reply);
                writes.push((bucket, write));
            }
        }
        // A caller that goes away now misses an answer; that is its own affair.
        match contain(|| self.transact(writes)).unwrap_or_else(Err) {
            Ok(answers) => {
                for (reply, answer) in replies.into_iter().zip(answers) {
                    let _ = reply.send(answer);
                }
            }
            Err(fault) => {
                log_fault(&self.path, &fault);
                for reply in replies {
                    let _ = reply.send(Err(KvError::Storage(fault.clone())));
                }
            }
        }
    }

    /// An answer for each write, all of them on the disk; or a fault, and none of them.
    fn transact(&self, writes: Vec<(Bucket, Write)>) -> Result<Vec<Result<KvReply, KvError>>, Fault> {
        let mut transaction = self.database.get().begin_write().map_err(fault)?;
        transaction.set_durability(Durability::Immediate).map_err(fault)?;
        // In one phase, redb tells a torn commit by a checksum that somebody who chooses the data could forge, and
        // our data is chosen by guests.
        transaction.set_two_phase_commit(true);
        let mut answers = Vec::with_capacity(writes.len());
        let mut tables = WriteTables {
            entries: Entries(transaction.open_table(ENTRIES).map_err(fault)?),
            counters: transaction.open_table(COUNTERS).map_err(fault)?,
            changed: false,
        };
        for (bucket, write) in writes {
            match semantics::write(&mut tables, &bucket, write, &self.limits) {
                Err(KvError::Storage(fault)) => return Err(fault),
                answer => answers.push(answer),
            }
        }
        let changed = tables.changed;
        drop(tables);
        if changed {
            transaction.commit().map_err(fault)?;
        } else {
            transaction.abort().map_err(fault)?;
        }
        Ok(answers)
    }
}
