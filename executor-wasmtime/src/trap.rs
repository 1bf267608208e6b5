//! How a guest's end is told: from wasmtime's error to an [`ExitCause`].

use std::fmt;

use cpp_demangle::DemangleOptions;
use wasmatrix_model::{ExitCause, Frame};
use wasmtime::{
    FrameInfo, PoolConcurrencyLimitError, Trap, WasmBacktrace, WasmtimeBug, component::ResourceTableError,
};
use wasmtime_wasi::I32Exit;

use crate::limits::{LimitReached, Limiter};

/// Frames kept of a backtrace.
const FRAMES_MAX: usize = 64;
/// Longest name of a function or module, in bytes; mangled generics can be huge.
const NAME_BYTES_MAX: usize = 512;

/// Ends a guest that was asked to stop, from inside.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the run was asked to stop")]
pub(crate) struct Stopped;

/// Ends a guest because of a fault of ours.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct HostFault(pub(crate) String);

/// What an error of a guest's call means.
///
/// Errors of host functions that are none of ours come from WASI, and say that the guest broke a rule of the
/// interface (a stale handle, a write without leave); they are traps like any other.
pub(crate) fn cause(error: &wasmtime::Error, limiter: &Limiter) -> ExitCause {
    if let Some(I32Exit(code)) = error.downcast_ref() {
        // WASI keeps codes within a byte; what is not is told as failure, never as success.
        return ExitCause::Exited { code: u8::try_from(*code).unwrap_or(u8::MAX) };
    }
    if error.is::<Stopped>() {
        return ExitCause::StopRequested;
    }
    if let Some(reached) = error.downcast_ref::<LimitReached>() {
        return reached.clone().into();
    }
    if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) {
        return limiter.handles_reached().into();
    }
    if error.is::<HostFault>() || error.is::<WasmtimeBug>() || error.is::<PoolConcurrencyLimitError>() {
        return ExitCause::HostFault { message: error.root_cause().to_string() };
    }
    let trap = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    if let (Some(reached), true) = (limiter.refused(), is_abort(error)) {
        let LimitReached { limit, message } = reached;
        return ExitCause::LimitExceeded { limit, message: format!("{message}; then {trap}") };
    }
    ExitCause::Trapped { trap, backtrace: backtrace(error) }
}

impl From<LimitReached> for ExitCause {
    fn from(LimitReached { limit, message }: LimitReached) -> Self {
        Self::LimitExceeded { limit, message }
    }
}

/// Whether it is how programs give up: `abort` is `unreachable`, and a null from a failed allocation is soon
/// followed out of bounds.
fn is_abort(error: &wasmtime::Error) -> bool {
    matches!(error.downcast_ref(), Some(Trap::UnreachableCodeReached | Trap::MemoryOutOfBounds))
}

fn backtrace(error: &wasmtime::Error) -> Vec<Frame> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    backtrace.frames().iter().take(FRAMES_MAX).map(frame).collect()
}

fn frame(frame: &FrameInfo) -> Frame {
    Frame {
        module: frame.module().name().map(|name| cut(name.to_owned())),
        function: frame
            .func_name()
            .map_or_else(|| format!("func[{}]", frame.func_index()), |name| cut(demangle(name))),
        offset: frame.module_offset().map(|offset| offset as u64),
    }
}

/// The name as its programmer wrote it, for Rust and C++; any other as it is.
fn demangle(name: &str) -> String {
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return format!("{rust:#}");
    }
    cpp(name).unwrap_or_else(|| name.to_owned())
}

/// The name as C++ has it, or a little more of its beginning than is shown. A hostile name is short and doubles with
/// each reference back, into gigabytes, so it is not written to its end.
fn cpp(name: &str) -> Option<String> {
    let symbol = (name.len() <= NAME_BYTES_MAX).then(|| cpp_demangle::Symbol::new(name).ok()).flatten()?;
    let mut beginning = Beginning::default();
    let written = symbol.structured_demangle(&mut beginning, &DemangleOptions::default());
    (written.is_ok() || beginning.is_over()).then_some(beginning.0)
}

