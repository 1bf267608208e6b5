//! How long to wait before the next attempt: longer each time, up to a limit, and not all nodes at once. Pure.

use std::time::Duration;

#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits of up to `first`, doubled each time, never longer than `max`.
    pub(super) fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, next: first }
    }

    /// The next wait; `chance` is a number from 0 to 1 drawn by lot, and takes up to half of it away.
    pub(super) fn next(&mut self, chance: f64) -> Duration {
        let wait = self.next.min(self.max);
        self.next = wait.saturating_mul(2);
        wait.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
    }

    /// It went well: the next wait is as short as the first.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_begin_anew() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, 5 * second);
        let waits: Vec<_> = (0..5).map(|_| backoff.next(0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        assert_eq!(backoff.next(1.0), 5 * second / 2);
        backoff.reset();
        assert_eq!(backoff.next(0.5), second * 3 / 4);
    }
}
