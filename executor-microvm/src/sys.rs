//! Everything that needs `unsafe`: memory lent to a machine, interrupting the thread that runs it, and the compiler's
//! flags.

use wasmatrix_microvm_abi::engine::Feature;
use wasmtime::Config;

mod kick;
mod memory;
mod vm;

pub(crate) use kick::Kicker;
pub(crate) use memory::{Frozen, Memory, Shared};
pub(crate) use vm::{Exit, Slots, Vcpu, VmError, create};

/// Lets the compiler use that kind of instruction.
pub(crate) fn enable(config: &mut Config, feature: Feature) {
    // SAFETY: the flag is one of those that name kinds of instructions, and code with them runs only where the
    // processor has that kind: here, in a machine that was told the same.
    unsafe { config.cranelift_flag_enable(feature.flag) };
}