/// Takes the beginning of a name and then stops whoever writes it.
#[derive(Default)]
struct Beginning(String);

impl Beginning {
    const fn is_over(&self) -> bool {
        self.0.len() > NAME_BYTES_MAX
    }
}

impl fmt::Write for Beginning {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.is_over() {
            return Err(fmt::Error);
        }
        self.0.push_str(piece);
        Ok(())
    }
}

fn cut(mut name: String) -> String {
    if name.len() > NAME_BYTES_MAX {
        name.truncate(name.floor_char_boundary(NAME_BYTES_MAX - '…'.len_utf8()));
        name.push('…');
    }
    name
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wasmatrix_model::{LimitKind, Limits};
    use wasmtime::ResourceLimiter;

    use super::*;

    fn limiter() -> Limiter {
        Limiter::new(&Limits { memory_bytes_max: 100, ..Limits::default() }, Arc::default())
    }

    #[test]
    fn names_are_read_back() {
        assert_eq!(demangle("_ZN4core9panicking5panic17h0123456789abcdefE"), "core::panicking::panic");
        assert_eq!(demangle("_ZN3foo3barEi"), "foo::bar(int)");
        assert_eq!(demangle("plain_c"), "plain_c");
        assert_eq!(cut("é".repeat(400)).len(), 511);
    }

    /// A name that doubles with each level: `f(A<int, int>, A<A<int, int>, A<int, int>>, …)`.
    fn doubling(levels: u32) -> String {
        let digit = |number: u32| char::from_digit(number, 36).map(|digit| digit.to_ascii_uppercase());
        let mut name = "_Z1f1AIiiE".to_owned();
        for level in 0..levels {
            let last = digit(level).unwrap();
            name.push_str(&format!("S_IS{last}_S{last}_E"));
        }
        name
    }

    #[test]
    fn a_short_name_does_not_become_gigabytes() {
        assert_eq!(demangle(&doubling(1)), "f(A<int, int>, A<A<int, int>, A<int, int> >)");
        // Written out, this one has gigabytes before the demangler gives up.
        let name = doubling(36);
        assert!(name.len() < NAME_BYTES_MAX);
        let told = cut(demangle(&name));
        assert!(told.starts_with("f(A<int, int>, A<") && told.len() <= NAME_BYTES_MAX, "{told}");
    }

    #[test]
    fn an_abort_after_a_refusal_is_the_limits_doing_and_another_trap_is_not() {
        let mut limiter = limiter();
        assert!(matches!(cause(&Trap::UnreachableCodeReached.into(), &limiter), ExitCause::Trapped { .. }));
        limiter.memory_growing(50, 200, None).unwrap();
        let ExitCause::LimitExceeded { limit: LimitKind::Memory, message } =
            cause(&Trap::UnreachableCodeReached.into(), &limiter)
        else {
            panic!("an abort after a refusal is a memory limit")
        };
        assert_eq!(
            message,
            "100 bytes are allowed, 150 were wanted; then wasm trap: wasm `unreachable` instruction executed"
        );
        assert!(matches!(cause(&Trap::IntegerDivisionByZero.into(), &limiter), ExitCause::Trapped { .. }));
    }

    #[test]
    fn every_other_end_is_told_apart() {
        let limiter = limiter();
        let of = |error: wasmtime::Error| cause(&error.context("more"), &limiter);
        assert_eq!(of(wasmtime::Error::new(I32Exit(33))), ExitCause::Exited { code: 33 });
        assert_eq!(of(wasmtime::Error::new(I32Exit(256))), ExitCause::Exited { code: 255 });
        assert_eq!(of(Stopped.into()), ExitCause::StopRequested);
        assert!(matches!(
            of(ResourceTableError::Full.into()),
            ExitCause::LimitExceeded { limit: LimitKind::Handles, .. }
        ));
        assert_eq!(of(HostFault("x".into()).into()), ExitCause::HostFault { message: "x".into() });
        let broken = ExitCause::Trapped { trap: "empty poll list".into(), backtrace: vec![] };
        assert_eq!(of(wasmtime::Error::msg("empty poll list")), broken);
    }
}
