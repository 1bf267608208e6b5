//! What the compiler expects of a C library, and nothing more.
//!
//! None of these may be written with slices or loops that the compiler could turn back into calls of themselves, so
//! they are string instructions.

use core::arch::asm;

use super::halt;

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    // SAFETY: the caller gives `bytes` readable bytes at `from` and writable ones at `to`.
    unsafe {
        asm!("rep movsb", inout("rcx") bytes => _, inout("rdi") to => _, inout("rsi") from => _,
             options(nostack, preserves_flags));
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= bytes {
        // SAFETY: going forward never writes a byte that is still to be read; the rest as for `memcpy`.
        return unsafe { memcpy(to, from, bytes) };
    }
    // SAFETY: as for `memcpy`; going backward never writes a byte that is still to be read, and the direction flag
    // is put back as the calling convention demands.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") bytes => _,
             inout("rdi") to.wrapping_add(bytes).wrapping_sub(1) => _,
             inout("rsi") from.wrapping_add(bytes).wrapping_sub(1) => _, options(nostack));
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, bytes: usize) -> *mut u8 {
    // SAFETY: the caller gives `bytes` writable bytes at `to`. Only the low byte counts.
    unsafe {
        asm!("rep stosb", inout("rcx") bytes => _, inout("rdi") to => _, in("al") byte as u8,
             options(nostack, preserves_flags));
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, bytes: usize) -> i32 {
    let (above, below): (u8, u8);
    // SAFETY: the caller gives `bytes` readable bytes at both. The comparison before the first step makes the flags
    // say "equal" when there is nothing to compare.
    unsafe {
        asm!("cmp rcx, rcx", "repe cmpsb", "seta {above}", "setb {below}",
             inout("rcx") bytes => _, inout("rsi") left => _, inout("rdi") right => _,
             above = out(reg_byte) above, below = out(reg_byte) below, options(nostack, readonly));
    }
    i32::from(above) - i32::from(below)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, bytes: usize) -> i32 {
    // SAFETY: the same conditions.
    unsafe { memcmp(left, right, bytes) }
}

/// The precompiled core library names it; nothing here unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// The precompiled core library names it; nothing here unwinds.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    halt()
}
