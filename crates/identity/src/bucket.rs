//! A bounded rate: a bucket that holds so many, and is refilled by so many a minute.

use wasmatrix_model::Timestamp;

/// How often a thing may happen. Pure: the time is handed in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// Thousandths of a minute's worth would be lost in whole numbers, so it counts in millionths.
    millionths: u64,
    burst: u32,
    per_minute: u32,
    filled_at: Timestamp,
}

const WHOLE: u64 = 1_000_000;

impl Bucket {
    /// One that was not used yet: `burst` at once, then `per_minute`.
    pub(crate) fn full(burst: u32, per_minute: u32, now: Timestamp) -> Self {
        Self { millionths: u64::from(burst) * WHOLE, burst, per_minute, filled_at: now }
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&mut self, now: Timestamp) -> bool {
        self.refill(now);
        let enough = self.millionths >= WHOLE;
        if enough {
            self.millionths -= WHOLE;
        }
        enough
    }

    /// Whether one could be taken.
    pub(crate) fn has_one(&mut self, now: Timestamp) -> bool {
        self.refill(now);
        self.millionths >= WHOLE
    }

    /// Whether it is as if it had never been used.
    pub(crate) fn is_full(&mut self, now: Timestamp) -> bool {
        self.refill(now);
        self.millionths == self.full_millionths()
    }

    fn full_millionths(&self) -> u64 {
        u64::from(self.burst) * WHOLE
    }

    fn refill(&mut self, now: Timestamp) {
        let milliseconds = now.as_millisecond().saturating_sub(self.filled_at.as_millisecond());
        // A clock that was put back refills nothing, and starts anew from there.
        let milliseconds = u64::try_from(milliseconds).unwrap_or(0);
        let gained = milliseconds.saturating_mul(u64::from(self.per_minute)).saturating_mul(WHOLE) / 60_000;
        self.millionths = self.millionths.saturating_add(gained).min(self.full_millionths());
        self.filled_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_so_many_a_minute() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let mut bucket = Bucket::full(3, 6, at(0));
        assert_eq!([0; 4].map(|_| bucket.take(at(0))), [true, true, true, false]);
        assert_eq!([9, 10, 10].map(|second| bucket.take(at(second))), [false, true, false]);
        assert!(!bucket.is_full(at(39)) && bucket.is_full(at(1_000)));
        assert!(bucket.take(at(5)), "a clock put back takes nothing away");
    }
}
