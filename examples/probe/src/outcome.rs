//! What came of a step, and how it is printed.

use std::io;

use crate::bindings::wasi::keyvalue::store;

/// One line, or why there is none.
pub(crate) type Outcome = Result<String, Problem>;

/// Why a step came to nothing.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The host refused.
    Denied,
    /// Anything else, in words.
    Other(String),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::AccessDenied => Self::Denied,
            store::Error::NoSuchStore => Self::Other("no such store".to_owned()),
            store::Error::Other(problem) => Self::Other(problem),
        }
    }
}

/// The outcome of a step that has nothing to tell.
#[expect(clippy::unnecessary_wraps, reason = "the end of every step that has nothing to tell")]
pub(crate) fn ok() -> Outcome {
    Ok("ok".to_owned())
}

/// How an outcome is printed: always one line.
pub(crate) fn line(outcome: &Outcome) -> String {
    match outcome {
        Ok(text) => text.clone(),
        Err(Problem::Denied) => "denied".to_owned(),
        Err(Problem::Other(problem)) => format!("error: {}", problem.replace('\n', " ")),
    }
}

/// Bytes as one word of output: the text that they are, or spelled as `0x…` where that would not be plain.
pub(crate) fn show(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && !text.starts_with("0x") && !text.chars().any(char::is_control) => {
            text.to_owned()
        }
        _ => spell(bytes),
    }
}

/// Bytes as `0x…`, whatever they are.
pub(crate) fn spell(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |spelled, byte| format!("{spelled}{byte:02x}"))
}
