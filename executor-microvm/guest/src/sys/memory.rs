//! Linear memories, as wasmtime asks its operating system for them.
//!
//! Address space is given out from one arena and never given again; the host makes pages of it present, zeroed,
//! when they are to be accessible, and never takes one back while the machine lives. So an access beyond what was
//! made accessible faults, and nothing here ever changes a page that is present.

use core::{
    ptr,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed},
};

use wasmatrix_microvm_abi::layout::{MEMORIES, MEMORIES_END, PAGE_BYTES};

use crate::host;

const DONE: i32 = 0;
/// Any number but zero means failure.
const NO_MEMORY: i32 = 12;
const READ: u32 = 1;
const WRITE: u32 = 2;

static NEXT: AtomicU64 = AtomicU64::new(MEMORIES);
static TLS: [AtomicPtr<u8>; 2] = [const { AtomicPtr::new(ptr::null_mut()) }; 2];

fn commit(address: u64, bytes: usize, protection: u32) -> i32 {
    match protection {
        // Nothing that is present is ever to be hidden again: wasmtime does so only to reuse memory, and this
        // machine runs one component once.
        0 => DONE,
        protection if protection == READ | WRITE && host::commit(address, bytes as u64) => DONE,
        _ => NO_MEMORY,
    }
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_mmap_new(bytes: usize, protection: u32, address: &mut *mut u8) -> i32 {
    let start = NEXT.load(Relaxed);
    let Some(end) = start.checked_add(bytes as u64).filter(|end| *end <= MEMORIES_END) else {
        return NO_MEMORY;
    };
    NEXT.store(end.next_multiple_of(PAGE_BYTES), Relaxed);
    *address = ptr::with_exposed_provenance_mut(start as usize);
    commit(start, bytes, protection)
}

/// Asked for only to wipe memory for a next user, and there is none.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_mmap_remap(_address: *mut u8, _bytes: usize, _protection: u32) -> i32 {
    NO_MEMORY
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_munmap(_address: *mut u8, _bytes: usize) -> i32 {
    DONE
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_mprotect(address: *mut u8, bytes: usize, protection: u32) -> i32 {
    commit(address.expose_provenance() as u64, bytes, protection)
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_page_size() -> usize {
    PAGE_BYTES as usize
}

/// No image: data is copied in, because a mapping would cost exits.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_memory_image_new(_from: *const u8, _bytes: usize, image: &mut *mut u8) -> i32 {
    *image = ptr::null_mut();
    DONE
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_memory_image_map_at(_image: *mut u8, _address: *mut u8, _bytes: usize) -> i32 {
    NO_MEMORY
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_memory_image_free(_image: *mut u8) {}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_get(slot: usize) -> *mut u8 {
    TLS.get(slot).map_or(ptr::null_mut(), |slot| slot.load(Relaxed))
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_set(slot: usize, value: *mut u8) {
    if let Some(slot) = TLS.get(slot) {
        slot.store(value, Relaxed);
    }
}
