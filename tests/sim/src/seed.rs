//! One number from which all that is left to chance follows.
//!
//! What follows from it: which faults befall whom and when, what instances do, how long their starts and stops take,
//! and under a paused clock the order of events. What does not: instance and run ids, which are UUIDs.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher as _},
};

use rand::{SeedableRng as _, rngs::StdRng};

/// The variable that sets the seed of a test run.
pub const VARIABLE: &str = "WASMATRIX_SIM_SEED";

/// The seed of a simulation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed(u64);

impl Seed {
    /// The one that [`VARIABLE`] sets, or a new one.
    ///
    /// # Panics
    /// The variable holds no number: a run that is to be repeated must not quietly be another.
    pub fn of_the_environment() -> Self {
        let given = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
        Self(given.map_or_else(rand::random, |text| {
            text.parse().expect("WASMATRIX_SIM_SEED is the number that a failed test printed")
        }))
    }

    /// That one.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// As a number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// A seed for one part of the simulation, which does not depend on what the other parts draw.
    #[must_use]
    pub fn of(self, part: impl Hash) -> Self {
        // Made with fixed keys, unlike the hasher of a HashMap.
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        part.hash(&mut hasher);
        Self(hasher.finish())
    }

    /// Numbers that follow from it.
    pub fn rng(self) -> StdRng {
        StdRng::seed_from_u64(self.0)
    }

    /// Says on standard error how to repeat this run, should the thread be panicking when the value is dropped.
    pub const fn told_on_failure(self) -> Told {
        Told(self)
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// See [`Seed::told_on_failure`].
#[derive(Debug)]
pub struct Told(Seed);

impl Drop for Told {
    fn drop(&mut self) {
        use std::io::Write as _;
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "to repeat this run: {VARIABLE}={}", self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt as _;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_parts_are_apart() {
        let draw = |seed: Seed| -> [u64; 4] {
            std::array::from_fn({
                let mut rng = seed.rng();
                move |_| rng.random()
            })
        };
        let seed = Seed::new(7);
        assert_eq!(draw(seed.of(("node", 1))), draw(seed.of(("node", 1))));
        assert_ne!(draw(seed.of(("node", 1))), draw(seed.of(("node", 2))));
        assert_ne!(draw(seed), draw(Seed::new(8)));
    }
}
