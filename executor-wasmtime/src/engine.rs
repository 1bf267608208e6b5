//! Every knob of wasmtime, in one place.
//!
//! Compiled code is only good for an engine with the same knobs, so nothing else in the crate makes an engine.

use std::{num::NonZeroUsize, time::Duration};

use wasmatrix_artifact::REFUSED;
use wasmatrix_executor_api::{Error, ErrorKind};
use wasmatrix_model::Limits;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

/// How often running guests are interrupted, to let others have the thread.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Frames in a backtrace; deeper ones are cut.
const BACKTRACE_FRAMES_MAX: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");

/// Stack of a guest, in bytes. Interpreters recurse deeply; `wasmtime run` gives half of this.
const WASM_STACK_BYTES: usize = 1 << 20;
/// That, and as much again for the host functions that run above it.
const FIBER_STACK_BYTES: usize = 2 << 20;
/// Of a used stack, how much is wiped in place instead of being given back to the system.
const STACK_RESIDENT_BYTES: usize = 32 << 10;

/// Modules linked into one component: a Python component brings a module for each of its shared libraries.
const CORE_INSTANCES_PER_COMPONENT: u32 = 256;
const MEMORIES_PER_COMPONENT: u32 = 16;
const TABLES_PER_COMPONENT: u32 = 64;
/// Room for the host's own records of one component, in bytes.
const COMPONENT_RECORD_BYTES: usize = 16 << 20;
/// Room for the host's own records of one module, in bytes: large interpreters have tens of thousands of functions.
const MODULE_RECORD_BYTES: usize = 8 << 20;

/// Makes the engine. Slots for `instances_max` runs are reserved; where the system refuses that much address space,
/// each run allocates for itself, which is slower and otherwise the same.
pub(crate) fn build(instances_max: u32) -> Result<Engine, Error> {
    let pooled = Engine::new(&knobs(InstanceAllocationStrategy::Pooling(pool(instances_max))));
    pooled.or_else(|error| {
        tracing::warn!(
            instances_max,
            error = format!("{error:#}"),
            "slots for guests could not be reserved; each run will allocate its own: lower instances_max or raise \
             the limit on address space (ulimit -v)"
        );
        Engine::new(&knobs(InstanceAllocationStrategy::OnDemand)).map_err(|error| {
            Error::new(ErrorKind::Unavailable, "wasmtime can't be used on this machine").caused_by(error)
        })
    })
}

/// The engine's configuration; only the way of allocating differs between engines, and that leaves code the same.
fn knobs(allocation: InstanceAllocationStrategy) -> Config {
    let mut config = Config::new();
    config
        .wasm_features(REFUSED, false)
        // The same answer on every machine is worth more than the last cycle.
        .relaxed_simd_deterministic(true)
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        // A stack is used by one guest after another: what one left there, the next must not find.
        .async_stack_zeroing(true)
        .memory_init_cow(true)
        .parallel_compilation(true)
        // Names of functions come from the name section, which is always kept; debug information is not read.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(Some(BACKTRACE_FRAMES_MAX))
        .allocation_strategy(allocation);
    config
}

/// Address space for that many runs. Slots cost no memory until they are used.
fn pool(instances_max: u32) -> PoolingAllocationConfig {
    let table_elements =
        usize::try_from(Limits::TABLE_ELEMENTS_CEILING).expect("a million fits in a 64-bit machine's usize");
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances_max)
        .total_core_instances(instances_max.saturating_mul(32).max(CORE_INSTANCES_PER_COMPONENT))
        .total_memories(instances_max.saturating_mul(2).max(MEMORIES_PER_COMPONENT))
        .total_tables(instances_max.saturating_mul(8).max(TABLES_PER_COMPONENT))
        .total_stacks(instances_max)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_memories_per_module(MEMORIES_PER_COMPONENT)
        .max_tables_per_module(TABLES_PER_COMPONENT)
        .max_component_instance_size(COMPONENT_RECORD_BYTES)
        .max_core_instance_size(MODULE_RECORD_BYTES)
        .table_elements(table_elements)
        .async_stack_keep_resident(STACK_RESIDENT_BYTES);
    pool
}
