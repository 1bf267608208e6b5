//! `wasi:random`: all of it from the host, so that no two runs share a state.

use alloc::vec::Vec;

use wasmatrix_microvm_abi::layout::CALL_BYTES_MAX;

use super::bindings::wasi::random::{insecure, insecure_seed, random};
use crate::{host, state::State};

fn bytes(length: u64) -> wasmtime::Result<Vec<u8>> {
    match u32::try_from(length) {
        Ok(length) if length <= CALL_BYTES_MAX => Ok(host::random(length)),
        Ok(_) | Err(_) => wasmtime::bail!("requested len {length} exceeds limit {CALL_BYTES_MAX}"),
    }
}

fn number() -> u64 {
    host::random(8).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl random::Host for State {
    fn get_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        bytes(length)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(number())
    }
}

impl insecure::Host for State {
    fn get_insecure_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        bytes(length)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(number())
    }
}

impl insecure_seed::Host for State {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((number(), number()))
    }
}
