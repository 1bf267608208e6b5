//! Instances as rows of a table, and one instance whole.

use std::fmt::Write as _;

use wasmatrix_model::{InstanceStatus, OnNodeLoss, Phase, Placement, Timestamp, Unknown};

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

/// An instance of several nodes: with its node also in a table that is not wide.
#[derive(Debug, serde::Serialize)]
#[serde(transparent)]
pub(crate) struct Placed<'a>(pub &'a InstanceStatus);

impl Document for Placed<'_> {
    const KIND: &'static str = InstanceStatus::KIND;

    fn name(&self) -> String {
        self.0.name()
    }
}

impl Row for Placed<'_> {
    const COLUMNS: &'static [Column] = &[
        Column::new("NAME"),
        Column::new("NODE"),
        Column::new("PHASE"),
        Column::new("EXECUTOR"),
        Column::new("RESTARTS"),
        Column::new("MEMORY"),
        Column::new("AGE"),
        Column::new("LAST EXIT"),
        Column::wide("CPU"),
        Column::wide("GRANTS"),
        Column::wide("ID"),
        Column::wide("ARTIFACT"),
    ];

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let mut cells = self.0.cells(now);
        let node = cells.remove(NODE_CELL);
        cells.insert(1, node);
        cells
    }
}

/// Where the node stands among an instance's cells.
const NODE_CELL: usize = 9;

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
    if let Some(unknown) = &instance.unknown {
        line("Why:", why_unknown(instance, unknown, now));
    }
    if instance.generation > 1 {
        let after = instance.predecessor.map_or_else(String::new, |id| format!(", in place of {id}"));
        line("Generation:", format!("{}{after}", instance.generation));
    }
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
    line("Placement:", placement(&spec.placement));
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

/// Why nobody can tell how an instance is, what was last known, and who does what about it.
fn why_unknown(instance: &InstanceStatus, unknown: &Unknown, now: Timestamp) -> String {
    let (node, last, since) = (&instance.node, unknown.last_phase, human::age(unknown.since, now));
    let reason = &unknown.reason;
    if wasmatrix_wire::newer::is_why(unknown) {
        return format!("{reason}; its phase as far as it was read: {last}");
    }
    let answer = match instance.spec.placement.on_node_loss {
        OnNodeLoss::Leave => format!(
            "nobody restarts it, because on-node-loss is leave: it is known again when node {node} returns, and `wasmatrix \
             node rm {node}` forgets it"
        ),
        OnNodeLoss::RestartElsewhere => format!(
            "on-node-loss is restart-elsewhere: `wasmatrix events --instance {}` tells what became of that",
            instance.spec.name
        ),
    };
    format!("{reason}; last seen {last}, and unknown for {since}; {answer}")
}

fn placement(placement: &Placement) -> String {
    let mut parts = Vec::new();
    if let Some(node) = &placement.node {
        parts.push(format!("only node {node}"));
    }
    if !placement.labels.is_empty() {
        parts.push(format!("only nodes with {}", placement.labels));
    }
    if let Some(group) = &placement.group {
        parts.push(format!("spread with group {group}"));
    }
    parts.push(format!("on-node-loss {}", placement.on_node_loss));
    parts.join("; ")
}
