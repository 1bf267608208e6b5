//! Exceptions in compiled code: the host comes back here with where it was, and wasmtime makes a trap of it.

use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use super::halt;

/// wasmtime's handler: (instruction, frame pointer, whether an address faulted, the address). Returns only if the
/// instruction is none of a component's.
type Handler = extern "C" fn(usize, usize, bool, usize);

static HANDLER: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

#[unsafe(no_mangle)]
extern "C" fn wasmtime_init_traps(handler: Handler) -> i32 {
    HANDLER.store(handler as *mut (), Relaxed);
    0
}

/// Entered by the host, on the stack of the code that failed, below its red zone.
pub(super) extern "C" fn trapped(instruction: usize, frame: usize, has_address: bool, address: usize) -> ! {
    let handler = HANDLER.load(Relaxed);
    if !handler.is_null() {
        // SAFETY: the only value ever stored, besides null, is a function of that type.
        let handler = unsafe { core::mem::transmute::<*mut (), Handler>(handler) };
        handler(instruction, frame, has_address, address);
    }
    halt()
}
