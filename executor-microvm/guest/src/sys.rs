//! The machine: everything that needs `unsafe`, each thing in a module of its own.

use core::ptr::{self, NonNull};

use wasmatrix_microvm_abi::layout;
use wasmtime::{Config, Engine, component::Component};

mod entry;
mod heap;
mod intrinsics;
mod memory;
mod port;
mod traps;

pub(crate) use port::{exchange, halt, park};

/// The compiled component that the host has mapped.
pub(crate) fn component(engine: &Engine, artifact_bytes: u64) -> wasmtime::Result<Component> {
    let length = usize::try_from(artifact_bytes)?;
    let Some(start) = NonNull::new(ptr::with_exposed_provenance_mut::<u8>(layout::ARTIFACT as usize)) else {
        wasmtime::bail!("the artifact's address is zero");
    };
    let artifact = NonNull::slice_from_raw_parts(start, length);
    // SAFETY: the host maps `artifact_bytes` bytes there, read-only, for the life of this machine; it made them
    // itself with this version of wasmtime, and this machine has no reason to distrust its host.
    unsafe { Component::deserialize_raw(engine, artifact) }
}

/// Reads a byte of each page of a stretch that the host named, so that the processor knows the way there.
pub(crate) fn touch(at: u64, bytes: u64) {
    for address in (at..at.saturating_add(bytes)).step_by(layout::PAGE_BYTES as usize) {
        let byte = ptr::with_exposed_provenance::<u8>(address as usize);
        // SAFETY: the host names only what it has made present, and reading changes nothing.
        let _whatever = unsafe { byte.read_volatile() };
    }
}

/// Tells wasmtime which instructions there are, as the host has it: what a guest sees of the processor by itself is
/// what KVM cares to show.
pub(crate) fn tell_features(config: &mut Config) {
    // SAFETY: the host says yes only to instructions that it knows to work in this machine.
    unsafe { config.detect_host_feature(|name| entry::features().contains(name)) };
}
