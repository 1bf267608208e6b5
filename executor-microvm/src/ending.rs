//! How a machine's end is told, in the words of the model.

use wasmatrix_artifact::names;
use wasmatrix_executor_api::{Error, ErrorKind};
use wasmatrix_microvm_abi::{End, StackFrame, engine::BACKTRACE_FRAMES_MAX};
use wasmatrix_model::{ErrorCode, ExitCause, Frame, LimitKind};

/// Longest text of a trap or another message, in bytes.
const MESSAGE_BYTES_MAX: usize = 4096;

/// What the guest's own account of its end means. It is the guest's: text is cut to length, numbers are checked.
pub(crate) fn cause(end: End) -> ExitCause {
    match end {
        End::Exited { code } => ExitCause::Exited { code },
        End::Trapped { trap, backtrace } => ExitCause::Trapped {
            trap: cut(trap, MESSAGE_BYTES_MAX),
            backtrace: backtrace.into_iter().take(BACKTRACE_FRAMES_MAX.get()).map(frame).collect(),
        },
        End::LimitReached { limit, message } => {
            let message = cut(message, MESSAGE_BYTES_MAX);
            match limit {
                0 => ExitCause::LimitExceeded { limit: LimitKind::Memory, message },
                1 => ExitCause::LimitExceeded { limit: LimitKind::Table, message },
                2 => ExitCause::LimitExceeded { limit: LimitKind::Handles, message },
                _ => fault(format!("it named limit {limit}, which there is not: {message}")),
            }
        }
        End::StartFailed { message } => ExitCause::StartFailed {
            code: ErrorCode::WasmRuntimeError,
            message: cut(message, MESSAGE_BYTES_MAX),
        },
        End::RuntimeFailed { message } => fault(cut(message, MESSAGE_BYTES_MAX)),
    }
}

/// A machine that failed, or broke a rule.
pub(crate) fn fault(what: impl std::fmt::Display) -> ExitCause {
    ExitCause::HostFault { message: format!("the micro-VM failed: {what}") }
}

/// A run that ended before it began, as the launch's error.
pub(crate) fn not_started(cause: ExitCause) -> Error {
    match cause {
        ExitCause::LimitExceeded { limit, message } => Error::new(
            ErrorKind::Exhausted,
            format!("the {limit} limit does not let it start: {message}; raise it"),
        ),
        ExitCause::Trapped { trap, backtrace } => {
            let place = backtrace.first().map(|frame| format!(" in {frame}")).unwrap_or_default();
            Error::new(ErrorKind::GuestFault, format!("its start function failed{place}: {trap}"))
        }
        ExitCause::Exited { code } => {
            Error::new(ErrorKind::GuestFault, format!("its start function exited with code {code}"))
        }
        ExitCause::StopRequested => Error::new(ErrorKind::HostFault, "it was stopped while it started"),
        ExitCause::StartFailed { message, .. } | ExitCause::HostFault { message } => {
            Error::new(ErrorKind::HostFault, message)
        }
    }
}

fn frame(frame: StackFrame) -> Frame {
    let function = match frame.function {
        Some(name) => names::function(&name),
        None => format!("func[{}]", frame.index),
    };
    Frame { module: frame.module.map(names::cut), function, offset: frame.offset }
}

fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max - '…'.len_utf8()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_account_is_cut_to_length() {
        let frame = StackFrame { module: Some("m".repeat(5000)), function: None, index: 7, offset: None };
        let ExitCause::Trapped { trap, backtrace } =
            cause(End::Trapped { trap: "é".repeat(9000), backtrace: vec![frame; 1000] })
        else {
            panic!("a trap is told as a trap")
        };
        assert!(trap.len() <= MESSAGE_BYTES_MAX && backtrace.len() == 64);
        assert_eq!(backtrace[0].function, "func[7]");
        assert!(backtrace[0].module.as_ref().unwrap().len() <= names::NAME_BYTES_MAX);
    }

    #[test]
    fn a_limit_that_there_is_not_is_the_machines_fault() {
        let end = End::LimitReached { limit: 9, message: "x".into() };
        assert!(matches!(cause(end), ExitCause::HostFault { .. }));
    }
}
