//! Where an instance is in its life, and the one table that says which steps are legal.
//!
//! ```text
//!            ┌──────────────────────────────────────────────┐
//!            │                                              ▼
//! Pending ─► Starting ─► Running ─► Stopping ──────────► Stopped
//!   │          │  ▲         │  │        │                 ▲  │
//!   │          │  │         │  └────────┼─ exit code 0 ───┘  │
//!   │          ▼  │         ▼           ▼                    │
//!   │        Crashed ◄──────┴───────────┘                    │
//!   │          │  └── a stop while it waits ──► Stopped      │
//!   │          └──── restart policy ──► Starting ◄── `always`┘
//!   └── a stop before it began ──► Stopped
//! ```
//!
//! Only the instance's own driver in the agent takes a step. `Crashed → Starting` and `Stopped → Starting` are taken
//! by the restart policy alone, never by a user.
//!
//! `Unknown` is no step of a life: the control plane says it of an instance whose node it can't ask.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::failure::Invalid;

/// A place in an instance's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Accepted; nothing has been done for it yet.
    Pending,
    /// Being prepared and launched.
    Starting,
    /// Its code is running.
    Running,
    /// Was asked to stop and has not ended yet.
    Stopping,
    /// Ended because it was done or was asked to.
    Stopped,
    /// Ended in any other way, or could not start.
    Crashed,
    /// Its node can't be asked. Said by the control plane alone, of what it can't see.
    Unknown,
}

impl Phase {
    /// Every phase, in the order of a life.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Stopped,
        Self::Crashed,
        Self::Unknown,
    ];

    /// Whether an instance in this phase may go to `next`. The drawing above, as a table.
    pub const fn can_become(self, next: Self) -> bool {
        match self {
            Self::Pending => matches!(next, Self::Starting | Self::Stopped),
            Self::Starting => matches!(next, Self::Running | Self::Crashed | Self::Stopped),
            Self::Running => matches!(next, Self::Stopping | Self::Stopped | Self::Crashed),
            Self::Stopping => matches!(next, Self::Stopped | Self::Crashed),
            Self::Stopped => matches!(next, Self::Starting),
            Self::Crashed => matches!(next, Self::Starting | Self::Stopped),
            Self::Unknown => false,
        }
    }

    /// Whether code of the instance may be running, or be about to. Of an unknown one, it may.
    pub const fn is_live(self) -> bool {
        match self {
            Self::Pending | Self::Starting | Self::Running | Self::Stopping | Self::Unknown => true,
            Self::Stopped | Self::Crashed => false,
        }
    }

    /// The word that users see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Crashed => "crashed",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Phase {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|phase| phase.as_str() == text)
            .ok_or_else(|| Invalid::new("phase", format!("`{text}` is no phase")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_restart_leads_out_of_the_end() {
        for next in Phase::ALL {
            assert_eq!(Phase::Stopped.can_become(next), next == Phase::Starting);
            assert!(!next.can_become(Phase::Pending), "{next} went back to the beginning");
            assert!(!next.can_become(next), "{next} became itself");
            assert!(
                !next.can_become(Phase::Unknown) && !Phase::Unknown.can_become(next),
                "no life leads there"
            );
        }
    }
}
