//! The runtime's heap: a span that grows within what the host makes present when it is first touched.

use core::{alloc::Layout, ptr};

use talc::{OomHandler, Span, Talc, Talck};
use wasmatrix_microvm_abi::layout::{HEAP, HEAP_BYTES};

/// What it begins with, in bytes. The allocator writes at both of a span's ends, so it is told of no more than it needs.
const BYTES_MIN: usize = 1 << 20;
const START: *mut u8 = ptr::without_provenance_mut(HEAP as usize);

#[global_allocator]
static ALLOCATOR: Talck<spin::Mutex<()>, Grow> = Talc::new(Grow(Span::empty())).lock();

/// What the allocator has of the heap.
struct Grow(Span);

impl OomHandler for Grow {
    fn handle_oom(talc: &mut Talc<Self>, layout: Layout) -> Result<(), ()> {
        let has = talc.oom_handler.0;
        let needed = layout.size().checked_add(layout.align()).and_then(|bytes| bytes.checked_add(has.size()));
        // Twice as much each time, and room for the allocator's own notes.
        let wanted = needed.ok_or(())?.saturating_add(BYTES_MIN / 2).max(has.size() * 2).max(BYTES_MIN);
        let bytes = wanted.min(HEAP_BYTES as usize);
        if bytes <= has.size() {
            return Err(());
        }
        let span = Span::from_base_size(START, bytes);
        talc.oom_handler.0 = if has.is_empty() {
            // SAFETY: the host lets ring 3 read and write HEAP_BYTES from START on, whenever they are touched, and
            // nothing else in this image lies in them.
            unsafe { talc.claim(span) }?
        } else {
            // SAFETY: as above; and what is extended is the span that was claimed or extended before.
            unsafe { talc.extend(has, span) }
        };
        Ok(())
    }
}
