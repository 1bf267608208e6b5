//! How a machine's end is told, in the words of the model.

use wasmatrix_artifact::names;
use wasmatrix_executor_api::{Error, ErrorKind};
use wasmatrix_microvm_abi::{End, StackFrame, engine::BACKTRACE_FRAMES_MAX, layout::HEAP_BYTES};
use wasmatrix_model::{ErrorCode, ExitCause, Frame, LimitKind};

use crate::machine::Violation;

/// Longest text of a trap or another message, in bytes.
const MESSAGE_BYTES_MAX: usize = 4096;
/// Longest name of a function that is demangled, in bytes.
const MANGLED_BYTES_MAX: usize = 2048;
/// How Rust's own words begin when an allocation fails.
const OUT_OF_MEMORY: &str = "memory allocation of ";
/// And ours, then.
const RUNTIME_MEMORY_USED_UP: &str = "the runtime in its micro-VM has used up the 128 MiB that it has for instances, \
                                      handles, tables and values on their way; let the program hold less at a time";
const _: () = assert!(HEAP_BYTES == 128 << 20, "the text above tells it");

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
                _ => broken(&format!("it reported limit {limit}, which there is not: {message}")),
            }
        }
        End::StartFailed { message } => ExitCause::StartFailed {
            code: ErrorCode::WasmRuntimeError,
            message: cut(message, MESSAGE_BYTES_MAX),
        },
        End::RuntimeFailed { message } if message.starts_with(OUT_OF_MEMORY) => {
            ExitCause::LimitExceeded { limit: LimitKind::Memory, message: RUNTIME_MEMORY_USED_UP.to_owned() }
        }
        End::RuntimeFailed { message } => broken(&cut(message, MESSAGE_BYTES_MAX)),
    }
}

/// What a machine's breaking a rule means.
pub(crate) fn violated(violation: &Violation) -> ExitCause {
    match violation {
        Violation::Kvm(what) => fault(what),
        Violation::Exception { .. }
        | Violation::ForgedException(_)
        | Violation::Unexpected(_)
        | Violation::RequestLength(_)
        | Violation::Request(_)
        | Violation::OutOfTurn => broken(&violation.to_string()),
    }
}

/// How the end of a guest whose runtime failed begins.
const BROKEN: &str = "the runtime in its micro-VM broke down";

/// A guest whose own runtime failed: the program's doing, or a flaw of the runtime that it found. Nobody's fault
/// outside, so it is a crash of the instance like any other.
fn broken(what: &str) -> ExitCause {
    let trap = format!(
        "{BROKEN}: {what}. Nothing else was harmed. Either the program is hostile and corrupted the runtime, or the \
         runtime has a flaw: do not start it again if you don't trust it, and report it with its artifact if you do"
    );
    ExitCause::Trapped { trap, backtrace: Vec::new() }
}

/// This machine or its KVM failed.
pub(crate) fn fault(what: impl std::fmt::Display) -> ExitCause {
    ExitCause::HostFault { message: format!("the micro-VM failed: {what}") }
}

/// A run that ended before it began, as the launch's error.
pub(crate) fn not_started(cause: ExitCause) -> Error {
    match cause {
        ExitCause::LimitExceeded { message, .. } if message == RUNTIME_MEMORY_USED_UP => {
            Error::new(ErrorKind::Exhausted, format!("while it started, {message}"))
        }
        ExitCause::LimitExceeded { limit, message } => Error::new(
            ErrorKind::Exhausted,
            format!("the {limit} limit does not let it start: {message}; raise it"),
        ),
        ExitCause::Trapped { trap, .. } if trap.starts_with(BROKEN) => {
            Error::new(ErrorKind::GuestFault, format!("while it started, {trap}"))
        }
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
        // Whoever reads a name that was mangled need not read more of it than our own runtime sends.
        Some(mut name) => {
            name.truncate(name.floor_char_boundary(MANGLED_BYTES_MAX));
            names::function(&name)
        }
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
    fn a_runtime_that_breaks_down_is_a_crash_of_its_own_and_kvm_that_fails_is_our_fault() {
        let told = |cause: ExitCause| match cause {
            ExitCause::Trapped { trap, .. } => trap,
            other => panic!("it is a crash of the guest's: {other:?}"),
        };
        let lie = End::LimitReached { limit: 9, message: "x".into() };
        assert!(told(cause(lie)).starts_with("the runtime in its micro-VM broke down: it reported limit 9"));
        let failed = End::RuntimeFailed { message: "é".repeat(9000) };
        assert!(told(cause(failed)).len() < MESSAGE_BYTES_MAX + 1000);
        let exception = Violation::Exception { vector: 14, instruction: 0x20_1234, address: 0x10 };
        let trap = told(violated(&exception));
        assert!(trap.contains("broke down: exception 14 at 0x201234, touching 0x10. Nothing else"), "{trap}");
        assert!(matches!(violated(&Violation::Kvm("x".into())), ExitCause::HostFault { .. }));
        let refused = not_started(violated(&exception));
        assert_eq!(refused.kind(), ErrorKind::GuestFault);
        assert!(refused.to_string().starts_with("while it started, the runtime"), "{refused}");
    }
}
