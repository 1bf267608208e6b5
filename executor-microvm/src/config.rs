//! What an executor is built from.

use std::path::PathBuf;

use crate::MicrovmExecutor;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// How an executor is set up. [`Config::default`] suits one node; [`Config::build`] makes the executor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// KVM's device.
    pub kvm: PathBuf,
    /// Where compiled code is kept between starts. Made if need be, for this user alone; other executors may keep
    /// theirs there too. `None`: nowhere.
    pub cache_dir: Option<PathBuf>,
    /// Compiled code kept there, in bytes; what was not used for the longest goes first.
    pub cache_bytes_max: u64,
    /// Runs at one time; each has a machine and a thread.
    pub instances_max: u32,
    /// Machines kept ready ahead of need, made for what was launched last.
    pub pool_machines_max: u32,
    /// Requests that one run may make of its host in a second, whatever its share of a processor; 0 counts as 1. Those
    /// beyond are answered later.
    pub requests_per_second_max: u32,
    /// Largest artifact taken in, in bytes.
    pub artifact_bytes_max: u64,
    /// Compilations at one time. Each uses all cores by itself where it can.
    pub compilations_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kvm: PathBuf::from("/dev/kvm"),
            cache_dir: None,
            cache_bytes_max: 2 * GIB,
            instances_max: 1000,
            pool_machines_max: 4,
            requests_per_second_max: 200_000,
            artifact_bytes_max: 128 * MIB,
            compilations_max: 2,
        }
    }
}

impl Config {
    /// Makes the executor. Never fails: on a machine without KVM the executor's capacity says why it can't be used,
    /// and every launch is refused with that sentence.
    pub fn build(self) -> MicrovmExecutor {
        MicrovmExecutor::new(&self)
    }
}
