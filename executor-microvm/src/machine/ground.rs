//! A machine's physical memory, as KVM is lent it.
//!
//! ```text
//!  0        core: tables, descriptors, the image's data; the beginnings of request, response, stack and heap
//!           linear memory, as much as most programs need
//!           compiled code                        shared, mapped read-only
//!           what it is lent later, piece by piece
//!  IMAGE_AT image: code and constants            shared, lent read-only, in large pages
//! ```
//!
//! All of it up to "later" is one slot, and the image another: KVM takes its time over each, and keeps some bytes for
//! every page that a slot *may* have.

use std::{ops::Range, sync::Arc};

use wasmatrix_microvm_abi::layout::LARGE_PAGE_BYTES;

use super::MachineError;
use crate::sys::{Frozen, Memory, Shared, Slots};

/// Where the image is. All other memory is below it, and it needs no more than 36 bits.
pub(super) const IMAGE_AT: u64 = 0xe_0000_0000;

/// The memory.
#[derive(Debug)]
pub(super) struct Ground {
    /// `None`: the memory of no machine.
    slots: Option<Slots>,
    spans: Vec<Span>,
}

#[derive(Debug)]
struct Span {
    physical: u64,
    memory: Arc<Memory>,
    /// What is laid over it: never written.
    shared: Range<u64>,
}

/// An address that the machine has no memory at, or none that may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nowhere;

impl Ground {
    /// Memory with that image, and with so many bytes from 0 on, over which code is laid at that address.
    pub(super) fn lay(
        mut slots: Slots,
        image: &Arc<Frozen>,
        bytes: u64,
        code: Option<(u64, &Shared)>,
    ) -> Result<Self, MachineError> {
        let memory = memory(bytes)?;
        let mut shared = 0..0;
        if let Some((at, code)) = code {
            memory.overlay(at, code).map_err(MachineError::Shared)?;
            shared = at..at + code.bytes();
        }
        slots.lend(Arc::clone(&memory), 0)?;
        slots.lend_frozen(Arc::clone(image), IMAGE_AT)?;
        Ok(Self { slots: Some(slots), spans: vec![Span { physical: 0, memory, shared }] })
    }

    /// Another slot, behind all others. Says where it begins.
    pub(super) fn extend(&mut self, bytes: u64) -> Result<u64, MachineError> {
        // Where large pages can be had, virtual and physical addresses have to begin alike.
        let (memory, physical) = (memory(bytes)?, self.end().next_multiple_of(LARGE_PAGE_BYTES));
        if let Some(slots) = &mut self.slots {
            slots.lend(Arc::clone(&memory), physical)?;
        }
        self.spans.push(Span { physical, memory, shared: 0..0 });
        Ok(physical)
    }

    /// Where it ends.
    pub(super) fn end(&self) -> u64 {
        self.spans.last().map_or(0, |span| span.physical + span.memory.bytes())
    }

    /// The span that has that address, if one has, and the address's offset in it.
    fn find(&self, physical: u64) -> Result<(&Span, u64), Nowhere> {
        let span = self.spans.iter().rev().find(|span| span.physical <= physical).ok_or(Nowhere)?;
        Ok((span, physical - span.physical))
    }

    /// Reads bytes.
    pub(super) fn read(&self, physical: u64, bytes: &mut [u8]) -> Result<(), Nowhere> {
        let (span, at) = self.find(physical)?;
        if span.memory.read(at, bytes) { Ok(()) } else { Err(Nowhere) }
    }

    /// Writes bytes, though never over what is shared.
    pub(super) fn write(&self, physical: u64, bytes: &[u8]) -> Result<(), Nowhere> {
        let (span, at) = self.find(physical)?;
        let end = at.checked_add(bytes.len() as u64).ok_or(Nowhere)?;
        let is_shared = at < span.shared.end && span.shared.start < end;
        if !is_shared && span.memory.write(at, bytes) { Ok(()) } else { Err(Nowhere) }
    }

    /// Has memory consist of large pages, where the system has some.
    pub(super) fn prefer_large_pages(&self, physical: u64, bytes: u64) {
        if let Ok((span, at)) = self.find(physical) {
            span.memory.prefer_large_pages(at, bytes);
        }
    }

    /// Takes pages from the system ahead of the guest.
    pub(super) fn populate(&self, physical: u64, bytes: u64) {
        if let Ok((span, at)) = self.find(physical) {
            span.memory.populate(at, bytes);
        }
    }
}

/// Memory to be lent.
fn memory(bytes: u64) -> Result<Arc<Memory>, MachineError> {
    Memory::new(bytes).map(Arc::new).map_err(MachineError::Memory)
}

#[cfg(any(test, fuzzing))]
impl Ground {
    /// So many bytes that no machine is lent.
    pub(super) fn alone(bytes: u64) -> Result<Self, MachineError> {
        let memory = memory(bytes)?;
        Ok(Self { slots: None, spans: vec![Span { physical: 0, memory, shared: 0..0 }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_is_read_and_not_written() {
        let page = 4096;
        let contents = Shared::new(b"shared").unwrap();
        let mut ground = Ground::alone(3 * page).unwrap();
        ground.spans[0].memory.overlay(page, &contents).unwrap();
        ground.spans[0].shared = page..2 * page;
        let mut bytes = [0; 6];
        ground.read(page, &mut bytes).unwrap();
        assert_eq!(&bytes, b"shared");
        assert_eq!(ground.write(page - 1, b"xx"), Err(Nowhere));
        assert_eq!(ground.write(2 * page - 1, b"x"), Err(Nowhere));
        assert_eq!(ground.write(2 * page, b"x"), Ok(()));
        assert_eq!(ground.write(3 * page - 1, b"xx"), Err(Nowhere));
        assert_eq!(ground.read(u64::MAX, &mut bytes), Err(Nowhere));
    }
}
