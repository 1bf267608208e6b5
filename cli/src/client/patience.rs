//! How long is waited between two tries: longer each time, up to an end, and never the same for all who wait.

use std::time::Duration;

/// The first wait.
const INITIAL: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST: Duration = Duration::from_secs(2);

/// The waits of one row of tries.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    tries: u32,
}

impl Patience {
    /// How long to wait before the next try: half of it, and up to the whole of it by chance.
    pub(crate) fn pause(&mut self) -> Duration {
        let whole = INITIAL.saturating_mul(1 << self.tries.min(10)).min(LONGEST);
        self.tries += 1;
        whole.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// Whether there was one pause and no more.
    pub(crate) const fn is_first(&self) -> bool {
        self.tries == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_an_end() {
        let mut patience = Patience::default();
        let waits: Vec<Duration> = (0..12).map(|_| patience.pause()).collect();
        assert!(waits[0] <= INITIAL && waits[0] >= INITIAL / 2, "{waits:?}");
        assert!(waits[11] <= LONGEST && waits[11] >= LONGEST / 2, "{waits:?}");
        assert!(waits[6] > waits[0], "{waits:?}");
    }
}
