//! Which runs of an instance become facts: all of them, but for those of an instance that ends and is restarted without
//! pause, of which so many in a minute do. Otherwise one guest pushes everybody else's facts out of the record.
//!
//! What is told is always a run from its beginning to its end, and the last one always is. How many were left out is
//! the difference of their restart counts.

use std::time::{Duration, Instant};

use crate::rate::PerMinute;

/// Runs of one instance that become facts in a minute, however short they are.
const RUNS_PER_MINUTE: u32 = 60;
/// A run, or a wait for the next, that takes this long is always told.
pub(super) const BRIEF: Duration = Duration::from_secs(1);

/// How much is told of the present run. The first one always is.
#[derive(Debug)]
pub(crate) struct Telling {
    rate: PerMinute,
    told: bool,
}

impl Telling {
    pub(crate) const fn new() -> Self {
        Self { rate: PerMinute::new(RUNS_PER_MINUTE), told: true }
    }

    /// The next run begins at `now`. Whether it is told from its beginning.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        self.told = self.rate.ask(now);
        self.told
    }

    /// Whether the present run is told.
    pub(super) const fn is_told(&self) -> bool {
        self.told
    }

    /// It is told after all. `true`: its beginning was not told yet.
    pub(super) fn catch_up(&mut self) -> bool {
        !std::mem::replace(&mut self.told, true)
    }
}
