//! A guest that says anything: every request, parsed and served up to the capability call, and the answers written back.

#![no_main]

mod seeds;

use libfuzzer_sys::fuzz_target;
use wasmatrix_executor_microvm::fuzzing;

fuzz_target!(
    init: seeds::write(&fuzzing::seeds()),
    |script: &[u8]| fuzzing::hypercalls(script)
);
