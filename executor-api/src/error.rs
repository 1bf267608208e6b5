//! Why an artifact could not be prepared or launched.

use wasmatrix_model::ErrorCode;

/// What kind of failure: the part that upper layers act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The artifact is not something that can be run: not Wasm, corrupt, too large, of no known world.
    BadArtifact,
    /// The artifact is sound and asks for something that is not offered.
    Unsupported,
    /// A limit stands in the way: of the instance's, of the executor's, of the machine's.
    Exhausted,
    /// The guest's own code failed while it was being instantiated.
    GuestFault,
    /// The executor can't be used on this machine.
    Unavailable,
    /// A fault of ours or of the machine.
    HostFault,
}

impl ErrorKind {
    /// The code that a client sees.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::BadArtifact | Self::Unsupported | Self::GuestFault => ErrorCode::WasmRuntimeError,
            Self::Exhausted => ErrorCode::ResourceExhausted,
            Self::Unavailable => ErrorCode::NodeUnavailable,
            Self::HostFault => ErrorCode::Internal,
        }
    }
}

/// A failure to prepare or launch. The message says what was wrong and what to do, for the user's eyes.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
#[expect(clippy::error_impl_error, reason = "it is the one error of this crate's two traits")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure with a message of our own.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The same failure, with what caused it. The message must not repeat the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message and every cause behind it, on one line.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
