//! Instances, nodes and providers as rows of a table, and one instance whole.

use std::fmt::Write as _;

use wasmatrix_model::{InstanceStatus, NodeStatus, Phase, ProviderStatus, Timestamp};

use super::{Column, Document, Row, human};

/// Longest end of a run in a table that is not wide, in characters.
const EXIT_CHARS_MAX: usize = 60;

impl Document for InstanceStatus {
    const KIND: &'static str = "Instance";

    fn name(&self) -> String {
        self.spec.name.to_string()
    }
}

impl Row for InstanceStatus {
    const COLUMNS: &'static [Column] = &[
        Column::new("NAME"),
        Column::new("PHASE"),
        Column::new("EXECUTOR"),
        Column::new("RESTARTS"),
        Column::new("MEMORY"),
        Column::new("AGE"),
        Column::new("LAST EXIT"),
        Column::wide("CPU"),
        Column::wide("GRANTS"),
        Column::wide("NODE"),
        Column::wide("ID"),
        Column::wide("ARTIFACT"),
    ];

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let last_exit =
            self.last_exit.as_ref().map_or_else(|| "-".to_owned(), |exit| human::exit(&exit.cause));
        vec![
            self.spec.name.to_string(),
            self.phase.to_string(),
            self.spec.executor.to_string(),
            restarts(self, now),
            human::bytes(self.usage.memory_bytes),
            human::age(self.created_at, now),
            human::cut(&last_exit, EXIT_CHARS_MAX),
            human::time(self.usage.cpu_time),
            grants(self),
            self.node.to_string(),
            self.id.to_string(),
            self.spec.digest.hex().chars().take(12).collect(),
        ]
    }
}

fn restarts(instance: &InstanceStatus, now: Timestamp) -> String {
    match instance.next_restart_at {
        Some(next) if instance.phase == Phase::Crashed || instance.phase == Phase::Stopped => {
            format!("{} (next in {})", instance.restart_count, human::until(next, now))
        }
        Some(_) | None => instance.restart_count.to_string(),
    }
}

fn grants(instance: &InstanceStatus) -> String {
    let grants: Vec<String> = instance.grants.iter().map(ToString::to_string).collect();
    if grants.is_empty() { "-".to_owned() } else { grants.join(",") }
}

/// All that is known of an instance, a line for each fact.
pub(crate) fn describe_instance(instance: &InstanceStatus, now: Timestamp) -> String {
    let spec = &instance.spec;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<14}{value}"); // writing to a String cannot fail
    };
    let moment = |at: Timestamp| format!("{at:.0} ({} ago)", human::age(at, now));
    line("Name:", spec.name.to_string());
    line("Id:", instance.id.to_string());
    line("Node:", instance.node.to_string());
    line("Phase:", instance.phase.to_string());
    line("Executor:", spec.executor.to_string());
    line("Artifact:", spec.digest.to_string());
    line("Created:", moment(instance.created_at));
    if let Some(at) = instance.started_at {
        line("Started:", moment(at));
    }
    if !spec.args.is_empty() {
        line("Arguments:", format!("{:?}", spec.args));
    }
    for (name, value) in &spec.env {
        line("Environment:", format!("{name}={value}"));
    }
    for (name, value) in &spec.config {
        line("Config:", format!("{name}={value}"));
    }
    line("Grants:", grants(instance));
    line("Restart:", spec.restart.mode.to_string());
    line("Restarts:", restarts(instance, now));
    line(
        "Memory:",
        format!(
            "{} (peak {}, limit {})",
            human::bytes(instance.usage.memory_bytes),
            human::bytes(instance.usage.memory_bytes_peak),
            human::bytes(spec.limits.memory_bytes_max)
        ),
    );
    line("CPU time:", human::time(instance.usage.cpu_time));
    line(
        "Calls:",
        format!("{} allowed, {} denied", instance.usage.calls_allowed, instance.usage.calls_denied),
    );
    if let Some(exit) = &instance.last_exit {
        line("Last exit:", format!("{} ({} ago)", exit.cause, human::age(exit.at, now)));
        text.push_str(&super::stream::backtrace(&exit.cause));
    }
    text
}

impl Document for NodeStatus {
    const KIND: &'static str = "Node";

    fn name(&self) -> String {
        self.id.to_string()
    }
}

impl Row for NodeStatus {
    const COLUMNS: &'static [Column] = &[
        Column::new("NODE"),
        Column::new("VERSION"),
        Column::new("INSTANCES"),
        Column::new("EXECUTORS"),
        Column::new("PROVIDERS"),
        Column::new("AGE"),
        Column::wide("NOT AVAILABLE"),
    ];

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let (usable, unusable): (Vec<_>, Vec<_>) =
            self.executors.iter().partition(|executor| executor.unavailable.is_none());
        let join = |texts: Vec<String>| if texts.is_empty() { "-".to_owned() } else { texts.join(",") };
        vec![
            self.id.to_string(),
            self.version.clone(),
            format!("{}/{}", self.load.instances, self.capacity.instances_max),
            join(usable.iter().map(|executor| executor.kind.to_string()).collect()),
            join(self.providers.iter().map(|p| format!("{}({})", p.capability, p.phase.as_str())).collect()),
            human::age(self.started_at, now),
            join(
                unusable
                    .iter()
                    .map(|executor| {
                        format!("{}: {}", executor.kind, executor.unavailable.as_deref().unwrap_or(""))
                    })
                    .collect(),
            ),
        ]
    }
}

/// A provider with its node.
#[derive(Debug, serde::Serialize)]
pub(crate) struct ProviderOnNode {
    /// Where it is.
    pub node: String,
    /// What it is.
    #[serde(flatten)]
    pub provider: ProviderStatus,
}

impl Document for ProviderOnNode {
    const KIND: &'static str = "Provider";

    fn name(&self) -> String {
        self.provider.capability.to_string()
    }
}

impl Row for ProviderOnNode {
    const COLUMNS: &'static [Column] =
        &[Column::new("CAPABILITY"), Column::new("PHASE"), Column::new("BACKEND"), Column::new("NODE")];

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            self.provider.capability.to_string(),
            self.provider.phase.as_str().to_owned(),
            self.provider.backend.clone(),
            self.node.clone(),
        ]
    }
}
