//! The counts that Prometheus reads. Labels take values from small fixed sets only, so that no guest can make series.

use std::{fmt, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use wasmatrix_model::{ExitCause, Phase};

/// Seconds at which the histogram of capability calls is cut.
const CALL_SECONDS: [f64; 10] = [0.000_01, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 1.0, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabels {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: &'static str,
}

/// All counts of one agent.
pub(crate) struct Metrics {
    registry: Registry,
    instances: Family<PhaseLabels, Gauge>,
    runs: Counter,
    restarts: Counter,
    crashes: Family<CauseLabels, Counter>,
    calls: Family<CallLabels, Counter>,
    call_seconds: Family<OperationLabels, Histogram>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("wasmatrix");
        let instances = Family::<PhaseLabels, Gauge>::default();
        let (runs, restarts) = (Counter::default(), Counter::default());
        let crashes = Family::<CauseLabels, Counter>::default();
        let calls = Family::<CallLabels, Counter>::default();
        let call_seconds =
            Family::<OperationLabels, Histogram>::new_with_constructor(|| Histogram::new(CALL_SECONDS));
        registry.register("instances", "Instances listed, by phase", instances.clone());
        registry.register("runs_started", "Runs that began", runs.clone());
        registry.register("restarts", "Runs begun by a restart policy", restarts.clone());
        registry.register("crashes", "Runs that ended badly, by cause", crashes.clone());
        registry.register("capability_calls", "Capability calls, by operation and outcome", calls.clone());
        registry.register(
            "capability_call_seconds",
            "Time of capability calls, denied ones included",
            call_seconds.clone(),
        );
        Self { registry, instances, runs, restarts, crashes, calls, call_seconds }
    }

    pub(crate) fn started(&self) {
        self.runs.inc();
    }

    pub(crate) fn restarted(&self) {
        self.restarts.inc();
    }

    pub(crate) fn crashed(&self, cause: &ExitCause) {
        let cause = match cause {
            ExitCause::Exited { .. } => "exit-code",
            ExitCause::Trapped { .. } => "trap",
            ExitCause::LimitExceeded { .. } => "limit",
            ExitCause::StartFailed { .. } => "start-failed",
            ExitCause::StopRequested => "stop-requested",
            ExitCause::HostFault { .. } => "host-fault",
        };
        self.crashes.get_or_create(&CauseLabels { cause }).inc();
    }

    pub(crate) fn called(&self, operation: &'static str, outcome: &'static str, time: Duration) {
        self.calls.get_or_create(&CallLabels { operation, outcome }).inc();
        self.call_seconds.get_or_create(&OperationLabels { operation }).observe(time.as_secs_f64());
    }

    /// The counts in the OpenMetrics text format, with `phases` as the number of instances in each phase now.
    pub(crate) fn encode(&self, phases: impl Iterator<Item = Phase>) -> String {
        let mut counts = Phase::ALL.map(|phase| (phase, 0_i64));
        for phase in phases {
            if let Some((_, count)) = counts.iter_mut().find(|(known, _)| *known == phase) {
                *count += 1;
            }
        }
        for (phase, count) in counts {
            self.instances.get_or_create(&PhaseLabels { phase: phase.as_str() }).set(count);
        }
        let mut text = String::new();
        // Writing to a String cannot fail.
        encode(&mut text, &self.registry).expect("a String takes all that is written to it");
        text
    }
}
