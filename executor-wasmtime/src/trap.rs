//! How a guest's end is told: from wasmtime's error to an [`ExitCause`].

use wasmatrix_artifact::names;
use wasmatrix_model::{ExitCause, Frame};
use wasmtime::{
    FrameInfo, PoolConcurrencyLimitError, Trap, WasmBacktrace, WasmtimeBug, component::ResourceTableError,
};
use wasmtime_wasi::I32Exit;

use crate::limits::{LimitReached, Limiter};

/// Frames kept of a backtrace.
const FRAMES_MAX: usize = 64;

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
        module: frame.module().name().map(|name| names::cut(name.to_owned())),
        function: frame.func_name().map_or_else(|| format!("func[{}]", frame.func_index()), names::function),
        offset: frame.module_offset().map(|offset| offset as u64),
    }
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
