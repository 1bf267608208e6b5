//! System registers of ring 3 in 64-bit mode.

use kvm_bindings::{kvm_segment, kvm_sregs};

use super::descriptors::{Descriptors, RING3_CODE, RING3_DATA, TASK};

/// The bit that is always set, and I/O privilege for ring 3. It opens the hypercall's port where a KVM goes by it;
/// others go by the bitmap. What else it opens, the host refuses.
pub(super) const RING3_FLAGS: u64 = 1 << 1 | 3 << 12;

/// Protection, monitor coprocessor, extension type, numeric error, write protection in ring 0 too, paging.
const CR0: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 31;
/// Physical address extension, SSE and its exceptions.
const CR4: u64 = 1 << 5 | 1 << 9 | 1 << 10;
/// Long mode enabled and active, no-execute.
const EFER: u64 = 1 << 8 | 1 << 10 | 1 << 11;

const CODE: u8 = 11;
const DATA: u8 = 3;
const BUSY_TASK: u8 = 11;

/// Those of `reset`, changed to ring 3.
pub(super) fn ring3(reset: &kvm_sregs, root: u64, descriptors: &Descriptors) -> kvm_sregs {
    let mut registers = *reset;
    (registers.cr0, registers.cr3, registers.cr4, registers.efer) = (CR0, root, CR4, EFER);
    registers.cs = segment(RING3_CODE, CODE, true);
    let data = segment(RING3_DATA, DATA, false);
    (registers.ds, registers.es, registers.fs, registers.gs, registers.ss) = (data, data, data, data, data);
    registers.tr = kvm_segment {
        base: descriptors.tss.0,
        limit: descriptors.tss.1,
        selector: TASK,
        type_: BUSY_TASK,
        present: 1,
        ..Default::default()
    };
    (registers.gdt.base, registers.gdt.limit) = descriptors.gdt;
    (registers.idt.base, registers.idt.limit) = descriptors.idt;
    registers
}

fn segment(selector: u16, type_: u8, is_64_bit: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        dpl: 3,
        db: (!is_64_bit).into(),
        s: 1,
        l: is_64_bit.into(),
        g: 1,
        ..Default::default()
    }
}
