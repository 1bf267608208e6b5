//! What can go wrong in a verb, what the user is told, and which exit code a script sees. The one place that maps
//! failures to exit codes; `wasmatrix help exit-codes` documents them.

use std::{fmt, io, path::PathBuf};

use wasmatrix_model::{ErrorCode, Failure, failure::Invalid};

use crate::manifest::Problems;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The server or the agent refused, and says why.
    #[error("{0}")]
    Refused(#[source] Failure),
    /// A flag or a file's entry breaks a rule.
    #[error("{0}")]
    Invalid(Invalid),
    /// The command line asks for something that can't be.
    #[error("{message}")]
    Usage {
        /// What, and what to write instead.
        message: String,
    },
    /// Nobody listens at the address.
    #[error("no Wasmatrix answers at {addr}")]
    Unreachable {
        /// Where it was looked for.
        addr: String,
        /// What the transport said, for `-v`.
        reason: String,
    },
    /// The connection failed while it was in use, or what answered was no Wasmatrix.
    #[error("the connection to {addr} failed: {reason}")]
    Broken {
        /// Who was asked.
        addr: String,
        /// What the transport said.
        reason: String,
    },
    /// The server did not answer in time.
    #[error("no answer from {addr} within {seconds} s")]
    Deadline {
        /// Who was asked.
        addr: String,
        /// How long it was waited, in seconds.
        seconds: f64,
    },
    /// The server answered something that this version does not understand.
    #[error("the answer of the server does not make sense: {problem}")]
    Answer {
        /// What is wrong with it.
        problem: String,
    },
    /// A file could not be read or written.
    #[error("{}: {problem}", .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
        /// What kind of problem.
        kind: FileProblem,
    },
    /// What was named is not there.
    #[error("{message}")]
    Absent {
        /// What, and where to see what there is.
        message: String,
    },
    /// Who is at the other end could not be proven, or who we are.
    #[error("{message}")]
    Certificate {
        /// Who, why, and what to do.
        message: String,
    },
    /// An app.toml breaks its rules.
    #[error("{0}")]
    Manifest(Problems),
    /// This host or this process can't do what is asked.
    #[error("{message}")]
    Host {
        /// What failed, and what to do.
        message: String,
    },
    /// Standard output took no more.
    #[error("standard output could not be written")]
    Output(#[from] io::Error),
    /// Several things were asked for and some of them failed; each was said as it happened.
    #[error("{failed} of {all} failed")]
    Several {
        /// How many failed.
        failed: usize,
        /// How many there were.
        all: usize,
        /// The exit code of the first.
        first: Exit,
    },
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileProblem {
    /// It is not there.
    Missing,
    /// It is there and can't be used.
    Unusable,
    /// It can be read and is nothing that can be run.
    Artifact,
}

/// The exit codes of every verb but `run`, which has those of [`crate::run::RunExit`] too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// Failed in a way that has no code of its own.
    Failed = 1,
    /// The command line, the file or the request breaks a rule.
    Usage = 2,
    /// No such file, instance or capability.
    NotFound = 3,
    /// Denied.
    Denied = 4,
    /// Nobody answers, or not in time.
    Unavailable = 5,
    /// The artifact can't be run.
    Artifact = 6,
    /// A limit was reached.
    Limit = 7,
    /// Contradicts what is.
    Conflict = 8,
}

impl Exit {
    /// The code that a refusal becomes.
    pub(crate) const fn of(code: ErrorCode) -> Self {
        match code {
            ErrorCode::InvalidRequest => Self::Usage,
            ErrorCode::InstanceNotFound | ErrorCode::CapabilityNotFound => Self::NotFound,
            ErrorCode::PermissionDenied => Self::Denied,
            ErrorCode::ProviderUnavailable | ErrorCode::NodeUnavailable | ErrorCode::Timeout => {
                Self::Unavailable
            }
            ErrorCode::WasmRuntimeError => Self::Artifact,
            ErrorCode::ResourceExhausted => Self::Limit,
            ErrorCode::RestartPolicyViolation => Self::Conflict,
            ErrorCode::CrashDetected | ErrorCode::Internal => Self::Failed,
        }
    }
}

