//! Which instances changed, in the order of their last change: what a reader needs to hold the same list as the agent.
//!
//! Every change of an instance has a revision, one higher than the change before it, over the whole node. Only an
//! instance's last change is remembered, so the journal is as long as the list of instances; of those removed, the last
//! [`REMOVALS_KEPT`] are. A reader goes through it by revision, at its own pace and from wherever it left off: changes
//! that come faster than it reads are told as the last of them, and writing never waits for it.
//!
//! ```text
//!  step, amend, assign, revoke ──► changed ─┐          ┌─► since(revision) ──► watch ──► readers
//!  admit ────────────────────────► listed ──┼─ Journal ┤
//!  forget ───────────────────────► removed ─┘          └─► newest: there is more
//! ```
//!
//! The state comes first and the revision second: a reader that is told of a revision finds at least the state that
//! belongs to it, perhaps a later one, of which it is told again.

mod watch;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use wasmatrix_model::InstanceId;

pub(crate) use watch::watch;
pub use watch::{Change, Changed};

/// Removals that are remembered, for readers who come back.
pub(crate) const REMOVALS_KEPT: usize = 10_000;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Journal {
    entries: Mutex<Entries>,
    /// The revision of the newest change; 0: none yet.
    newest: tokio::sync::watch::Sender<u64>,
    removals_kept: usize,
}

#[derive(Debug, Default)]
struct Entries {
    revision: u64,
    by_revision: BTreeMap<u64, Entry>,
    listed: HashMap<InstanceId, u64>,
    /// The revisions of the removals that are remembered, oldest first.
    removals: VecDeque<u64>,
    /// The newest removal that is no longer remembered; 0: all are.
    forgotten: u64,
}

/// What the last change of an instance was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It is listed, and as its status says.
    Changed(InstanceId),
    /// It is listed no longer.
    Removed(InstanceId),
}

/// What a reader has to hear next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Revision and change, in the order of revisions; of no instance twice.
    pub(crate) entries: Vec<(u64, Entry)>,
    /// Up to where this is all that there is.
    pub(crate) until: u64,
}

/// Removals that the reader has not heard of are forgotten; it must begin anew, at this revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooOld(pub(crate) u64);

impl Journal {
    /// An empty journal that remembers so many removals.
    pub(crate) fn new(removals_kept: usize) -> Self {
        Self {
            entries: Mutex::default(),
            newest: tokio::sync::watch::Sender::new(0),
            removals_kept: removals_kept.max(1),
        }
    }

    /// An instance is listed from now on. Gives the revision.
    pub(crate) fn listed(&self, id: InstanceId) -> u64 {
        let mut entries = self.lock();
        let revision = entries.next(Entry::Changed(id));
        if let Some(before) = entries.listed.insert(id, revision) {
            entries.by_revision.remove(&before);
        }
        self.newest.send_replace(revision);
        revision
    }

    /// An instance has changed. Gives the revision; `None`: it is not listed.
    pub(crate) fn changed(&self, id: InstanceId) -> Option<u64> {
        let mut entries = self.lock();
        // One that is not listed any more, or not yet, must not be taken for one that is.
        let before = entries.listed.get(&id).copied()?;
        entries.by_revision.remove(&before);
        let revision = entries.next(Entry::Changed(id));
        entries.listed.insert(id, revision);
        self.newest.send_replace(revision);
        Some(revision)
    }

    /// An instance is listed no longer.
    pub(crate) fn removed(&self, id: InstanceId) {
        let mut entries = self.lock();
        let Some(before) = entries.listed.remove(&id) else { return };
        entries.by_revision.remove(&before);
        let revision = entries.next(Entry::Removed(id));
        entries.removals.push_back(revision);
        if entries.removals.len() > self.removals_kept
            && let Some(oldest) = entries.removals.pop_front()
        {
            entries.by_revision.remove(&oldest);
            entries.forgotten = oldest;
        }
        self.newest.send_replace(revision);
    }

    /// The changes after revision `after`, for a reader that began anew at revision `anew` (0: it never did): what was
    /// removed until then it was never told of.
    ///
    /// # Errors
    /// Removals that it should have heard of are forgotten.
    pub(crate) fn since(&self, after: u64, anew: u64) -> Result<Batch, TooOld> {
        let entries = self.lock();
        if entries.forgotten > after.max(anew) {
            return Err(TooOld(entries.revision));
        }
        let matters = |(revision, entry): &(u64, Entry)| match entry {
            Entry::Changed(_) => true,
            Entry::Removed(_) => *revision > anew,
        };
        let later = entries.by_revision.range(after.saturating_add(1)..);
        let later = later.map(|(revision, entry)| (*revision, *entry)).filter(matters).collect();
        Ok(Batch { entries: later, until: entries.revision.max(after) })
    }

    /// The newest revision; 0: nothing has changed yet.
    pub(crate) fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// The newest revision, and word of every later one.
    pub(crate) fn subscribe(&self) -> tokio::sync::watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Nothing panics while it is held.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn next(&mut self, entry: Entry) -> u64 {
        self.revision += 1;
        self.by_revision.insert(self.revision, entry);
        self.revision
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(journal: &Journal, after: u64, anew: u64) -> Vec<Entry> {
        journal.since(after, anew).unwrap().entries.into_iter().map(|(_, entry)| entry).collect()
    }

    #[test]
    fn an_instance_is_told_once_and_at_its_last_change() {
        let journal = Journal::new(10);
        let (one, two) = (InstanceId::generate(), InstanceId::generate());
        assert_eq!(journal.listed(one), 1);
        assert_eq!(journal.listed(two), 2);
        assert_eq!(journal.changed(one), Some(3));
        assert_eq!(told(&journal, 0, 0), [Entry::Changed(two), Entry::Changed(one)]);
        assert_eq!(told(&journal, 2, 0), [Entry::Changed(one)]);
        journal.removed(two);
        assert_eq!(told(&journal, 2, 0), [Entry::Changed(one), Entry::Removed(two)]);
        assert_eq!(journal.since(4, 0), Ok(Batch { entries: Vec::new(), until: 4 }));
    }

    #[test]
    fn what_is_not_listed_can_not_change() {
        let journal = Journal::new(10);
        let id = InstanceId::generate();
        assert_eq!(journal.changed(id), None);
        journal.removed(id);
        assert_eq!(journal.newest(), 0);
        journal.listed(id);
        journal.removed(id);
        assert_eq!(journal.changed(id), None, "the removal is the last that is told of it");
        assert_eq!(told(&journal, 0, 0), [Entry::Removed(id)]);
        assert_eq!(told(&journal, 0, 2), [], "who began after that was never told of it");
    }

    #[test]
    fn forgotten_removals_send_a_reader_back_to_the_beginning_once() {
        let journal = Journal::new(2);
        for _ in 0..3 {
            let id = InstanceId::generate();
            journal.listed(id);
            journal.removed(id);
        }
        assert_eq!(journal.since(0, 0), Err(TooOld(6)));
        assert_eq!(journal.since(1, 0), Err(TooOld(6)));
        assert!(journal.since(2, 0).is_ok(), "the removal at revision 2 is the one that was forgotten");
        assert_eq!(told(&journal, 0, 6), []);
    }
}
