//! How much of a processor one run may have: a token bucket over its own computing. Pure; it is told what time it is.

use std::time::Duration;

/// Share that can be saved up while idle, as time at the full rate.
const SAVED_MAX: Duration = Duration::from_millis(100);

/// The bucket. It fills at the granted rate and is emptied by computing; who is in debt rests until it is paid.
#[derive(Debug)]
pub(crate) struct Share {
    millis_per_second: u32,
    /// Nanoseconds of computing in hand; negative is debt.
    balance: i64,
    /// When the balance was last brought up to date.
    at: Duration,
}

impl Share {
    /// A full bucket that fills with `millis_per_second` of computing in each second, from time zero on.
    pub(crate) fn new(millis_per_second: u32) -> Self {
        let mut share = Self { millis_per_second, balance: 0, at: Duration::ZERO };
        share.balance = share.earned(SAVED_MAX);
        share
    }

    /// Whether there is anything to watch.
    pub(crate) const fn is_whole_core(&self) -> bool {
        // One guest runs on one thread at a time, so a whole core can't be exceeded.
        self.millis_per_second >= 1000
    }

    /// Takes `used` of computing that was done up to `now`, and says how long to rest for it, if at all.
    pub(crate) fn charge(&mut self, now: Duration, used: Duration) -> Option<Duration> {
        if self.is_whole_core() {
            return None;
        }
        let idle = now.saturating_sub(self.at);
        self.at = now;
        let full = self.earned(SAVED_MAX);
        self.balance = self.balance.saturating_add(self.earned(idle)).min(full);
        self.balance = self.balance.saturating_sub(i64::try_from(used.as_nanos()).unwrap_or(i64::MAX));
        let debt = u64::try_from(self.balance.checked_neg()?).ok().filter(|debt| *debt > 0)?;
        Some(Duration::from_nanos(debt.saturating_mul(1000) / u64::from(self.millis_per_second.max(1))))
    }

    fn earned(&self, time: Duration) -> i64 {
        let nanos = time.as_nanos().saturating_mul(u128::from(self.millis_per_second)) / 1000;
        i64::try_from(nanos).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_a_core_is_a_quarter_in_the_long_run() {
        let mut share = Share::new(250);
        let (mut now, mut computed) = (Duration::ZERO, Duration::ZERO);
        while now < Duration::from_secs(20) {
            let slice = Duration::from_millis(10);
            now += slice;
            computed += slice;
            now += share.charge(now, slice).unwrap_or_default();
        }
        let ratio = computed.as_secs_f64() / now.as_secs_f64();
        assert!((0.24..0.27).contains(&ratio), "{ratio}");
    }

    #[test]
    fn a_whole_core_never_rests() {
        assert_eq!(Share::new(1000).charge(Duration::from_millis(1), Duration::from_secs(3600)), None);
    }
}
