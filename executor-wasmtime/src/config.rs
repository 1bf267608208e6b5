//! What an executor is built from.

use std::{num::NonZero, path::PathBuf, thread};

use wasmatrix_executor_api::Error;

use crate::WasmtimeExecutor;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// How an executor is set up. [`Config::default`] suits one node; [`Config::build`] makes the executor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where compiled code is kept between starts. Made if need be, for this user alone. `None`: nowhere.
    pub cache_dir: Option<PathBuf>,
    /// Compiled code kept there, in bytes; what was not used for the longest goes first.
    pub cache_bytes_max: u64,
    /// Runs at one time. Address space for all of them is reserved at once, some 8 GiB each.
    pub instances_max: u32,
    /// Largest artifact taken in, in bytes.
    pub artifact_bytes_max: u64,
    /// Compilations at one time. Each uses all cores by itself where it can.
    pub compilations_max: u32,
    /// Threads that run guests. Guests share them in slices of 10 ms.
    pub worker_threads: NonZero<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cache_dir: None,
            cache_bytes_max: 2 * GIB,
            instances_max: 2000,
            artifact_bytes_max: 128 * MIB,
            compilations_max: 2,
            worker_threads: thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN),
        }
    }
}

impl Config {
    /// Makes the executor and starts its threads.
    ///
    /// # Errors
    /// wasmtime can't be used on this machine, or no threads could be started.
    pub fn build(self) -> Result<WasmtimeExecutor, Error> {
        WasmtimeExecutor::new(&self)
    }
}
