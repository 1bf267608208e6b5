//! How much of a processor one run may have: a token bucket over its own computing. Pure; it is told what time it is.
//! The same rule on every executor, so it is in none of them.

use std::time::Duration;

/// Share that can be saved up while idle, as time at the full rate.
const SAVED_MAX: Duration = Duration::from_millis(100);

/// The bucket. It fills at the granted rate and is emptied by computing; who is in debt rests until it is paid.
#[derive(Debug)]
pub struct Share {
    millis_per_second: u32,
    /// Nanoseconds of computing in hand; negative is debt.
    balance: i64,
    /// When the balance was last brought up to date.
    at: Duration,
}

impl Share {
    /// A full bucket that fills with `millis_per_second` of computing in each second, from time zero on.
    pub fn new(millis_per_second: u32) -> Self {
        let mut share = Self { millis_per_second, balance: 0, at: Duration::ZERO };
        share.balance = share.earned(SAVED_MAX);
        share
    }

    /// Whether there is anything to watch.
    pub const fn is_whole_core(&self) -> bool {
        // One guest runs on one thread at a time, so a whole core can't be exceeded.
        self.millis_per_second >= 1000
    }

    /// Takes `used` of computing that was done up to `now`, and says how long to rest for it, if at all.
    pub fn charge(&mut self, now: Duration, used: Duration) -> Option<Duration> {
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

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_whole_core_never_rests() {
        let mut share = Share::new(1000);
        assert_eq!(share.charge(ms(10), Duration::from_secs(3600)), None);
    }

    #[test]
    fn debt_is_paid_at_the_granted_rate() {
        let mut share = Share::new(100);
        // The full bucket held 10 ms; as many remain to be earned, at a tenth of real time.
        assert_eq!(share.charge(ms(20), ms(20)), Some(ms(100)));
        assert_eq!(share.charge(ms(70), Duration::ZERO), Some(ms(50)), "half of it is paid");
        assert_eq!(share.charge(ms(120), Duration::ZERO), None, "all is paid");
    }

    #[test]
    fn idleness_saves_up_no_more_than_the_bucket_holds() {
        let mut share = Share::new(500);
        assert_eq!(share.charge(Duration::from_secs(60), ms(50)), None);
        assert_eq!(share.charge(Duration::from_secs(60), ms(1)), Some(ms(2)));
    }

    #[test]
    fn over_a_long_run_the_rate_is_kept() {
        for rate in [10, 50, 250, 900] {
            let (mut share, mut now, mut used) = (Share::new(rate), Duration::ZERO, Duration::ZERO);
            while now < Duration::from_secs(20) {
                now += ms(10);
                used += ms(10);
                now += share.charge(now, ms(10)).unwrap_or_default();
            }
            let got = used.as_secs_f64() / now.as_secs_f64() * 1000.0;
            let wanted = f64::from(rate);
            assert!((got - wanted).abs() <= wanted * 0.02 + 1.0, "granted {wanted} ms/s, had {got}");
        }
    }
}
