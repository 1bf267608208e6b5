//! Why a request was refused, in the twelve codes that every client sees.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// A value that is not what its type demands. `field` names where it stands, in the words of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// Which field, e.g. `limits.memory`.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub problem: String,
}

impl Invalid {
    /// An objection to `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }

    /// The same objection, seen from one level further out: `memory` becomes `limits.memory`.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)+) => {
        /// What kind of failure it is: the part of an error that programs act on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum ErrorCode { $($(#[$doc])* #[serde(rename = $text)] $variant,)+ }

        impl ErrorCode {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The code as it travels, e.g. `INVALID_REQUEST`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

error_codes! {
    /// The request breaks a rule that the client can read; sending it again unchanged is pointless.
    InvalidRequest = "INVALID_REQUEST",
    /// No instance has that name or id.
    InstanceNotFound = "INSTANCE_NOT_FOUND",
    /// The instance holds no grant for what it tried, or the client no right to what it asked.
    PermissionDenied = "PERMISSION_DENIED",
    /// No such capability exists, or the instance does not hold it.
    CapabilityNotFound = "CAPABILITY_NOT_FOUND",
    /// The provider that would answer is stopped or out of reach.
    ProviderUnavailable = "PROVIDER_UNAVAILABLE",
    /// The node that would answer is out of reach, or can't run what is asked.
    NodeUnavailable = "NODE_UNAVAILABLE",
    /// The artifact can't be run: not Wasm, an import that nobody offers, a failed instantiation.
    WasmRuntimeError = "WASM_RUNTIME_ERROR",
    /// A limit was reached; the message says which.
    ResourceExhausted = "RESOURCE_EXHAUSTED",
    /// It took longer than it was allowed to.
    Timeout = "TIMEOUT",
    /// The instance crashed.
    CrashDetected = "CRASH_DETECTED",
    /// What is asked contradicts the restart policy or the instance's phase.
    RestartPolicyViolation = "RESTART_POLICY_VIOLATION",
    /// A fault of ours.
    Internal = "INTERNAL",
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ErrorCode {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == text)
            .ok_or_else(|| Invalid::new("error_code", format!("`{text}` is no error code")))
    }
}

/// A refusal as the user sees it: a code for programs, a message for people, details for both, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure.
    pub code: ErrorCode,
    /// What went wrong and what to do about it. One paragraph, no trailing newline.
    pub message: String,
    /// Names and values that belong to it: the field, the instance, the limit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
    /// When it was decided.
    pub at: Timestamp,
}

impl Failure {
    /// A failure that happened at `at`.
    pub fn new(code: ErrorCode, message: impl Into<String>, at: Timestamp) -> Self {
        Self { code, message: message.into(), details: BTreeMap::new(), at }
    }

    /// The same, with one more detail.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// A request whose field breaks a rule.
    pub fn invalid(invalid: &Invalid, at: Timestamp) -> Self {
        Self::new(ErrorCode::InvalidRequest, invalid.to_string(), at).with("field", &invalid.field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_as_itself() {
        assert_eq!(ErrorCode::ALL.len(), 12);
        for code in ErrorCode::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
        }
    }
}
