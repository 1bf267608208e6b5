//! Which instance changed last when: what a watcher has not been told yet, by revision.

use std::collections::{BTreeMap, HashMap};

use wasmatrix_model::InstanceId;

/// Removals that are remembered for watchers that come back.
const REMOVALS_MAX: usize = 1024;

/// The latest change of each instance, and the removals of the past.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    by_revision: BTreeMap<u64, Change>,
    latest: HashMap<InstanceId, u64>,
    removals: usize,
    revision: u64,
    /// The latest removal that is no longer remembered.
    forgotten: u64,
}

/// What became of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is otherwise than before.
    Is(InstanceId),
    /// It is listed no longer.
    Gone(InstanceId),
}

impl Changes {
    /// Notes that an instance changed, and gives the revision of the change.
    pub(crate) fn note(&mut self, id: InstanceId) -> u64 {
        self.revision += 1;
        if let Some(before) = self.latest.insert(id, self.revision) {
            self.by_revision.remove(&before);
        }
        self.by_revision.insert(self.revision, Change::Is(id));
        self.revision
    }

    /// Notes that an instance is listed no longer.
    pub(crate) fn gone(&mut self, id: InstanceId) -> u64 {
        self.revision += 1;
        if let Some(before) = self.latest.remove(&id) {
            self.by_revision.remove(&before);
        }
        self.by_revision.insert(self.revision, Change::Gone(id));
        self.removals += 1;
        if self.removals > REMOVALS_MAX {
            let is_gone = |change: &Change| matches!(change, Change::Gone(_));
            let oldest = self.by_revision.iter().find(|(_, change)| is_gone(change)).map(|(at, _)| *at);
            if let Some(oldest) = oldest {
                self.by_revision.remove(&oldest);
                self.forgotten = oldest;
                self.removals -= 1;
            }
        }
        self.revision
    }

    /// The latest revision; 0: nothing changed yet.
    pub(crate) const fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether a watcher that knows all up to `revision` can be told the rest.
    pub(crate) const fn can_resume(&self, revision: u64) -> bool {
        revision >= self.forgotten && revision <= self.revision
    }

    /// Up to `count` changes after `revision`, oldest first.
    pub(crate) fn after(&self, revision: u64, count: usize) -> Vec<(u64, Change)> {
        self.by_revision.range(revision + 1..).take(count).map(|(at, change)| (*at, *change)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_change_of_an_instance_is_told() {
        let (a, b) = (InstanceId::generate(), InstanceId::generate());
        let mut changes = Changes::default();
        for id in [a, b, a, a] {
            changes.note(id);
        }
        assert_eq!(changes.after(0, 9), [(2, Change::Is(b)), (4, Change::Is(a))]);
        changes.gone(b);
        assert_eq!(changes.after(2, 9), [(4, Change::Is(a)), (5, Change::Gone(b))]);
        assert_eq!(changes.after(5, 9), []);
    }

    #[test]
    fn whoever_missed_a_removal_that_is_forgotten_can_not_resume() {
        let mut changes = Changes::default();
        for _ in 0..=REMOVALS_MAX {
            let id = InstanceId::generate();
            changes.note(id);
            changes.gone(id);
        }
        assert!(!changes.can_resume(1));
        assert!(changes.can_resume(2), "the first removal is forgotten, and it is known there");
        assert!(!changes.can_resume(changes.revision() + 1));
        assert_eq!(changes.after(0, usize::MAX).len(), REMOVALS_MAX);
    }
}
