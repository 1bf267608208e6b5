//! How often a guest may ask: a bound on requests in a second. Pure; it is told what time it is.
//!
//! A request costs its host more than its guest: threads of the host's own log, store and answer, and no share of a
//! processor counts them. What is too much is not refused but answered later.

use std::time::Duration;

/// Requests that can be saved up while idle, as time at the full rate.
const SAVED_MAX: Duration = Duration::from_millis(100);

/// Spaces requests out, after some that come at once.
#[derive(Debug)]
pub(crate) struct Rate {
    /// Time that one request stands for.
    spacing: Duration,
    /// When all requests so far would have been made at the full rate.
    paid_until: Duration,
}

impl Rate {
    /// At most so many in a second, from time zero on.
    pub(crate) fn new(per_second_max: u32) -> Self {
        Self { spacing: Duration::from_secs(1) / per_second_max.max(1), paid_until: Duration::ZERO }
    }

    /// Counts a request made at `now`, and says how long its answer has to wait, if at all.
    pub(crate) fn charge(&mut self, now: Duration) -> Option<Duration> {
        let since = self.paid_until.max(now.saturating_sub(SAVED_MAX));
        self.paid_until = since.saturating_add(self.spacing);
        self.paid_until.checked_sub(now).filter(|rest| !rest.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_saved_up_comes_at_once_and_then_one_at_a_time() {
        let mut rate = Rate::new(100);
        let begun = Duration::from_secs(7);
        for saved in 0..10 {
            assert_eq!(rate.charge(begun), None, "{saved}");
        }
        assert_eq!(rate.charge(begun), Some(Duration::from_millis(10)));
        assert_eq!(rate.charge(begun), Some(Duration::from_millis(20)));
        assert_eq!(rate.charge(begun + Duration::from_millis(30)), None, "both were paid for, and one more");
    }

    #[test]
    fn a_rate_of_nothing_is_the_slowest_there_is() {
        assert_eq!(Rate::new(0).charge(Duration::ZERO), Some(Duration::from_secs(1)));
    }

    proptest! {
        /// Whoever waits as told is never ahead of the rate by more than can be saved up.
        #[test]
        fn the_rate_is_kept_whatever_the_pauses(
            per_second in 1_u32..1_000_000,
            pauses in proptest::collection::vec(0_u64..300_000_000, 1..300),
        ) {
            let mut rate = Rate::new(per_second);
            let mut now = Duration::ZERO;
            for (made, pause) in (1_u32..).zip(pauses) {
                now += Duration::from_nanos(pause);
                now += rate.charge(now).unwrap_or_default();
                let allowed = (now + SAVED_MAX).as_secs_f64() * f64::from(per_second) + 1.0;
                prop_assert!(f64::from(made) <= allowed * 1.001, "{made} of {allowed} by {now:?}");
            }
        }
    }
}