impl CliError {
    /// A command line that can't be.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into() }
    }

    /// Certificates that can't be used or made.
    pub(crate) fn certificate(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Certificate { message: chain(error) }
    }

    /// A file that can't be read or written, for the reason that the operating system gave.
    pub(crate) fn file(path: impl Into<PathBuf>, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => FileProblem::Missing,
            _ => FileProblem::Unusable,
        };
        let problem = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        Self::File { path: path.into(), problem, kind }
    }

    /// The exit code that a script sees.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Refused(failure) => Exit::of(failure.code),
            Self::Invalid(_) | Self::Usage { .. } | Self::Manifest(_) => Exit::Usage,
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Deadline { .. } => Exit::Unavailable,
            Self::Certificate { .. } => Exit::Denied,
            Self::File { kind: FileProblem::Missing, .. } | Self::Absent { .. } => Exit::NotFound,
            Self::File { kind: FileProblem::Artifact, .. } => Exit::Artifact,
            Self::File { kind: FileProblem::Unusable, .. }
            | Self::Answer { .. }
            | Self::Host { .. }
            | Self::Output(_) => Exit::Failed,
            Self::Several { first, .. } => *first,
        }
    }

    /// What to do about it, where the message does not say so.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { addr, .. } if addr == crate::args::ADDR_DEFAULT => {
                Some("start one with `wasmatrix up`".to_owned())
            }
            Self::Unreachable { .. } => Some(
                "start one with `wasmatrix up --listen ADDR:PORT`, or correct --addr or WASMATRIX_ADDR"
                    .to_owned(),
            ),
            Self::Broken { .. } => {
                Some("see whether it still runs, and whether it is a Wasmatrix that listens there".to_owned())
            }
            Self::Deadline { .. } => {
                Some("it may be busy: try again, or wait longer with --timeout".to_owned())
            }
            Self::Answer { .. } => Some("compare the two versions with `wasmatrix version`".to_owned()),
            Self::Refused(failure) => failure.details.get("hint").cloned().or_else(|| hint_of(failure)),
            Self::Invalid(_)
            | Self::Usage { .. }
            | Self::Absent { .. }
            | Self::Certificate { .. }
            | Self::File { .. }
            | Self::Manifest(_)
            | Self::Host { .. }
            | Self::Output(_)
            | Self::Several { .. } => None,
        }
    }

    /// Whether it is only that nobody reads our output any more, as with `wasmatrix ps | head`.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// An error and all that caused it, in one sentence.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn hint_of(failure: &Failure) -> Option<String> {
    let hint = match failure.code {
        ErrorCode::InstanceNotFound => "list what there is with `wasmatrix ps`",
        ErrorCode::ProviderUnavailable => "see `wasmatrix provider list`",
        ErrorCode::NodeUnavailable => "see `wasmatrix doctor` and `wasmatrix node list`",
        ErrorCode::InvalidRequest
        | ErrorCode::PermissionDenied
        | ErrorCode::CapabilityNotFound
        | ErrorCode::WasmRuntimeError
        | ErrorCode::ResourceExhausted
        | ErrorCode::Timeout
        | ErrorCode::CrashDetected
        | ErrorCode::RestartPolicyViolation
        | ErrorCode::Internal => return None,
    };
    Some(hint.to_owned())
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

impl From<Invalid> for CliError {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

/// An error as it stands on standard error: `error: …`, and `hint: …` where there is one.
pub(crate) struct Report<'a> {
    /// What went wrong.
    pub error: &'a CliError,
    /// Of what among several.
    pub of: Option<&'a str>,
    /// Whether the words in front are coloured.
    pub colour: bool,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const RED_BOLD: &str = "\x1b[1;31m";
        const CYAN: &str = "\x1b[36m";
        let word = |word: &str, paint: &str| {
            if self.colour { format!("{paint}{word}\x1b[0m") } else { word.to_owned() }
        };
        let of = self.of.map_or_else(String::new, |of| format!("{of}: "));
        write!(f, "{} {of}{}", word("error:", RED_BOLD), self.error)?;
        match self.error {
            CliError::Output(cause) => write!(f, ": {cause}")?,
            CliError::Refused(failure) if failure.code == ErrorCode::Internal => {
                write!(f, " ({})", failure.code)?
            }
            _ => {}
        }
        match self.error.hint() {
            Some(hint) => write!(f, "\n{} {hint}", word("hint:", CYAN)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use wasmatrix_model::Timestamp;

    use super::*;

    #[test]
    fn every_error_code_has_an_exit_code_and_none_is_success() {
        for code in ErrorCode::ALL {
            assert_ne!(Exit::of(*code), Exit::Ok, "{code}");
        }
    }

    #[test]
    fn a_report_says_what_and_what_to_do() {
        let error =
            CliError::Unreachable { addr: crate::args::ADDR_DEFAULT.to_owned(), reason: String::new() };
        let report = Report { error: &error, of: None, colour: false }.to_string();
        assert_eq!(
            report,
            "error: no Wasmatrix answers at http://127.0.0.1:7117\nhint: start one with `wasmatrix up`"
        );
        assert!(Report { error: &error, of: None, colour: true }.to_string().starts_with("\x1b["));
    }

    #[test]
    fn the_hint_of_the_server_comes_before_our_own() {
        let failure = Failure::new(ErrorCode::InstanceNotFound, "no instance `x`", Timestamp::UNIX_EPOCH);
        assert!(CliError::from(failure.clone()).hint().unwrap().contains("wasmatrix ps"));
        let hinted = failure.with("hint", "did you mean `y`?");
        assert_eq!(CliError::from(hinted).hint().unwrap(), "did you mean `y`?");
    }
}
