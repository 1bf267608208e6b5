//! Facts and log lines, which come one at a time.

use std::fmt::Write as _;

use serde::Serialize;
use wasmatrix_model::{ExitCause, Fact, FactKind, LogLevel, LogRecord, LogStream};

use super::{Document, human};

/// A thing that comes with others of its kind, one at a time.
pub(crate) trait Streamed: Document {
    /// It as a line, or a few where one can't hold it; with all there is if `wide`.
    fn line(&self, wide: bool) -> String;
}

impl Document for LogRecord {
    const KIND: &'static str = "LogLine";

    fn name(&self) -> String {
        self.seq.to_string()
    }
}

impl Streamed for LogRecord {
    fn line(&self, wide: bool) -> String {
        let said = match self.stream {
            LogStream::Stdout | LogStream::Stderr => self.line.clone(),
            LogStream::Host => format!("-- {}", self.line),
            LogStream::Log => {
                let level = self.level.unwrap_or(LogLevel::Info);
                if self.context.is_empty() {
                    format!("[{level}] {}", self.line)
                } else {
                    format!("[{level}] {}: {}", self.context, self.line)
                }
            }
        };
        if wide { format!("{:.3} {} {:<6} {said}", self.at, self.restart, self.stream) } else { said }
    }
}

/// A fact with the token that goes on after it.
#[derive(Debug, Serialize)]
pub(crate) struct FactWithToken {
    /// What happened.
    #[serde(flatten)]
    pub fact: Fact,
    /// What `--since` takes.
    pub resume_token: String,
}

impl Document for FactWithToken {
    const KIND: &'static str = "Fact";

    fn name(&self) -> String {
        self.resume_token.clone()
    }
}

impl Streamed for FactWithToken {
    fn line(&self, wide: bool) -> String {
        let fact = &self.fact;
        let subject = fact.kind.subject().map_or("-", |subject| subject.name.as_str());
        let (what, detail, trace) = told(&fact.kind);
        let mut line = format!("{:.3} {what:<20} {subject:<20} {detail}", fact.at).trim_end().to_owned();
        if wide {
            let _ = write!(line, " [{} {} {}]", fact.node, fact.seq, self.resume_token);
        }
        if !trace.is_empty() {
            let _ = write!(line, "\n{}", trace.trim_end());
        }
        line
    }
}

/// A fact's word, its detail and its backtrace.
fn told(kind: &FactKind) -> (&'static str, String, String) {
    let detail = match kind {
        FactKind::InstanceCreated { digest, .. } => {
            format!("{} {}", human::cut(&digest.hex(), 13), kind.detail())
        }
        FactKind::InstanceStarted { restart_count, .. } if *restart_count > 0 => {
            format!("restart {restart_count}")
        }
        FactKind::InstanceCrashed { exit, next_restart_at, .. } => {
            let next =
                next_restart_at.map_or_else(String::new, |next| format!(", next restart at {next:.3}"));
            return (kind.name(), format!("{}{next}", exit.cause), backtrace(&exit.cause));
        }
        FactKind::RestartsExhausted { restart_count, .. } => {
            format!("given up after {restart_count} restarts")
        }
        FactKind::NodeStarted { version } => format!("version {version}"),
        other => other.detail(),
    };
    (kind.name(), detail, String::new())
}

/// A trap's backtrace, a frame on each line, indented; empty for any other end.
pub(crate) fn backtrace(cause: &ExitCause) -> String {
    let ExitCause::Trapped { backtrace, .. } = cause else { return String::new() };
    backtrace.iter().enumerate().fold(String::new(), |mut text, (index, frame)| {
        let _ = writeln!(text, "  {index:>4}: {frame}"); // writing to a String cannot fail
        text
    })
}
