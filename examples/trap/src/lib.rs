//! The ways in which a guest can crash. All but one of them need `unsafe`: safe Rust would have checked first.

#![expect(unsafe_code, reason = "a crash of the machine, and not of Rust, is the purpose")]

use std::{hint::black_box, num::NonZeroU32, str::FromStr};

/// A way to crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The instruction that says: never here.
    Unreachable,
    /// An integer divided by zero.
    Divide,
    /// A read beyond the end of memory.
    Bounds,
    /// A call of a function as if it were of another type.
    Indirect,
    /// Calls nested without end.
    Stack,
    /// A panic of Rust: a message, then `unreachable`.
    Panic,
    /// `abort()`, without a message.
    Abort,
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "unreachable" => Self::Unreachable,
            "divide" => Self::Divide,
            "bounds" => Self::Bounds,
            "indirect" => Self::Indirect,
            "stack" => Self::Stack,
            "panic" => Self::Panic,
            "abort" => Self::Abort,
            other => {
                return Err(format!(
                    "`{other}` is no way to crash; say unreachable, divide, bounds, indirect, stack, panic or abort"
                ));
            }
        })
    }
}

impl Kind {
    /// Crashes.
    pub fn spring(self) -> ! {
        match self {
            Self::Unreachable => unreachable_instruction(),
            Self::Divide => finish(divide(black_box(1), black_box(0)).into()),
            Self::Bounds => finish(read(black_box(u32::MAX - 3)).into()),
            Self::Indirect => call_as_another_type(black_box(divide)),
            Self::Stack => finish(descend(black_box(u64::MAX))),
            Self::Panic => panic!("asked to panic"),
            Self::Abort => std::process::abort(),
        }
    }
}

/// Uses a result that is never reached, so that the compiler can't leave out what computes it.
fn finish(result: u64) -> ! {
    panic!("no crash, but {result}");
}

#[cfg(target_family = "wasm")]
#[inline(never)]
fn unreachable_instruction() -> ! {
    core::arch::wasm32::unreachable()
}

#[cfg(not(target_family = "wasm"))]
fn unreachable_instruction() -> ! {
    std::process::abort()
}

#[inline(never)]
fn divide(dividend: u32, divisor: u32) -> u32 {
    // SAFETY: none; the divisor is zero. The promise that it isn't keeps the compiler from checking.
    let divisor = unsafe { NonZeroU32::new_unchecked(divisor) };
    dividend / divisor
}

#[inline(never)]
fn read(address: u32) -> u32 {
    // SAFETY: none; there is no memory at the address. A volatile read is not left out.
    unsafe { std::ptr::with_exposed_provenance::<u32>(address as usize).read_volatile() }
}

#[inline(never)]
fn call_as_another_type(function: fn(u32, u32) -> u32) -> ! {
    // SAFETY: none; the types differ.
    let function: fn(f64) -> f64 = unsafe { std::mem::transmute(function) };
    finish(black_box(function)(1.0) as u64);
}

/// Needs its caller's frame after the call, so that no loop can replace the recursion, and holds everything in
/// locals, so that the machine's stack runs out and not the compiler's own one in memory.
#[inline(never)]
fn descend(depth: u64) -> u64 {
    if depth == 0 {
        return 1;
    }
    descend(depth - 1).rotate_left(5) ^ depth
}
