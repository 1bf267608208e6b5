//! A bounded, numbered record that many can follow: the facts of a node, the log of an instance.
//!
//! Entries are numbered from 1 without gaps. The oldest go when the ring is full, by count or by weight; a reader who
//! comes too late learns from the numbers what it missed. Writing never waits for a reader.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// See the module's head.
#[derive(Debug)]
pub struct Ring<T> {
    entries: Mutex<Entries<T>>,
    /// The number of the newest entry; 0: none yet.
    newest: watch::Sender<u64>,
    count_max: usize,
    weight_max: usize,
}

#[derive(Debug)]
struct Entries<T> {
    kept: VecDeque<(T, usize)>,
    weight: usize,
    /// The number that the next entry gets.
    next: u64,
}

impl<T: Clone> Ring<T> {
    /// A ring that keeps at most `count_max` entries, and of them at most `weight_max` in weight (at least the newest).
    pub fn new(count_max: usize, weight_max: usize) -> Self {
        let entries = Entries { kept: VecDeque::new(), weight: 0, next: 1 };
        Self {
            entries: Mutex::new(entries),
            newest: watch::Sender::new(0),
            count_max: count_max.max(1),
            weight_max,
        }
    }

    /// Adds the entry that `make` builds from its number and the entry before it, which weighs `weight`.
    pub fn push(&self, weight: usize, make: impl FnOnce(u64, Option<&T>) -> T) -> u64 {
        let mut entries = self.lock();
        let number = entries.next;
        let entry = make(number, entries.kept.back().map(|(entry, _)| entry));
        entries.next += 1;
        entries.weight = entries.weight.saturating_add(weight);
        entries.kept.push_back((entry, weight));
        while entries.kept.len() > 1
            && (entries.kept.len() > self.count_max || entries.weight > self.weight_max)
        {
            if let Some((_, weight)) = entries.kept.pop_front() {
                entries.weight = entries.weight.saturating_sub(weight);
            }
        }
        // Announced under the lock, so that the numbers that readers see never go back.
        self.newest.send_replace(number);
        number
    }

    /// Up to `count` entries after number `after`, and the number of the last of them.
    ///
    /// # Errors
    /// Entries after `after` are no longer kept; the number of the oldest that is.
    pub fn after(&self, after: u64, count: usize) -> Result<(Vec<T>, u64), u64> {
        let entries = self.lock();
        let oldest = entries.next - entries.kept.len() as u64;
        if after + 1 < oldest {
            return Err(oldest);
        }
        let skip = usize::try_from(after + 1 - oldest).unwrap_or(usize::MAX);
        let found: Vec<T> =
            entries.kept.iter().skip(skip).take(count).map(|(entry, _)| entry.clone()).collect();
        let last = after + found.len() as u64;
        Ok((found, last))
    }

    /// The number before the oldest entry that is kept: reading after it misses nothing that can be had.
    pub fn before_oldest(&self) -> u64 {
        let entries = self.lock();
        entries.next - entries.kept.len() as u64 - 1
    }

    /// The number of the newest entry, and word of every later one.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// The number of the newest entry; 0: none yet.
    pub fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    fn lock(&self) -> MutexGuard<'_, Entries<T>> {
        // A writer that panicked in `make` has changed nothing yet.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_late_readers_learn_it() {
        let ring = Ring::new(3, usize::MAX);
        for _ in 0..5 {
            ring.push(1, |number, _| number);
        }
        assert_eq!(ring.after(0, 10), Err(3));
        assert_eq!(ring.after(2, 10), Ok((vec![3, 4, 5], 5)));
        assert_eq!(ring.after(3, 1), Ok((vec![4], 4)));
        assert_eq!(ring.after(5, 10), Ok((vec![], 5)));
        assert_eq!(ring.before_oldest(), 2);
    }

    #[test]
    fn weight_is_bounded_but_the_newest_is_always_kept() {
        let ring = Ring::new(100, 10);
        for weight in [4, 4, 4, 50] {
            ring.push(weight, |_, _| weight);
        }
        assert_eq!(ring.after(3, 10), Ok((vec![50], 4)));
        assert_eq!(ring.after(2, 10), Err(4));
    }

    #[tokio::test]
    async fn a_follower_is_told() {
        let ring = Ring::new(3, usize::MAX);
        let mut newest = ring.subscribe();
        ring.push(1, |_, _| ());
        newest.changed().await.unwrap();
        assert_eq!(*newest.borrow(), 1);
    }
}
