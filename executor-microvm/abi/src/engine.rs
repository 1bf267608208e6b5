//! Every knob of wasmtime that the host, which compiles, and the guest, which runs, must agree on.
//!
//! wasmtime refuses code that was compiled with other knobs, so both sides call [`configure`] and set nothing else
//! that it compares.

use core::num::NonZeroUsize;

use wasmtime::{Config, WasmFeatures};

/// What code is compiled for: the image and its code must name the same system, and the image is built for this one.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Proposals that a guest of ours has no need of; the same as in process.
const REFUSED: WasmFeatures = WasmFeatures::THREADS
    .union(WasmFeatures::MEMORY64)
    .union(WasmFeatures::GC)
    .union(WasmFeatures::FUNCTION_REFERENCES)
    .union(WasmFeatures::EXCEPTIONS);

/// Address space of a linear memory, in bytes: all that 32 bits can reach, so that no access needs a check.
pub const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;
/// The guard after it, in bytes, for an access with a constant offset.
pub const MEMORY_GUARD_BYTES: u64 = 32 << 20;
/// Stack of Wasm code, in bytes; the same as in process.
pub const WASM_STACK_BYTES: usize = 1 << 20;
/// Frames in a backtrace; deeper ones are cut.
pub const BACKTRACE_FRAMES_MAX: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");

/// Linear memory that a component may take when it is instantiated ahead of its runs, in bytes.
pub const AHEAD_MEMORY_BYTES_MAX: u64 = 16 << 20;
/// Table elements that it may take then.
pub const AHEAD_ELEMENTS_MAX: u64 = 50_000;

/// Sets them.
pub fn configure(config: &mut Config) {
    config
        .wasm_features(REFUSED, false)
        .gc_support(false)
        .relaxed_simd_deterministic(true)
        .concurrency_support(false)
        .max_wasm_stack(WASM_STACK_BYTES)
        .wasm_backtrace_max_frames(Some(BACKTRACE_FRAMES_MAX))
        .signals_based_traps(true)
        // Data is copied in: a mapping per instance would cost exits.
        .memory_init_cow(false)
        .memory_reservation(MEMORY_RESERVATION_BYTES)
        .memory_guard_size(MEMORY_GUARD_BYTES)
        .memory_reservation_for_growth(0);
}

/// Instructions that code may use beyond the first x86-64. The host decides; the guest is told, because what a guest
/// sees of the processor is what KVM cares to show.
pub const FEATURES: [Feature; 9] = [
    Feature { flag: "has_sse3", name: "sse3" },
    Feature { flag: "has_ssse3", name: "ssse3" },
    Feature { flag: "has_sse41", name: "sse4.1" },
    Feature { flag: "has_sse42", name: "sse4.2" },
    Feature { flag: "has_popcnt", name: "popcnt" },
    Feature { flag: "has_cmpxchg16b", name: "cmpxchg16b" },
    Feature { flag: "has_bmi1", name: "bmi1" },
    Feature { flag: "has_bmi2", name: "bmi2" },
    Feature { flag: "has_lzcnt", name: "lzcnt" },
];

/// One kind of instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What the compiler calls it.
    pub flag: &'static str,
    /// What everybody else calls it.
    pub name: &'static str,
}

/// Which of [`FEATURES`] may be used, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureSet(pub u32);

impl FeatureSet {
    /// Those for which `has` says yes.
    pub fn detect(has: impl Fn(&str) -> bool) -> Self {
        let bit = |(index, feature): (usize, &Feature)| u32::from(has(feature.name)) << index;
        Self(FEATURES.iter().enumerate().map(bit).sum())
    }

    /// Whether the feature of that name is one of them; `None` if it is not in the list at all.
    pub fn contains(self, name: &str) -> Option<bool> {
        let index = FEATURES.iter().position(|feature| feature.name == name)?;
        Some(self.0 >> index & 1 == 1)
    }

    /// Those that are in the set.
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        FEATURES
            .into_iter()
            .enumerate()
            .filter_map(move |(index, feature)| (self.0 >> index & 1 == 1).then_some(feature))
    }
}
