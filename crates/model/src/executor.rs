//! Where an instance runs.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::failure::Invalid;

/// How strongly an instance is walled off. Chosen per instance, by one word; nothing else about the instance changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecutorKind {
    /// In the agent's own process: dense, walled off by wasmtime's sandbox.
    #[default]
    Wasmtime,
    /// In a KVM micro-VM of its own: walled off by the hypervisor too.
    Microvm,
}

impl ExecutorKind {
    /// Every kind there is, in order of strength.
    pub const ALL: [Self; 2] = [Self::Wasmtime, Self::Microvm];

    /// The word that users write.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wasmtime => "wasmtime",
            Self::Microvm => "microvm",
        }
    }
}

impl fmt::Display for ExecutorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ExecutorKind {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            Invalid::new("executor", format!("`{text}` is no executor: write wasmtime or microvm"))
        })
    }
}
