//! The first instructions, at the addresses that the host knows, and the place where a guest waits for what comes next.
//!
//! A guest that parks leaves all that it is in memory: the registers that a called function must keep on its stack,
//! and where that is in [`PARKED`]. So a machine that is given the same memory goes on from there as this one does.

use core::{
    arch::global_asm,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use wasmatrix_microvm_abi::{engine::FeatureSet, layout::HYPERCALL_PORT};

use crate::run;

// The host enters here with the stack set up as if by a call: the boot entry at the image's first byte, the entry
// after an exception 16 bytes on, the entry of a machine that goes on where another one parked 32 bytes on.
global_asm!(
    ".section .text.start,\"ax\"",
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "jmp {boot}",
    ".balign 16, 0xcc",
    "jmp {trapped}",
    ".balign 16, 0xcc",
    "resume:",
    "mov rsp, qword ptr [rip + {parked}]",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    ".globl park",
    "park:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov qword ptr [rip + {parked}], rsp",
    "mov eax, edi",
    "mov edx, {port}",
    "out dx, eax",
    "jmp resume",
    boot = sym boot,
    trapped = sym super::traps::trapped,
    parked = sym PARKED,
    port = const HYPERCALL_PORT,
);

unsafe extern "C" {
    /// Makes a request of that length, already written, by which the guest parks.
    pub(super) safe fn park(request_bytes: u32);
}

/// The stack pointer of a guest that is parked.
static PARKED: AtomicU64 = AtomicU64::new(0);

/// What the host said of the processor.
static FEATURES: AtomicU32 = AtomicU32::new(0);

/// Instructions that compiled code may use here.
pub(crate) fn features() -> FeatureSet {
    FeatureSet(FEATURES.load(Relaxed))
}

extern "C" fn boot(features: u32) -> ! {
    FEATURES.store(features, Relaxed);
    run::boot()
}
