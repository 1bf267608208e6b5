//! The guest's own image, built by this crate's build script and loaded once: code and constants are shared by all
//! machines, data is copied into each.

use std::sync::Arc;

use vm_memory::{Bytes, VolatileMemory};
use wasmatrix_microvm_abi::layout::{IMAGE, PAGE_BYTES};

use crate::{
    elf::{self, Segment},
    sys::Memory,
};

/// The image as it was linked.
static FILE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest.elf"));

/// The image, ready to be lent to machines.
#[derive(Debug)]
pub(crate) struct Image {
    /// Code and constants, from [`IMAGE`] on.
    pub(crate) shared: Arc<Memory>,
    /// Bytes of code at the beginning, in whole pages.
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
        let memory = Memory::new(usize::try_from(data.address - IMAGE).ok()?).ok()?;
        let mut code_bytes = 0;
        for segment in &shared {
            if segment.address % PAGE_BYTES != 0 {
                return None;
            }
            if segment.executable {
                code_bytes = segment.memory_bytes.next_multiple_of(PAGE_BYTES);
            }
            let at = usize::try_from(segment.address.checked_sub(IMAGE)?).ok()?;
            memory.as_volatile_slice().write_slice(&segment.bytes, at).ok()?;
        }
        (code_bytes > 0).then_some(Self { shared: Arc::new(memory), code_bytes, data })
    }
}
