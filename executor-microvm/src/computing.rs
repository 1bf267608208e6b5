//! What a run's thread has computed: metered, and charged to its share of a processor.

use std::{sync::Arc, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use wasmatrix_executor_api::{Meter, Share};

/// How long a guest that asks often is not looked at. To ask for a thread's time is a system call, and would be a good
/// part of what a request costs.
const UNSEEN_MAX: Duration = Duration::from_millis(1);

/// The account. It is kept on the thread whose computing it counts.
pub(crate) struct Computing {
    meter: Arc<Meter>,
    share: Share,
    /// Processor time of the thread that was accounted for.
    counted: Duration,
    /// When that was, since the run began.
    counted_at: Duration,
}

impl Computing {
    /// Of a thread that has computed nothing, and may have so much of a processor.
    pub(crate) fn new(meter: Arc<Meter>, share: Share) -> Self {
        Self { meter, share, counted: Duration::ZERO, counted_at: Duration::ZERO }
    }

    /// Whether the guest has to be interrupted for the sake of its share.
    pub(crate) const fn is_limited(&self) -> bool {
        !self.share.is_whole_core()
    }

    /// Counts what was computed, if that was not done a moment ago.
    pub(crate) fn count_now_and_then(&mut self, now: Duration) {
        if now.saturating_sub(self.counted_at) >= UNSEEN_MAX {
            self.count(now);
        }
    }

    /// Counts what was computed up to now, in time since the run began.
    pub(crate) fn count(&mut self, now: Duration) {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let computed = Duration::try_from(time).unwrap_or(self.counted);
        let used = computed.saturating_sub(self.counted);
        (self.counted, self.counted_at) = (computed, now);
        self.meter.add_cpu_time(used);
        self.share.charge(now, used);
    }

    /// How long the guest is to rest from now on for what was counted, if at all.
    pub(crate) fn rest(&mut self, now: Duration) -> Option<Duration> {
        self.share.charge(now, Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computes until the thread has had that much of a processor.
    fn compute(until: Duration) {
        while Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap() < until {
            std::hint::black_box(0);
        }
    }

    #[test]
    fn what_is_computed_between_looks_is_counted_and_rested_for() {
        // A thread of its own, which has computed nothing.
        let counted = std::thread::spawn(|| {
            let meter = Arc::<Meter>::default();
            let mut computing = Computing::new(Arc::clone(&meter), Share::new(100));
            assert!(computing.is_limited());
            compute(Duration::from_millis(30));
            let (soon, later) = (UNSEEN_MAX / 2, Duration::from_millis(30));
            computing.count_now_and_then(soon);
            assert_eq!((meter.usage().cpu_time, computing.rest(soon)), (Duration::ZERO, None));
            computing.count_now_and_then(later);
            let rest = computing.rest(later).expect("ten milliseconds were in hand, and thirty are spent");
            assert!(rest >= Duration::from_millis(150), "{rest:?}");
            assert_eq!(computing.rest(later + rest), None, "who has rested has paid");
            meter.usage().cpu_time
        });
        assert!(counted.join().unwrap() >= Duration::from_millis(30));
    }
}
