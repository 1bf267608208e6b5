//! An order of places that takes little more than four bytes for each: sorted numbers, in chunks.
//!
//! The order knows no keys. Whoever asks brings a function that compares the thing at a place with what is looked for,
//! so that a key is kept once, in the record, however many orders there are.

use std::cmp::Ordering;

/// Most places in a chunk. A chunk that is full becomes two.
const CHUNK_LEN_MAX: usize = 512;
/// A chunk of fewer is joined to the next, if both are small.
const CHUNK_LEN_SMALL: usize = 128;

/// Places in the order of their keys. No chunk is empty.
#[derive(Debug, Default)]
pub(super) struct Order {
    chunks: Vec<Vec<u32>>,
}

impl Order {
    /// Puts a place in. `compare` says how the key at a place stands to that of the new one; none is equal.
    pub(super) fn insert(&mut self, place: u32, compare: impl Fn(u32) -> Ordering) {
        let (chunk, index) = self.position(&compare);
        let Some(full) = self.chunks.get_mut(chunk) else {
            // Behind all others: a new chunk only if the last one is full, so that what comes in order packs well.
            match self.chunks.last_mut().filter(|chunk| chunk.len() < CHUNK_LEN_MAX) {
                Some(chunk) => chunk.push(place),
                None => self.chunks.push(vec![place]),
            }
            return;
        };
        full.insert(index, place);
        if full.len() > CHUNK_LEN_MAX {
            let mut upper = full.split_off(full.len() / 2);
            upper.shrink_to_fit();
            full.shrink_to_fit();
            self.chunks.insert(chunk + 1, upper);
        }
    }

    /// Takes a place out. `compare` says how the key at a place stands to its own.
    pub(super) fn remove(&mut self, place: u32, compare: impl Fn(u32) -> Ordering) {
        let (chunk, index) = self.position(&compare);
        let Some(list) = self.chunks.get_mut(chunk) else { return };
        if list.get(index) != Some(&place) {
            return;
        }
        list.remove(index);
        if list.is_empty() {
            self.chunks.remove(chunk);
        } else if list.len() < CHUNK_LEN_SMALL {
            self.join(chunk);
            if let Some(before) = chunk.checked_sub(1) {
                self.join(before);
            }
        }
    }

    /// Makes one of a chunk and the next, if both are small.
    fn join(&mut self, chunk: usize) {
        let small = |chunk: usize| self.chunks.get(chunk).is_some_and(|chunk| chunk.len() < CHUNK_LEN_SMALL);
        if small(chunk) && small(chunk + 1) {
            let next = self.chunks.remove(chunk + 1);
            if let Some(list) = self.chunks.get_mut(chunk) {
                list.extend(next);
            }
        }
    }

    /// The places in order, from the first that is not `Less` by `compare`.
    pub(super) fn from(&self, compare: impl Fn(u32) -> Ordering) -> impl Iterator<Item = u32> {
        let (chunk, index) = self.position(&compare);
        let first = self.chunks.get(chunk).and_then(|list| list.get(index..)).unwrap_or_default();
        let others = self.chunks.get(chunk + 1..).unwrap_or_default();
        first.iter().chain(others.iter().flatten()).copied()
    }

    /// All places in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.chunks.iter().flatten().copied()
    }

    /// Where the first place is that is not `Less`.
    fn position(&self, compare: &impl Fn(u32) -> Ordering) -> (usize, usize) {
        let less = |place: &u32| compare(*place) == Ordering::Less;
        let chunk = self.chunks.partition_point(|chunk| chunk.last().is_some_and(less));
        (chunk, self.chunks.get(chunk).map_or(0, |chunk| chunk.partition_point(less)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection, prelude::*};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Against the standard library's ordered set, with enough entries to split and join chunks. The key of a place
        /// is the place itself.
        #[test]
        fn an_order_is_a_set_in_order(
            bulk in prop_oneof![Just(0_u32), 0_u32..5000],
            descending: bool,
            steps in collection::vec((any::<bool>(), 0_u32..5000), 0..2000),
            from in 0_u32..6000,
        ) {
            let (mut order, mut set) = (Order::default(), BTreeSet::new());
            for index in 0..bulk {
                let place = if descending { bulk - index } else { index };
                order.insert(place, |other| other.cmp(&place));
                set.insert(place);
            }
            for (add, place) in steps {
                if add && set.insert(place) {
                    order.insert(place, |other| other.cmp(&place));
                } else if !add {
                    set.remove(&place);
                    order.remove(place, |other| other.cmp(&place));
                }
            }
            prop_assert!(order.iter().eq(set.iter().copied()));
            prop_assert!(order.from(|place| place.cmp(&from)).eq(set.range(from..).copied()));
            prop_assert!(order.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK_LEN_MAX));
        }
    }

    #[test]
    fn what_comes_in_order_packs_well_and_what_is_emptied_is_let_go() {
        let mut order = Order::default();
        for place in 0..100_000 {
            order.insert(place, |other| other.cmp(&place));
        }
        assert_eq!(order.chunks.len(), 100_000_usize.div_ceil(CHUNK_LEN_MAX));
        for place in (0..100_000).filter(|place| place % 100 != 0) {
            order.remove(place, |other| other.cmp(&place));
        }
        assert!(order.chunks.len() < 40, "{}", order.chunks.len());
    }
}
