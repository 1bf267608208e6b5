//! The time of day in a simulation: it goes with tokio's clock, which a test can pause, and may be wrong on purpose.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use tokio::time::Instant;
use wasmatrix_model::{Clock, SystemClock, Timestamp};

/// Where paused simulations begin: 2026-01-01, 00:00 UTC, in seconds since 1970.
const BEGINNING: i64 = 1_767_225_600;

/// A clock that goes as tokio's does.
#[derive(Debug)]
pub struct SimClock {
    at: Timestamp,
    began: Instant,
    skew_millis: AtomicI64,
}

impl SimClock {
    /// A clock that shows the same time at the beginning of every simulation. To be made within a runtime.
    pub fn new() -> Self {
        Self::showing(Timestamp::from_second(BEGINNING).unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// A clock that shows the time of the machine, for simulated nodes in front of a real control plane.
    pub fn of_the_machine() -> Self {
        Self::showing(SystemClock.now())
    }

    fn showing(at: Timestamp) -> Self {
        Self { at, began: Instant::now(), skew_millis: AtomicI64::new(0) }
    }

    /// The same time, for another node that can be wrong by itself.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { at: self.at, began: self.began, skew_millis: AtomicI64::new(0) }
    }

    /// Sets it wrong: ahead by so many milliseconds, or behind if negative.
    pub fn skew(&self, millis: i64) {
        self.skew_millis.store(millis, Relaxed);
    }
}

impl Default for SimClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let passed =
            jiff::SignedDuration::try_from(self.began.elapsed()).unwrap_or(jiff::SignedDuration::MAX);
        let skew = jiff::SignedDuration::from_millis(self.skew_millis.load(Relaxed));
        self.at.saturating_add(passed.saturating_add(skew)).unwrap_or(self.at)
    }
}
