//! How often something may be recorded: so many times in a minute, so that one who does nothing else does not push
//! everybody else's facts out. Pure: it is told the time.

use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

/// Counts what happens in each minute.
#[derive(Debug)]
pub(crate) struct PerMinute {
    max: u32,
    begun: Option<Instant>,
    taken: u32,
}

impl PerMinute {
    pub(crate) const fn new(max: u32) -> Self {
        Self { max, begun: None, taken: 0 }
    }

    /// Whether what happened at `now` is still within the rate.
    pub(crate) fn ask(&mut self, now: Instant) -> bool {
        if self.begun.is_none_or(|begun| now.duration_since(begun) >= MINUTE) {
            (self.begun, self.taken) = (Some(now), 0);
        }
        self.taken = self.taken.saturating_add(1);
        self.taken <= self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_let_through_up_to_the_rate_and_anew_in_the_next_minute() {
        let mut rate = PerMinute::new(60);
        let now = Instant::now();
        assert_eq!((0..1000).filter(|_| rate.ask(now)).count(), 60);
        assert!(rate.ask(now + MINUTE));
    }
}
