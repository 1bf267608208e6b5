//! How a run ended.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ErrorCode, Timestamp};

/// The end of one run of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// When it ended.
    pub at: Timestamp,
    /// Why.
    pub cause: ExitCause,
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum ExitCause {
    /// It returned, or called exit, with this code; 0 is success.
    Exited {
        /// The exit code.
        code: u8,
    },
    /// It did something that Wasm forbids.
    Trapped {
        /// Which rule it broke, in wasmtime's words, e.g. `wasm trap: integer divide by zero`.
        trap: String,
        /// Where, innermost frame first.
        backtrace: Vec<Frame>,
    },
    /// It reached one of its limits and was ended.
    LimitExceeded {
        /// Which limit.
        limit: LimitKind,
        /// Its value and what it wanted.
        message: String,
    },
    /// It could not be started.
    StartFailed {
        /// What kind of failure.
        code: ErrorCode,
        /// Why, and what to do.
        message: String,
    },
    /// Somebody asked it to stop, and it was ended.
    StopRequested,
    /// A fault of ours or of the machine; the guest is not to blame.
    HostFault {
        /// What failed.
        message: String,
    },
}

impl ExitCause {
    /// Whether this end counts as a crash: anything but success and an asked-for stop.
    pub const fn is_crash(&self) -> bool {
        match self {
            Self::Exited { code } => *code != 0,
            Self::StopRequested => false,
            Self::Trapped { .. }
            | Self::LimitExceeded { .. }
            | Self::StartFailed { .. }
            | Self::HostFault { .. } => true,
        }
    }
}

impl fmt::Display for ExitCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "exit code {code}"),
            Self::Trapped { trap, .. } => f.write_str(trap),
            Self::LimitExceeded { limit, message } => write!(f, "{limit} limit: {message}"),
            Self::StartFailed { message, .. } => write!(f, "could not start: {message}"),
            Self::StopRequested => f.write_str("stopped on request"),
            Self::HostFault { message } => write!(f, "host fault: {message}"),
        }
    }
}

/// A line of a Wasm backtrace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The module's name, where it has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub module: Option<String>,
    /// The function's demangled name, or its index as `func[17]`.
    pub function: String,
    /// The instruction's offset in the module, in bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offset: Option<u64>,
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(offset) = self.offset {
            write!(f, "{offset:#8x} - ")?;
        }
        match &self.module {
            Some(module) => write!(f, "{module}!{}", self.function),
            None => f.write_str(&self.function),
        }
    }
}

/// Which limit was reached. One for every field of [`crate::Limits`] that ends a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LimitKind {
    /// `memory_bytes_max`.
    Memory,
    /// `table_elements_max`.
    Table,
    /// `handles_max`.
    Handles,
    /// `wall_time_max`.
    WallTime,
}

impl LimitKind {
    /// Every kind there is.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Table, Self::Handles, Self::WallTime];

    /// The word that users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Table => "table",
            Self::Handles => "handles",
            Self::WallTime => "wall-time",
        }
    }
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
