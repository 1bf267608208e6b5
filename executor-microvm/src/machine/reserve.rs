//! A range of a guest's addresses that is present from its beginning on, as far as the guest came.
//!
//! The host makes more of it present when the guest first touches it, or before it writes there itself. So a machine
//! costs what it uses, and not what it may use.

use std::ops::Range;

use wasmatrix_microvm_abi::layout::PAGE_BYTES;

/// Least that a reserve grows by, in bytes.
const STEP_BYTES: u64 = 1 << 20;

/// The range, and where in physical memory its parts are.
#[derive(Clone, Debug)]
pub(super) struct Reserve {
    range: Range<u64>,
    pieces: Vec<Piece>,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    physical: u64,
    bytes: u64,
}

impl Reserve {
    /// A range with its beginning already there.
    pub(super) fn new(start: u64, bytes_max: u64, physical: u64, bytes: u64) -> Self {
        Self { range: start..start + bytes_max, pieces: vec![Piece { physical, bytes }] }
    }

    /// Bytes that are present.
    pub(super) fn present(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.bytes).sum()
    }

    /// What is to be made present for the first `bytes` to be: address and length. `None`: they are, or never can be.
    pub(super) fn missing(&self, bytes: u64) -> Option<(u64, u64)> {
        let (present, max) = (self.present(), self.range.end - self.range.start);
        if bytes <= present || bytes > max {
            return None;
        }
        // Twice as much each time: few steps, however far it goes.
        let grown = bytes.max(2 * present).max(present + STEP_BYTES).next_multiple_of(PAGE_BYTES).min(max);
        Some((self.range.start + present, grown - present))
    }

    /// As [`Self::missing`], for that address to be present.
    pub(super) fn missing_at(&self, address: u64) -> Option<(u64, u64)> {
        if self.range.contains(&address) { self.missing(address - self.range.start + 1) } else { None }
    }

    /// Notes that what was missing is there.
    pub(super) fn supply(&mut self, physical: u64, bytes: u64) {
        self.pieces.push(Piece { physical, bytes });
    }

    /// Where the first `bytes` are, part by part.
    pub(super) fn parts(&self, bytes: u64) -> impl Iterator<Item = (u64, usize)> {
        let mut left = bytes;
        self.pieces.iter().map_while(move |piece| {
            let part = piece.bytes.min(left);
            left -= part;
            (part > 0).then_some((piece.physical, part as usize))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_what_is_touched_and_never_beyond_its_end() {
        let mut reserve = Reserve::new(0x1000_0000, 5 << 20, 0x4000, 0x2_0000);
        assert_eq!(reserve.missing(0x2_0000), None);
        assert_eq!(reserve.missing_at(0x1001_ffff), None);
        assert_eq!(reserve.missing_at(0x0fff_ffff), None);
        assert_eq!(reserve.missing_at(0x1050_0000), None);
        let (address, bytes) = reserve.missing_at(0x1002_0000).unwrap();
        assert_eq!((address, bytes), (0x1002_0000, STEP_BYTES));
        reserve.supply(0x90_0000, bytes);
        assert_eq!(reserve.missing_at(0x1002_0000), None);
        let (address, bytes) = reserve.missing(5 << 20).unwrap();
        assert_eq!(address + bytes, 0x1050_0000);
        assert_eq!(reserve.missing((5 << 20) + 1), None);
    }

    #[test]
    fn its_parts_are_told_in_order() {
        let mut reserve = Reserve::new(0, 1 << 30, 0x4000, 100);
        reserve.supply(0x9000, 50);
        assert_eq!(reserve.parts(120).collect::<Vec<_>>(), [(0x4000, 100), (0x9000, 20)]);
        assert_eq!(reserve.parts(7).collect::<Vec<_>>(), [(0x4000, 7)]);
        assert_eq!(reserve.parts(0).count(), 0);
    }
}
