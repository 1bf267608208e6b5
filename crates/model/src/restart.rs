//! What happens after a run ends. The rule itself is applied at the agent, to an end that happened.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::failure::Invalid;

/// After which ends an instance is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartMode {
    /// After none.
    #[default]
    Never,
    /// After a crash: a trap, a limit, a non-zero exit code, a fault of the host.
    OnFailure,
    /// After every end but a stop that somebody asked for.
    Always,
}

impl RestartMode {
    /// Every mode there is.
    pub const ALL: [Self; 3] = [Self::Never, Self::OnFailure, Self::Always];

    /// The word that users write.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::OnFailure => "on-failure",
            Self::Always => "always",
        }
    }
}

impl fmt::Display for RestartMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for RestartMode {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or_else(|| {
            Invalid::new(
                "restart",
                format!("`{text}` is no restart policy: write never, on-failure or always"),
            )
        })
    }
}

/// When an instance is started again, and after how long.
///
/// The n-th restart in a row waits `backoff_initial · 2ⁿ⁻¹`, at most `backoff_max`, less a random part of up to
/// `jitter_percent` of it. A run that lasted `reset_after` begins a new row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RestartPolicy {
    /// After which ends.
    pub mode: RestartMode,
    /// The first wait in a row.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub backoff_initial: Duration,
    /// The longest wait.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub backoff_max: Duration,
    /// How much of a wait is left to chance, in percent, so that a crowd does not come back at once.
    pub jitter_percent: u8,
    /// Restarts in a row before it is given up. `None`: never given up.
    pub restarts_max: Option<u32>,
    /// How long a run must last to begin a new row.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub reset_after: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            mode: RestartMode::Never,
            backoff_initial: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            jitter_percent: 10,
            restarts_max: None,
            reset_after: Duration::from_secs(600),
        }
    }
}

impl RestartPolicy {
    /// The default waits, with `mode`.
    pub fn with_mode(mode: RestartMode) -> Self {
        Self { mode, ..Self::default() }
    }

    /// Checks that the waits make sense together.
    ///
    /// # Errors
    /// The first field that does not.
    pub fn validate(&self) -> Result<(), Invalid> {
        const YEAR: Duration = Duration::from_secs(366 * 86_400);
        if self.backoff_initial < Duration::from_millis(1) {
            return Err(Invalid::new(
                "backoff_initial",
                "must be 1ms or more, or a crash would spin the node",
            ));
        }
        if self.backoff_max < self.backoff_initial {
            return Err(Invalid::new("backoff_max", "must not be less than backoff_initial"));
        }
        for (field, time) in [("backoff_max", self.backoff_max), ("reset_after", self.reset_after)] {
            if time > YEAR {
                return Err(Invalid::new(field, "times of more than 366 days are not taken"));
            }
        }
        if self.jitter_percent > 100 {
            return Err(Invalid::new("jitter_percent", "must be 0 to 100"));
        }
        Ok(())
    }
}
