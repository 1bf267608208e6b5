//! What a guest has a say in: its requests, and the linear memory that it asks for. Everything here takes numbers from
//! the guest, and none of it needs a machine that runs.

use std::sync::Arc;

use vm_memory::{Bytes, VolatileMemory};
use wasmatrix_microvm_abi::{
    Response,
    layout::{MEMORIES, MEMORIES_END, MEMORIES_PHYSICAL, PAGE_BYTES, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX},
};

use super::{
    REQUEST_AT, RESPONSE_AT, RESPONSE_LENGTH_AT, Violation,
    tables::{Access, Tables},
};
use crate::sys::Memory;

/// A machine's private memory and its tables.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    pub(super) private: Arc<Memory>,
    pub(super) tables: Tables,
    /// Linear memory: bytes that it may have, and has.
    pub(super) memory_bytes_max: u64,
    memory_bytes: u64,
}

impl GuestMemory {
    /// Without linear memory as yet. The tables lie in that private memory.
    pub(super) const fn new(private: Arc<Memory>, tables: Tables) -> Self {
        Self { private, tables, memory_bytes_max: 0, memory_bytes: 0 }
    }

    /// Copies a request of that length into `buffer`, so that the guest can't change it any more, and gives the length.
    pub(crate) fn fetch(&self, length: u32, buffer: &mut Vec<u8>) -> Result<usize, Violation> {
        if length > REQUEST_BYTES_MAX {
            return Err(Violation::RequestLength(length));
        }
        let bytes = length as usize;
        if buffer.len() < bytes {
            buffer.resize(bytes, 0);
        }
        let read = self.private.as_volatile_slice().read_slice(&mut buffer[..bytes], at(REQUEST_AT));
        read.map_err(|_| Violation::RequestLength(length)).map(|()| bytes)
    }

    /// Answers the request. False: the answer is too long and was not given.
    pub(crate) fn answer(&self, response: &Response) -> bool {
        let bytes = response.encode();
        let Ok(length) = u32::try_from(bytes.len()) else { return false };
        let memory = self.private.as_volatile_slice();
        length <= RESPONSE_BYTES_MAX
            && memory.write_slice(&bytes, at(RESPONSE_AT)).is_ok()
            && memory.write_obj(length, at(RESPONSE_LENGTH_AT)).is_ok()
    }

    /// Makes linear memory present, zeroed. False: it may not have so much, or not there.
    pub(crate) fn commit(&mut self, address: u64, bytes: u64) -> bool {
        let in_arena =
            address >= MEMORIES && address.checked_add(bytes).is_some_and(|end| end <= MEMORIES_END);
        let aligned = address.is_multiple_of(PAGE_BYTES) && bytes.is_multiple_of(PAGE_BYTES);
        if !in_arena || !aligned || bytes > self.memory_bytes_max - self.memory_bytes {
            return false;
        }
        let physical = MEMORIES_PHYSICAL + self.memory_bytes;
        // Pages are spent even if some of them were there already: who asks twice has less, and the count stays right.
        self.memory_bytes += bytes;
        self.tables.map(address, physical, bytes, Access::DATA).is_ok()
    }

    /// Linear memory that is present, in bytes.
    pub(crate) const fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).expect("an address fits in a 64-bit machine's usize")
}

#[cfg(any(test, fuzzing))]
mod alone {
    use wasmatrix_microvm_abi::layout::{MEMORIES, MEMORIES_END, MEMORIES_PHYSICAL};

    use super::{Arc, Bytes, GuestMemory, REQUEST_AT, Tables, VolatileMemory, at};
    use crate::machine::{MachineError, PRIVATE_BYTES, SMALL_BYTES, memory};

    impl GuestMemory {
        /// That of no machine, which may have so much linear memory.
        pub(crate) fn alone(memory_bytes_max: u64) -> Result<Self, MachineError> {
            let private = memory(PRIVATE_BYTES)?;
            let tables = Tables::new(Arc::clone(&private), SMALL_BYTES)?;
            Ok(Self { memory_bytes_max, ..Self::new(private, tables) })
        }

        /// What a guest does before it asks.
        pub(crate) fn write_request(&self, bytes: &[u8]) {
            let written = self.private.as_volatile_slice().write_slice(bytes, at(REQUEST_AT));
            written.expect("it is no longer than a request may be");
        }

        /// Whether no page leads anywhere but from the linear memories' addresses to what may be had of them.
        pub(crate) fn check(&self) {
            assert!(self.memory_bytes <= self.memory_bytes_max, "it has more than it may");
            let range = MEMORIES_PHYSICAL..MEMORIES_PHYSICAL + self.memory_bytes_max;
            for (address, entry, bytes) in self.tables.pages() {
                assert!(address >= MEMORIES && address + bytes <= MEMORIES_END, "a page at {address:#x}");
                let physical = entry & 0x000f_ffff_ffff_f000;
                assert!(
                    range.contains(&physical) && physical + bytes <= range.end,
                    "a page leads to {physical:#x}"
                );
            }
        }
    }
}
