//! The first instructions, at the addresses that the host knows.

use core::{
    arch::global_asm,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use wasmatrix_microvm_abi::engine::FeatureSet;

use crate::run;

// The host enters here with the stack set up as if by a call: the boot entry at the image's first byte, the entry
// after an exception 16 bytes on.
global_asm!(
    ".section .text.start,\"ax\"",
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "jmp {boot}",
    ".balign 16, 0xcc",
    "jmp {trapped}",
    boot = sym boot,
    trapped = sym super::traps::trapped,
);

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
