//! Decides by a node's silence whether it is ready, suspect or lost.
//!
//! A pure rule over how long a node has not been heard; whoever hears the beats keeps the clock.
//!
//! ```text
//! heard ── Ready ──► suspect_after ── Suspect ──► lost_after ── Lost
//!   ▲                                     │                       │
//!   └───────────── a beat ◄───────────────┴───────────────────────┘
//! ```

use std::time::Duration;

use wasmatrix_model::{NodePhase, failure::Invalid};

/// How often a node is to be heard, and after how much silence it is no longer counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timetable {
    /// From one beat to the next.
    pub heartbeat: Duration,
    /// After this much silence a node takes no new instances. At least two heartbeats.
    pub suspect_after: Duration,
    /// After this much silence its instances are unknown. Later than `suspect_after`.
    pub lost_after: Duration,
}

impl Default for Timetable {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(2),
            suspect_after: Duration::from_secs(6),
            lost_after: Duration::from_secs(15),
        }
    }
}

impl Timetable {
    /// Shortest `heartbeat`: more often, and beats are all that a control plane of many nodes does.
    pub const HEARTBEAT_MIN: Duration = Duration::from_millis(10);
    /// Longest `lost_after`.
    pub const LOST_AFTER_MAX: Duration = Duration::from_secs(86_400);

    /// Checks that the times are in order and possible.
    ///
    /// # Errors
    /// The first time that breaks a rule, with the rule.
    pub fn validate(&self) -> Result<(), Invalid> {
        let Self { heartbeat, suspect_after, lost_after } = *self;
        let objection = |field: &str, problem: String| Err(Invalid::new(field, problem));
        if heartbeat < Self::HEARTBEAT_MIN {
            let problem = format!("{heartbeat:?} is too often: take {:?} or more", Self::HEARTBEAT_MIN);
            return objection("heartbeat", problem);
        }
        if suspect_after < heartbeat.saturating_mul(2) {
            let problem = format!(
                "{suspect_after:?} leaves no room for a late beat: take two heartbeats or more, {heartbeat:?} each"
            );
            return objection("suspect_after", problem);
        }
        if lost_after <= suspect_after {
            let problem =
                format!("{lost_after:?} is not later than suspect_after, which is {suspect_after:?}");
            return objection("lost_after", problem);
        }
        if lost_after > Self::LOST_AFTER_MAX {
            return objection("lost_after", format!("{lost_after:?} is longer than a day"));
        }
        Ok(())
    }

    /// What a node is that was not heard for `silent_for`.
    pub fn phase(&self, silent_for: Duration) -> NodePhase {
        if silent_for >= self.lost_after {
            NodePhase::Lost
        } else if silent_for >= self.suspect_after {
            NodePhase::Suspect
        } else {
            NodePhase::Ready
        }
    }

    /// How much more silence changes the phase of a node that was not heard for `silent_for`. `None`: none does.
    pub fn next_change(&self, silent_for: Duration) -> Option<Duration> {
        let at = match self.phase(silent_for) {
            NodePhase::Ready => self.suspect_after,
            NodePhase::Suspect => self.lost_after,
            NodePhase::Lost => return None,
        };
        Some(at.saturating_sub(silent_for))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn silence_makes_suspect_then_lost_and_no_more() {
        let timetable = Timetable::default();
        assert_eq!(timetable.validate(), Ok(()));
        for (silence, phase, next) in [
            (seconds(0), NodePhase::Ready, Some(seconds(6))),
            (Duration::from_millis(5_999), NodePhase::Ready, Some(Duration::from_millis(1))),
            (seconds(6), NodePhase::Suspect, Some(seconds(9))),
            (Duration::from_millis(14_999), NodePhase::Suspect, Some(Duration::from_millis(1))),
            (seconds(15), NodePhase::Lost, None),
            (Duration::MAX, NodePhase::Lost, None),
        ] {
            assert_eq!(timetable.phase(silence), phase, "{silence:?}");
            assert_eq!(timetable.next_change(silence), next, "{silence:?}");
        }
    }

    #[test]
    fn times_out_of_order_are_refused_by_name() {
        let usual = Timetable::default();
        for (timetable, field) in [
            (Timetable { heartbeat: Duration::ZERO, ..usual }, "heartbeat"),
            (Timetable { suspect_after: seconds(3), ..usual }, "suspect_after"),
            (Timetable { heartbeat: Duration::MAX, ..usual }, "suspect_after"),
            (Timetable { lost_after: seconds(6), ..usual }, "lost_after"),
            (Timetable { lost_after: seconds(100_000), ..usual }, "lost_after"),
        ] {
            assert_eq!(timetable.validate().unwrap_err().field, field);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// A clock that is turned from change to change meets every phase once, in order, and just when it was told.
        #[test]
        fn a_turned_clock_meets_each_phase_when_it_was_told(
            heartbeat in 10_u64..10_000,
            suspect_more in 0_u64..10_000,
            lost_more in 1_u64..10_000,
            begun in 0_u64..40_000,
        ) {
            let millis = Duration::from_millis;
            let suspect_after = millis(2 * heartbeat + suspect_more);
            let lost_after = suspect_after + millis(lost_more);
            let timetable = Timetable { heartbeat: millis(heartbeat), suspect_after, lost_after };
            prop_assert_eq!(timetable.validate(), Ok(()));
            let mut silent_for = millis(begun);
            let mut phase = timetable.phase(silent_for);
            while let Some(wait) = timetable.next_change(silent_for) {
                prop_assert!(wait > Duration::ZERO);
                let just_before = silent_for + wait - Duration::from_nanos(1);
                prop_assert_eq!(timetable.phase(just_before), phase);
                silent_for += wait;
                let later = timetable.phase(silent_for);
                prop_assert!(later > phase);
                phase = later;
            }
            prop_assert_eq!(phase, NodePhase::Lost);
        }
    }
}
