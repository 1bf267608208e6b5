//! How often a thing may still happen: so many times at once, and one more for each while that passes. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// The most that there may be at once, and how long one more takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) burst: u32,
    pub(crate) every: Duration,
}

/// What is left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    left: u32,
    since: Instant,
}

impl Allowance {
    /// All of it.
    pub(crate) fn full(rate: Rate, now: Instant) -> Self {
        Self { left: rate.burst, since: now }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let whiles = now.saturating_duration_since(self.since).as_nanos() / rate.every.as_nanos().max(1);
        let earned = u32::try_from(whiles).unwrap_or(u32::MAX);
        if self.left.saturating_add(earned) >= rate.burst {
            *self = Self::full(rate, now);
        } else {
            self.left += earned;
            self.since += rate.every.saturating_mul(earned);
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }

    /// Whether nothing is missing: it is as if it had never been used.
    pub(crate) fn is_full(&self, rate: Rate, now: Instant) -> bool {
        let missing = rate.burst.saturating_sub(self.left);
        now.saturating_duration_since(self.since) >= rate.every.saturating_mul(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn so_many_at_once_and_one_for_each_while() {
        let rate = Rate { burst: 3, every: Duration::from_secs(10) };
        let mut allowance = Allowance::full(rate, Instant::now());
        let mut take = |seconds: u64| {
            let now = Instant::now() + Duration::from_secs(seconds);
            (allowance.take(rate, now), allowance.is_full(rate, now))
        };
        assert_eq!([0; 4].map(|at| take(at).0), [true, true, true, false]);
        assert_eq!([9, 10, 19, 20].map(|at| take(at).0), [false, true, false, true]);
        assert_eq!([50, 50, 50, 50].map(|at| take(at).0), [true, true, true, false]);
        assert!(!allowance.is_full(rate, Instant::now() + Duration::from_secs(79)));
        assert!(allowance.is_full(rate, Instant::now() + Duration::from_secs(80)));
    }
}
