//! What an instance said, line by line. Kept in a bounded ring in memory, never stored.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Where a line came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A call of `wasi:logging`.
    Log,
    /// The host, about the log itself: lines dropped, a run begun.
    Host,
}

impl LogStream {
    /// Every stream there is.
    pub const ALL: [Self; 4] = [Self::Stdout, Self::Stderr, Self::Log, Self::Host];

    /// The word that users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Log => "log",
            Self::Host => "host",
        }
    }
}

impl fmt::Display for LogStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How grave a line of `wasi:logging` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Every step.
    Trace,
    /// For whoever looks for a fault.
    Debug,
    /// As it should be.
    Info,
    /// Not as it should be, and survived.
    Warn,
    /// Something failed.
    Error,
    /// All is lost.
    Critical,
}

impl LogLevel {
    /// Every level there is, least grave first.
    pub const ALL: [Self; 6] =
        [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Critical];

    /// The word that users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One line that an instance said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// Its number among the instance's lines, from 1, with no gaps: a gap in what a reader sees was dropped.
    pub seq: u64,
    /// When it was said.
    pub at: Timestamp,
    /// Where it came out.
    pub stream: LogStream,
    /// How many restarts came before the run that said it.
    pub restart: u32,
    /// How grave, for `wasi:logging`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub level: Option<LogLevel>,
    /// The context given to `wasi:logging`.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub context: String,
    /// The line, without its newline; bytes that are not UTF-8 are replaced.
    pub line: String,
}
