//! What becomes of instances that run no code: how long they take to start, when they end and how, by lot.
//!
//! The lot follows from the seed, the instance's name and the number of the run, so that it does not depend on who was
//! asked first. What an instance's own configuration says goes before it:
//!
//! | `config` | what it does |
//! |---|---|
//! | `sim-start` | how long the start takes, e.g. `300ms` |
//! | `sim-run` | how long a run lasts, e.g. `5s`; `for ever` |
//! | `sim-end` | how it ends: `exit CODE`, `trap`, `limit`, or `fail`: it can't be started at all |

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use rand::{RngExt as _, rngs::StdRng};
use wasmatrix_model::{ErrorCode, ExitCause, InstanceName, LimitKind, RestartMode, RestartPolicy};

use crate::Seed;

/// How instances live on a node.
#[derive(Clone, Debug)]
pub struct Lives {
    /// How long a start takes.
    pub start: RangeInclusive<Duration>,
    /// How long a stop takes.
    pub stop: RangeInclusive<Duration>,
    /// How long a run lasts; `None`: for ever.
    pub run: Option<RangeInclusive<Duration>>,
    /// How many of a hundred ends are crashes; the others are exits with code 0.
    pub crashes_percent: u8,
    /// How many of a hundred starts fail.
    pub failures_percent: u8,
}

impl Lives {
    /// Starts and stops take no time, and nothing ends by itself.
    pub const fn calm() -> Self {
        let at_once = RangeInclusive::new(Duration::ZERO, Duration::ZERO);
        Self {
            start: at_once,
            stop: RangeInclusive::new(Duration::ZERO, Duration::ZERO),
            run: None,
            crashes_percent: 0,
            failures_percent: 0,
        }
    }

    /// Runs of half a second to a minute, half of which crash, and one start in twenty fails.
    pub const fn restless() -> Self {
        Self {
            start: RangeInclusive::new(Duration::from_millis(1), Duration::from_millis(400)),
            stop: RangeInclusive::new(Duration::ZERO, Duration::from_millis(300)),
            run: Some(RangeInclusive::new(Duration::from_millis(500), Duration::from_secs(60))),
            crashes_percent: 50,
            failures_percent: 5,
        }
    }

    /// What becomes of one run of an instance.
    pub fn fate(
        &self,
        seed: Seed,
        name: &InstanceName,
        restart: u32,
        config: &BTreeMap<String, String>,
    ) -> Fate {
        let mut rng = seed.of((name.as_str(), restart)).rng();
        let says = |key: &str| config.get(key).map(String::as_str);
        let span =
            |text: &str| text.parse::<jiff::SignedDuration>().ok().map(jiff::SignedDuration::unsigned_abs);
        // Drawn in any case, so that what one part says changes nothing for the others.
        let (start, run) = (draw(&mut rng, &self.start), self.run.as_ref().map(|run| draw(&mut rng, run)));
        let (fails, crashes) =
            (percent(&mut rng, self.failures_percent), percent(&mut rng, self.crashes_percent));
        let kind = rng.random_range(0..3_u8);
        let end = match says("sim-end") {
            Some("fail") => Err(failed()),
            None if fails => Err(failed()),
            Some(end) => Ok(said(end)),
            None if crashes => Ok(crash(kind)),
            None => Ok(ExitCause::Exited { code: 0 }),
        };
        let run = match says("sim-run") {
            Some(text) => span(text),
            None => run,
        };
        Fate { start: says("sim-start").and_then(span).unwrap_or(start), run, end, chance: rng.random() }
    }

    /// How long the stop of a run takes.
    pub fn stop(&self, seed: Seed, name: &InstanceName, restart: u32) -> Duration {
        draw(&mut seed.of(("stop", name.as_str(), restart)).rng(), &self.stop)
    }
}

/// What becomes of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Fate {
    /// How long it takes to begin.
    pub start: Duration,
    /// How long it lasts; `None`: for ever.
    pub run: Option<Duration>,
    /// How it ends, or why it can't begin.
    pub end: Result<ExitCause, ExitCause>,
    /// A number from 0 to 1 for the jitter of the restart after it.
    pub chance: f64,
}

fn draw(rng: &mut StdRng, range: &RangeInclusive<Duration>) -> Duration {
    rng.random_range(range.clone())
}

fn percent(rng: &mut StdRng, percent: u8) -> bool {
    rng.random_range(0..100) < percent
}

fn failed() -> ExitCause {
    let message = "this simulated artifact can't be started".to_owned();
    ExitCause::StartFailed { code: ErrorCode::WasmRuntimeError, message }
}

fn said(end: &str) -> ExitCause {
    match end.split_once(' ') {
        Some(("exit", code)) => ExitCause::Exited { code: code.parse().unwrap_or(1) },
        _ if end == "limit" => crash(1),
        _ => crash(0),
    }
}

fn crash(kind: u8) -> ExitCause {
    match kind {
        0 => ExitCause::Trapped { trap: "wasm trap: simulated".to_owned(), backtrace: Vec::new() },
        1 => ExitCause::LimitExceeded { limit: LimitKind::Memory, message: "simulated".to_owned() },
        _ => ExitCause::Exited { code: 1 },
    }
}

/// What follows the end of a run by the restart policy; the words of [`RestartPolicy`], put into practice once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// Nothing.
    Nothing,
    /// Nothing, because as many restarts as allowed were tried.
    GivenUp,
    /// Another run after this long.
    Restart(Duration),
}

/// Decides what follows a run that lasted so long, after `in_a_row` restarts, which it counts.
pub fn follows(
    policy: &RestartPolicy,
    cause: &ExitCause,
    lasted: Duration,
    in_a_row: &mut u32,
    chance: f64,
) -> Follows {
    let applies = match policy.mode {
        RestartMode::Never => false,
        RestartMode::OnFailure => cause.is_crash(),
        RestartMode::Always => *cause != ExitCause::StopRequested,
    };
    if !applies {
        return Follows::Nothing;
    }
    if lasted >= policy.reset_after {
        *in_a_row = 0;
    }
    if policy.restarts_max.is_some_and(|max| *in_a_row >= max) {
        return Follows::GivenUp;
    }
    let doubled = 2_u32.checked_pow(*in_a_row).and_then(|times| policy.backoff_initial.checked_mul(times));
    *in_a_row = in_a_row.saturating_add(1);
    let jitter = f64::from(policy.jitter_percent) / 100.0 * chance;
    Follows::Restart(doubled.unwrap_or(Duration::MAX).min(policy.backoff_max).mul_f64(1.0 - jitter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_goes_before_the_lot() {
        let config = [("sim-run", "5s"), ("sim-end", "exit 3"), ("sim-start", "20ms")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let fate = Lives::restless().fate(Seed::new(1), &"a".parse().unwrap(), 0, &config.into());
        assert_eq!((fate.start, fate.run), (Duration::from_millis(20), Some(Duration::from_secs(5))));
        assert_eq!(fate.end, Ok(ExitCause::Exited { code: 3 }));
    }

    #[test]
    fn the_lot_depends_on_the_name_and_the_run_alone() {
        let fate = |seed, name: &str, restart| {
            Lives::restless().fate(Seed::new(seed), &name.parse().unwrap(), restart, &BTreeMap::new())
        };
        assert_eq!(fate(1, "a", 0), fate(1, "a", 0));
        assert_ne!(fate(1, "a", 0), fate(1, "a", 1));
        assert_ne!(fate(1, "a", 0), fate(1, "b", 0));
        assert_ne!(fate(1, "a", 0), fate(2, "a", 0));
    }
}
