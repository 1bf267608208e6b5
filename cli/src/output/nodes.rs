//! Nodes, their providers, drains and join tokens, as rows, lines and documents.

use std::fmt::Write as _;

use wasmatrix_model::{NodePhase, NodeStatus, ProviderStatus, Timestamp};

use super::{Column, Document, Row, human, stream::Streamed};
use crate::client::nodes::{Drained, JoinToken, Outcome};

impl Document for NodeStatus {
    const KIND: &'static str = "Node";

    fn name(&self) -> String {
        self.id.to_string()
    }
}

impl Row for NodeStatus {
    const COLUMNS: &'static [Column] = &[
        Column::new("NODE"),
        Column::new("PHASE"),
        Column::new("INSTANCES"),
        Column::new("EXECUTORS"),
        Column::new("PROVIDERS"),
        Column::new("AGE"),
        Column::new("VERSION"),
        Column::wide("LABELS"),
        Column::wide("ADDRESS"),
        Column::wide("HEARD"),
        Column::wide("WHY"),
    ];

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let usable = self.executors.iter().filter(|executor| executor.unavailable.is_none());
        let labels = self.labels.to_string();
        vec![
            self.id.to_string(),
            phase(self),
            format!("{}/{}", self.load.instances, self.capacity.instances_max),
            join(usable.map(|executor| executor.kind.to_string()).collect()),
            join(self.providers.iter().map(|p| format!("{}({})", p.capability, p.phase.as_str())).collect()),
            human::age(self.started_at, now),
            self.version.clone(),
            if labels.is_empty() { "-".to_owned() } else { labels },
            address(self),
            heard(self, now),
            join(self.reason.iter().cloned().chain(unavailable(self)).collect()),
        ]
    }
}

fn join(texts: Vec<String>) -> String {
    if texts.is_empty() { "-".to_owned() } else { texts.join(",") }
}

fn phase(node: &NodeStatus) -> String {
    let cordoned = if node.cordoned { ",cordoned" } else { "" };
    format!("{}{cordoned}", node.phase)
}

fn address(node: &NodeStatus) -> String {
    if node.address.is_empty() { "in this process".to_owned() } else { node.address.clone() }
}

fn heard(node: &NodeStatus, now: Timestamp) -> String {
    node.last_seen_at.map_or_else(|| "-".to_owned(), |at| format!("{} ago", human::age(at, now)))
}

fn unavailable(node: &NodeStatus) -> impl Iterator<Item = String> {
    node.executors
        .iter()
        .filter_map(|executor| executor.unavailable.as_ref().map(|why| format!("{}: {why}", executor.kind)))
}

/// All that is known of a node, a line for each fact.
pub(crate) fn describe_node(node: &NodeStatus, now: Timestamp) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<14}{value}"); // writing to a String cannot fail
    };
    line("Node:", node.id.to_string());
    line("Phase:", phase(node));
    if let Some(reason) = &node.reason {
        line("Why:", reason.clone());
    }
    if node.phase == NodePhase::Lost {
        let id = &node.id;
        line(
            "",
            format!(
                "its instances are unknown until it returns; `wasmatrix node rm {id}` forgets it and them"
            ),
        );
    }
    line("Heard:", heard(node, now));
    line("Version:", node.version.clone());
    line("Began:", format!("{:.0} ({} ago)", node.started_at, human::age(node.started_at, now)));
    line("Address:", address(node));
    for (key, value) in node.labels.iter() {
        line("Label:", format!("{key}={value}"));
    }
    let (load, capacity) = (&node.load, &node.capacity);
    line(
        "Instances:",
        format!("{} ({} live), at most {}", load.instances, load.instances_live, capacity.instances_max),
    );
    let memory = match (capacity.memory_bytes_max, capacity.memory_bytes_total) {
        (Some(max), _) => format!(", at most {}", human::bytes(max)),
        (None, 0) => String::new(),
        (None, total) => format!("; the machine has {}", human::bytes(total)),
    };
    line("Memory:", format!("{} committed{memory}", human::bytes(load.memory_bytes_committed)));
    for executor in &node.executors {
        let state = executor.unavailable.as_deref().unwrap_or("can be used");
        line("Executor:", format!("{}: {state}", executor.kind));
    }
    for provider in &node.providers {
        line(
            "Provider:",
            format!("{} on {}: {}", provider.capability, provider.backend, provider.phase.as_str()),
        );
    }
    text
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

impl Document for Drained {
    const KIND: &'static str = "Drained";

    fn name(&self) -> String {
        self.instance.spec.name.to_string()
    }
}

impl Streamed for Drained {
    fn line(&self, wide: bool) -> String {
        let (name, left) = (&self.instance.spec.name, self.remaining);
        let what = match self.outcome {
            Outcome::Stopped => format!("stopped  {name}"),
            Outcome::Moved => format!("moved    {name} to node {}", self.instance.node),
            Outcome::Failed => format!("failed   {name}: {}", self.message),
        };
        let id = if wide { format!(" {}", self.instance.id) } else { String::new() };
        format!("{what}{id} ({left} to go)")
    }
}

impl Document for JoinToken {
    const KIND: &'static str = "JoinToken";

    fn name(&self) -> String {
        self.token.clone()
    }
}
