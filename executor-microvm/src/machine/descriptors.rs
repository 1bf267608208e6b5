//! What the processor consults in ring 0: segments, interrupt gates, the task state with its port bitmap, the stubs.
//!
//! ```text
//!  SUPERVISOR + 0      GDT, and from 0x800 on the IDT       read-only
//!             + 1…3    TSS and port bitmap                  read-only
//!             + 4      stubs, 16 bytes each                 executable
//!             + 6      ring-0 stack; page 5 is not there    writable
//! ```
//!
//! An exception in ring 3 goes through its gate onto the ring-0 stack and into its stub, which tells the host the
//! vector and is never left but by the host.

use std::ops::Range;

use wasmatrix_microvm_abi::layout::{HYPERCALL_PORT, PAGE_BYTES, SUPERVISOR, TRAP_PORT};

use super::{
    ground::Ground,
    tables::{Access, OutOfTables, Tables},
};

/// Exceptions have the first 32 vectors; there are no interrupts.
const VECTORS: u64 = 32;
const STUB_BYTES: u64 = 16;
const IDT_OFFSET: u64 = 0x800;
const TSS_PAGES: u64 = 3;
/// The task state without its bitmap, in bytes.
const TSS_BYTES: usize = 104;
/// A bit for each port, and a byte of ones that ends the bitmap.
const PORTS_BYTES: usize = 65536 / 8 + 1;

const STUBS_PAGE: u64 = SUPERVISOR + 4 * PAGE_BYTES;
const STACK_PAGE: u64 = SUPERVISOR + 6 * PAGE_BYTES;
const STACK_TOP: u64 = STACK_PAGE + PAGE_BYTES;

/// Where stubs are.
pub(super) const STUBS: Range<u64> = STUBS_PAGE..STUBS_PAGE + VECTORS * STUB_BYTES;

/// Where in physical memory the ring-0 stack page is: always the same, because it is taken first.
const STACK_AT: u64 = 2 * PAGE_BYTES;
/// How many numbers an exception leaves there at most.
const FRAME_NUMBERS: usize = 7;
/// Where they begin.
pub(super) const FRAME: u64 = STACK_AT + PAGE_BYTES - FRAME_NUMBERS as u64 * 8;

/// What an exception of ring 3 leaves on the ring-0 stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// What the stub has put by: the register that it needs. Only good if the exception has an error code.
    pub(super) rax: u64,
    /// Only good if it has one.
    pub(super) error: u64,
    pub(super) instruction: u64,
    pub(super) code_segment: u64,
    pub(super) flags: u64,
    pub(super) stack: u64,
}

impl Frame {
    /// The one that is there now.
    pub(super) fn read(ground: &Ground) -> Self {
        let mut bytes = [0; FRAME_NUMBERS * 8];
        // That page is always there; were it not, a frame of zeroes is no frame of ring 3.
        let _always_there = ground.read(FRAME, &mut bytes);
        let number =
            |index: usize| bytes.as_chunks::<8>().0.get(index).map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Self {
            rax: number(0),
            error: number(1),
            instruction: number(2),
            code_segment: number(3),
            flags: number(4),
            stack: number(5),
        }
    }
}

/// What the processor is told of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Descriptors {
    pub(super) gdt: (u64, u16),
    pub(super) idt: (u64, u16),
    pub(super) tss: (u64, u32),
}

/// Selectors in the GDT.
const RING0_CODE: u64 = 0x08;
pub(super) const RING3_DATA: u16 = 0x18 | 3;
pub(super) const RING3_CODE: u16 = 0x20 | 3;
pub(super) const TASK: u16 = 0x28;

/// Writes and maps them.
pub(super) fn write(tables: &mut Tables, ground: &Ground) -> Result<Descriptors, OutOfTables> {
    let stack = tables.allocate(PAGE_BYTES)?;
    assert_eq!(stack, STACK_AT, "the ring-0 stack is taken right after the first table");
    tables.map(ground, STACK_PAGE, stack, PAGE_BYTES, Access::RING0_STACK)?;

    let tss = (SUPERVISOR + PAGE_BYTES, (TSS_BYTES + PORTS_BYTES - 1) as u32);
    let at = tables.allocate(TSS_PAGES * PAGE_BYTES)?;
    ground.write(at, &task_state())?;
    tables.map(ground, tss.0, at, TSS_PAGES * PAGE_BYTES, Access::DESCRIPTOR)?;

    let at = tables.allocate(PAGE_BYTES)?;
    let segments = segments(tss);
    for (slot, descriptor) in (0..).zip(segments) {
        ground.write(at + slot * 8, &descriptor.to_le_bytes())?;
    }
    for vector in 0..VECTORS {
        ground.write(at + IDT_OFFSET + vector * 16, &gate(STUBS_PAGE + vector * STUB_BYTES).to_le_bytes())?;
    }
    tables.map(ground, SUPERVISOR, at, PAGE_BYTES, Access::DESCRIPTOR)?;

    let at = tables.allocate(PAGE_BYTES)?;
    for vector in 0..VECTORS as u8 {
        // push rax; mov al, vector; out TRAP_PORT, al; hlt
        let stub = [0x50, 0xb0, vector, 0xe6, TRAP_PORT, 0xf4];
        ground.write(at + u64::from(vector) * STUB_BYTES, &stub)?;
    }
    tables.map(ground, STUBS_PAGE, at, PAGE_BYTES, Access::STUB)?;
    Ok(Descriptors {
        gdt: (SUPERVISOR, (segments.len() * 8 - 1) as u16),
        idt: (SUPERVISOR + IDT_OFFSET, (VECTORS * 16 - 1) as u16),
        tss,
    })
}

/// Nothing, ring-0 code and data, ring-3 data and code, and the task in two slots.
fn segments((tss, limit): (u64, u32)) -> [u64; 7] {
    let task = u64::from(limit) & 0xffff | (tss & 0xff_ffff) << 16 | 0x89 << 40 | (tss >> 24 & 0xff) << 56;
    [
        0,
        0x00af_9b00_0000_ffff,
        0x00cf_9300_0000_ffff,
        0x00cf_f300_0000_ffff,
        0x00af_fb00_0000_ffff,
        task,
        tss >> 32,
    ]
}

/// An interrupt gate that only exceptions may pass, not ring 3 on its own account.
const fn gate(handler: u64) -> u128 {
    let low = handler & 0xffff | RING0_CODE << 16 | 0x8e00 << 32 | (handler >> 16 & 0xffff) << 48;
    low as u128 | ((handler >> 32) as u128) << 64
}

/// The ring-0 stack, and a bitmap that opens the hypercall's four bytes and nothing else.
fn task_state() -> Vec<u8> {
    let mut state = vec![0; TSS_BYTES];
    state[4..12].copy_from_slice(&STACK_TOP.to_le_bytes());
    state[102..104].copy_from_slice(&(TSS_BYTES as u16).to_le_bytes());
    let mut ports = vec![0xff_u8; PORTS_BYTES];
    for port in HYPERCALL_PORT..HYPERCALL_PORT + 4 {
        ports[usize::from(port / 8)] &= !(1 << (port % 8));
    }
    state.extend(ports);
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_port_is_open_for_four_bytes() {
        let state = task_state();
        let open: Vec<u16> = (0..=u16::MAX)
            .filter(|port| state[TSS_BYTES + usize::from(port / 8)] >> (port % 8) & 1 == 0)
            .collect();
        assert_eq!(open, (HYPERCALL_PORT..HYPERCALL_PORT + 4).collect::<Vec<_>>());
        assert_eq!(state.last(), Some(&0xff), "the bitmap ends with ones");
    }
}
