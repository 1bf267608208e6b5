//! Decides whether an instance is started again, and after how long.
//!
//! A pure rule: no clock, no randomness, no lock. The driver tells it how a run ended, how long it lasted and a number
//! drawn by lot, and does what it says. What the rule promises is on [`wasmatrix_model::RestartPolicy`].

use std::time::Duration;

use wasmatrix_model::{ExitCause, RestartMode, RestartPolicy};

/// The rule, with how many restarts in a row it has given.
#[derive(Clone, Debug)]
pub struct Restarts {
    policy: RestartPolicy,
    in_a_row: u32,
}

/// What to do after a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The policy does not restart after such an end.
    Stay,
    /// It would, but `restarts_max` in a row were tried.
    GiveUp,
    /// Start it again after this long.
    RestartAfter(Duration),
}

impl Restarts {
    /// The rule before the first run.
    pub const fn new(policy: RestartPolicy) -> Self {
        Self { policy, in_a_row: 0 }
    }

    /// Decides what follows a run that ended by `cause` after `lasted`. `chance` is a number from 0 to 1 drawn by
    /// lot: 0 waits the whole backoff, 1 the least that the jitter allows.
    pub fn decide(&mut self, cause: &ExitCause, lasted: Duration, chance: f64) -> Decision {
        let asked_to_stop = matches!(cause, ExitCause::StopRequested);
        let applies = match self.policy.mode {
            RestartMode::Never => false,
            RestartMode::OnFailure => cause.is_crash(),
            RestartMode::Always => true,
        };
        if !applies || asked_to_stop {
            return Decision::Stay;
        }
        if lasted >= self.policy.reset_after {
            self.in_a_row = 0;
        }
        if self.policy.restarts_max.is_some_and(|max| self.in_a_row >= max) {
            return Decision::GiveUp;
        }
        let wait = self.backoff();
        self.in_a_row = self.in_a_row.saturating_add(1);
        let jitter = f64::from(self.policy.jitter_percent) / 100.0 * chance.clamp(0.0, 1.0);
        Decision::RestartAfter(wait.mul_f64(1.0 - jitter))
    }

    /// `backoff_initial · 2ⁿ`, at most `backoff_max`.
    fn backoff(&self) -> Duration {
        let doubled =
            2_u32.checked_pow(self.in_a_row).and_then(|times| self.policy.backoff_initial.checked_mul(times));
        doubled.unwrap_or(Duration::MAX).min(self.policy.backoff_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRASH: ExitCause = ExitCause::Exited { code: 1 };
    const SUCCESS: ExitCause = ExitCause::Exited { code: 0 };
    const BRIEF: Duration = Duration::from_millis(5);

    fn policy(mode: RestartMode) -> RestartPolicy {
        RestartPolicy { jitter_percent: 0, ..RestartPolicy::with_mode(mode) }
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        let mut rule = Restarts::new(policy(RestartMode::OnFailure));
        let waits: Vec<u64> = (0..40)
            .map(|_| match rule.decide(&CRASH, BRIEF, 0.0) {
                Decision::RestartAfter(wait) => wait.as_secs(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(waits[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert!(waits[10..].iter().all(|wait| *wait == 300));
    }

    #[test]
    fn a_healthy_run_begins_a_new_row() {
        let mut rule = Restarts::new(RestartPolicy { restarts_max: Some(2), ..policy(RestartMode::Always) });
        assert_eq!(rule.decide(&SUCCESS, BRIEF, 0.0), Decision::RestartAfter(Duration::from_secs(1)));
        assert_eq!(rule.decide(&SUCCESS, BRIEF, 0.0), Decision::RestartAfter(Duration::from_secs(2)));
        assert_eq!(rule.decide(&SUCCESS, BRIEF, 0.0), Decision::GiveUp);
        let healthy = Duration::from_secs(600);
        assert_eq!(rule.decide(&SUCCESS, healthy, 0.0), Decision::RestartAfter(Duration::from_secs(1)));
    }

    #[test]
    fn each_mode_restarts_after_its_own_ends() {
        let stays =
            |mode, cause: &ExitCause| Restarts::new(policy(mode)).decide(cause, BRIEF, 0.0) == Decision::Stay;
        assert!(stays(RestartMode::Never, &CRASH));
        assert!(stays(RestartMode::OnFailure, &SUCCESS));
        assert!(!stays(RestartMode::OnFailure, &CRASH));
        assert!(!stays(RestartMode::Always, &SUCCESS));
        for mode in RestartMode::ALL {
            assert!(stays(mode, &ExitCause::StopRequested), "{mode} restarted what was asked to stop");
        }
    }

    #[test]
    fn jitter_only_shortens() {
        let jittery = RestartPolicy { jitter_percent: 50, ..RestartPolicy::with_mode(RestartMode::Always) };
        let wait = |chance| Restarts::new(jittery.clone()).decide(&CRASH, BRIEF, chance);
        assert_eq!(wait(0.0), Decision::RestartAfter(Duration::from_secs(1)));
        assert_eq!(wait(1.0), Decision::RestartAfter(Duration::from_millis(500)));
    }
}
