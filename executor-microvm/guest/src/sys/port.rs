//! The one way out: a request in the shared pages, and its length to the port.

use core::{arch::asm, ptr, slice};

use wasmatrix_microvm_abi::layout;

use super::entry;

/// Gives the host a request and returns its answer. The answer is good until the next request.
///
/// A request that is too long is not sent; the empty answer stands for it, and is no response.
pub(crate) fn exchange(request: &[u8]) -> &'static [u8] {
    exchange_by(request, |length| {
        // SAFETY: the port is open to ring 3; the host reads the request and writes the answer while this instruction
        // is held, which is why the compiler must take all memory to be changed, as it does by default.
        unsafe {
            asm!("out dx, eax", in("dx") layout::HYPERCALL_PORT, in("eax") length,
                 options(nostack, preserves_flags));
        }
    })
}

/// As [`exchange`], but the answer may be given to any machine that was made from what this one has written.
pub(crate) fn park(request: &[u8]) -> &'static [u8] {
    exchange_by(request, |length| entry::park(length))
}

fn exchange_by(request: &[u8], out: impl FnOnce(u32)) -> &'static [u8] {
    let Some(length) =
        u32::try_from(request.len()).ok().filter(|length| *length <= layout::REQUEST_BYTES_MAX)
    else {
        return &[];
    };
    let to = ptr::with_exposed_provenance_mut::<u8>(layout::REQUEST as usize);
    // SAFETY: the host maps REQUEST_BYTES_MAX bytes there, writable, and nothing else in this image lies in them.
    unsafe { to.copy_from_nonoverlapping(request.as_ptr(), request.len()) };
    out(length);
    let answered = ptr::with_exposed_provenance::<u32>(layout::RESPONSE_LENGTH as usize);
    // SAFETY: the host maps it, aligned, and has written it.
    let length = unsafe { answered.read_volatile() }.min(layout::RESPONSE_BYTES_MAX) as usize;
    let from = ptr::with_exposed_provenance::<u8>(layout::RESPONSE as usize);
    // SAFETY: the host maps RESPONSE_BYTES_MAX bytes there and writes them only during the next exchange, which no
    // caller makes while it holds this slice: there is one thread, and every answer is parsed into owned values.
    unsafe { slice::from_raw_parts(from, length) }
}

/// Stops for good, by an instruction that the host takes for a failure of the runtime.
pub(crate) fn halt() -> ! {
    // SAFETY: an invalid opcode has no effect but its exception, from which the host does not return.
    unsafe { asm!("ud2", options(noreturn, nostack, nomem)) }
}
