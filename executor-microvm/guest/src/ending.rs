//! How a component's end is told, by the same rules as in process.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;

use wasmatrix_microvm_abi::{Backtrace, End, StackFrame, engine::BACKTRACE_FRAMES_MAX};
use wasmtime::{FrameInfo, OutOfMemory, Trap, WasmBacktrace, WasmtimeBug, component::ResourceTableError};

use crate::limits::{LimitReached, Limiter};

/// Longest name of a function or module, in bytes; what is longer is cut here, and once more by the host.
const NAME_BYTES_MAX: usize = 2048;

/// The program asked to exit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExitCode(pub(crate) u8);

impl fmt::Display for ExitCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}", self.0)
    }
}

impl core::error::Error for ExitCode {}

/// The host or this runtime is at fault, not the program.
#[derive(Clone, Debug)]
pub(crate) struct RuntimeFault(pub(crate) String);

impl fmt::Display for RuntimeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for RuntimeFault {}

/// What an error of a component's call means.
pub(crate) fn cause(error: &wasmtime::Error, limiter: &Limiter) -> End {
    if let Some(ExitCode(code)) = error.downcast_ref() {
        return End::Exited { code: *code };
    }
    if let Some(reached) = error.downcast_ref::<LimitReached>() {
        return reached.clone().into();
    }
    if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) {
        return limiter.handles_reached().into();
    }
    if error.is::<RuntimeFault>() || error.is::<WasmtimeBug>() {
        return End::RuntimeFailed { message: error.root_cause().to_string() };
    }
    if let Some(failed) = error.downcast_ref::<OutOfMemory>() {
        // In the words of an allocation that fails elsewhere, which the host knows.
        let message = format!("memory allocation of {} bytes failed", failed.requested_allocation_size());
        return End::RuntimeFailed { message };
    }
    let trap = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    if let (Some(mut reached), true) = (limiter.refused(), is_abort(error)) {
        reached.message = format!("{}; then {trap}", reached.message);
        return reached.into();
    }
    End::Trapped { trap, backtrace: backtrace(error) }
}

/// Whether it is how programs give up: `abort` is `unreachable`, and a null from a failed allocation is soon
/// followed out of bounds.
fn is_abort(error: &wasmtime::Error) -> bool {
    matches!(error.downcast_ref(), Some(Trap::UnreachableCodeReached | Trap::MemoryOutOfBounds))
}

fn backtrace(error: &wasmtime::Error) -> Backtrace {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    backtrace.frames().iter().take(BACKTRACE_FRAMES_MAX.get()).map(frame).collect()
}

fn frame(frame: &FrameInfo) -> StackFrame {
    let cut = |name: &str| name[..name.floor_char_boundary(NAME_BYTES_MAX)].to_string();
    StackFrame {
        module: frame.module().name().map(cut),
        function: frame.func_name().map(cut),
        index: frame.func_index(),
        offset: frame.module_offset().map(|offset| offset as u64),
    }
}
