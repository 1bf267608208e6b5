//! The guest's own image, built by this crate's build script and loaded once: code and constants are shared by all
//! machines, data is copied into each.

use std::sync::Arc;

use wasmatrix_microvm_abi::layout::{IMAGE, LARGE_PAGE_BYTES, PAGE_BYTES};

use crate::{
    elf::{self, Segment},
    sys::{Frozen, Memory},
};

/// The image as it was linked.
static FILE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest.elf"));

/// The image, ready to be lent to machines.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// Code and constants, from [`IMAGE`] on.
    pub(crate) shared: Arc<Frozen>,
    /// Bytes of code at the beginning, in whole large pages.
    pub(crate) code_bytes: u64,
    /// What every machine has a copy of.
    pub(crate) data: Segment,
}

impl Image {
    /// Loads it. `None`: the build made something else.
    pub(crate) fn load() -> Option<Self> {
        Self::parse(FILE)
    }

    fn parse(file: &[u8]) -> Option<Self> {
        let (shared, mut data): (Vec<_>, Vec<_>) =
            elf::segments(file)?.into_iter().partition(|segment| !segment.writable);
        let data = data
            .pop()
            .filter(|data| data.address % PAGE_BYTES == 0 && data.address > IMAGE && !data.executable)?;
        let mut code_bytes = 0;
        let memory = Memory::new((data.address - IMAGE).next_multiple_of(LARGE_PAGE_BYTES)).ok()?;
        memory.prefer_large_pages(0, memory.bytes());
        for segment in &shared {
            if segment.address % LARGE_PAGE_BYTES != 0 {
                return None;
            }
            if segment.executable {
                code_bytes = segment.memory_bytes.next_multiple_of(LARGE_PAGE_BYTES);
            }
            if !memory.write(segment.address.checked_sub(IMAGE)?, &segment.bytes) {
                return None;
            }
        }
        let shared = Arc::new(memory.freeze().ok()?);
        (code_bytes > 0).then_some(Self { shared, code_bytes, data })
    }
}
