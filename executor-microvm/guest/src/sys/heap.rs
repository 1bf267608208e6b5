//! The runtime's heap: one span that the host has mapped.

use core::ptr;

use talc::{ClaimOnOom, Span, Talc, Talck};
use wasmatrix_microvm_abi::layout::{HEAP, HEAP_BYTES};

const START: *mut u8 = ptr::without_provenance_mut(HEAP as usize);
const END: *mut u8 = ptr::without_provenance_mut((HEAP + HEAP_BYTES) as usize);

#[global_allocator]
static ALLOCATOR: Talck<spin::Mutex<()>, ClaimOnOom> =
    // SAFETY: the host maps this span, readable and writable, before the first instruction runs, and nothing else
    // in this image lies in it.
    Talc::new(unsafe { ClaimOnOom::new(Span::new(START, END)) }).lock();
