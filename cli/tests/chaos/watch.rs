//! Those who look on all the while: one follows `events --watch`, others ask `ps`, `node list` and `get` again and again.
//! What they are told must be true at that time; what may race is not judged.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader},
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;
use wasmatrix_model::{Fact, InstanceStatus, NodeId, NodePhase, NodeStatus, Phase};

use crate::{
    Findings, World,
    cluster::{LOST_AFTER, NODES, Running, Who},
};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// How much later than the timetable says may be seen what follows from it: this machine has other work.
const LATE_MAX: Duration = Duration::from_secs(3);
/// How long a verb waits for its answer, and how long it may take in all.
const TIMEOUT: &str = "6s";
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// What a verb may exit with: done, not found, nobody answers. Anything else is a finding.
const EXITS: &[i32] = &[0, 3, 5];

/// Follows `events --watch` until it is dropped.
#[derive(Debug)]
pub(crate) struct Events {
    facts: Arc<Mutex<Vec<Fact>>>,
    process: Running,
}

impl Events {
    pub(crate) fn follow(world: &World) -> Self {
        let mut command = world.cluster.verb(&["events", "--watch", "-o", "json"]);
        let log = std::fs::File::create(world.cluster.word("events.log")).expect("the folder is ours");
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let facts: Arc<Mutex<Vec<Fact>>> = Arc::default();
        let (kept, findings) = (Arc::clone(&facts), Arc::clone(&world.findings));
        std::thread::spawn(move || {
            let mut order = Order::default();
            for line in lines.map_while(Result::ok) {
                match serde_json::from_str::<Fact>(&line) {
                    Ok(fact) => {
                        if let Some(objection) = order.objection(&fact) {
                            findings.add(format!("events --watch: {objection}: {line}"));
                        }
                        kept.lock().unwrap_or_else(PoisonError::into_inner).push(fact);
                    }
                    Err(error) => {
                        findings.add(format!("events --watch wrote what is no fact: {error}: {line}"))
                    }
                }
            }
        });
        Self { facts, process: Running(child) }
    }

    /// All that was told so far.
    pub(crate) fn facts(&self) -> MutexGuard<'_, Vec<Fact>> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it still follows.
    pub(crate) fn goes_on(&mut self) -> bool {
        matches!(self.process.0.try_wait(), Ok(None))
    }
}

/// The facts of each node, which are numbered from 1 in each of its runs.
#[derive(Debug, Default)]
struct Order(BTreeMap<NodeId, (u64, wasmatrix_model::Timestamp)>);

impl Order {
    /// What is wrong with a fact that is told next.
    fn objection(&mut self, fact: &Fact) -> Option<String> {
        let before = self.0.insert(fact.node.clone(), (fact.seq, fact.at));
        match before {
            Some((seq, _)) if seq + 1 != fact.seq && fact.seq != 1 => {
                Some(format!("after fact {seq} of {} comes {}", fact.node, fact.seq))
            }
            Some((seq, at)) if fact.at < at => {
                Some(format!("fact {} of {} is earlier than fact {seq} before it", fact.seq, fact.node))
            }
            None if fact.seq != 1 => Some(format!("the first fact of {} is {}", fact.node, fact.seq)),
            Some(_) | None => None,
        }
    }
}

/// The items of a list as the CLI writes it.
pub(crate) fn items<T: DeserializeOwned>(json: &str) -> Result<Vec<T>, String> {
    let mut list: Value = serde_json::from_str(json).map_err(|error| format!("{error}: {json}"))?;
    serde_json::from_value(list["items"].take()).map_err(|error| format!("{error}: {json}"))
}

/// Asks `ps`, `node list` and `get`, in turns, until told to end.
pub(crate) async fn look_on(world: Arc<World>) {
    let mut looked = 0_usize;
    while !world.over.is_cancelled() {
        tokio::time::sleep(PAUSE).await;
        looked += 1;
        if let Some(fallen) = world.cluster.fallen().first() {
            world.findings.add(format!("{fallen} ended, and nobody had killed it"));
            return;
        }
        match looked % 3 {
            0 => listing(&world).await,
            1 => nodes(&world).await,
            _ => one(&world, looked).await,
        }
    }
}

/// Runs a verb, and gives its output if it did well.
async fn ask(world: &World, words: &[&str]) -> Option<String> {
    let begun = Instant::now();
    let command = world.cluster.verb(&[words, &["--timeout", TIMEOUT]].concat());
    let mut command = tokio::process::Command::from(command);
    let output = tokio::time::timeout(ANSWER_MAX, command.kill_on_drop(true).output()).await;
    let Ok(output) = output else {
        world.findings.add(format!("{words:?} did not end within {ANSWER_MAX:?}, told to wait {TIMEOUT}"));
        return None;
    };
    let output = output.expect("the binary starts");
    world.findings.looked();
    let code = output.status.code().unwrap_or(-1);
    if !EXITS.contains(&code) {
        let said = String::from_utf8_lossy(&output.stderr);
        world.findings.add(format!("{words:?} exits with {code} after {:?}: {said}", begun.elapsed()));
    }
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn read<T>(world: &World, what: &str, read: Result<T, String>) -> Option<T> {
    read.map_err(|problem| world.findings.add(format!("{what} makes no sense: {problem}"))).ok()
}

/// How long each node has noticeably been silent: before the question, and still after the answer.
fn silent(world: &World, before: [Option<Duration>; NODES.len()]) -> BTreeSet<&'static str> {
    let long = |silent: Option<Duration>| silent.is_some_and(|silent| silent > LOST_AFTER + LATE_MAX);
    let still = |number: usize| world.weather.noticeably_silent(Who::Node(number)).is_some();
    (0..NODES.len())
        .filter(|number| long(before[*number]) && still(*number))
        .map(|number| NODES[number])
        .collect()
}

fn silence(world: &World) -> [Option<Duration>; NODES.len()] {
    std::array::from_fn(|number| world.weather.noticeably_silent(Who::Node(number)))
}

async fn listing(world: &World) {
    let before = silence(world);
    let Some(listed) = ask(world, &["ps", "-o", "json"]).await else { return };
    let silent = silent(world, before);
    let Some(listed) = read(world, "ps", items::<InstanceStatus>(&listed)) else { return };
    let mut live: BTreeMap<(String, u64), &InstanceStatus> = BTreeMap::new();
    for status in &listed {
        judge(world, status, &silent);
        let is_seen = status.phase.is_live() && status.phase != Phase::Unknown;
        if is_seen && let Some(other) = live.insert((status.spec.name.to_string(), status.generation), status)
        {
            let (name, generation) = (&status.spec.name, status.generation);
            let places = format!("{} on {} and {} on {}", other.id, other.node, status.id, status.node);
            world.findings.add(format!("ps lists generation {generation} of {name} twice as live: {places}"));
        }
    }
}

/// What must be so of each instance that is shown.
fn judge(world: &World, status: &InstanceStatus, silent: &BTreeSet<&str>) {
    let (name, node) = (&status.spec.name, &status.node);
    match &status.unknown {
        Some(unknown) if !unknown.reason.contains(node.as_str()) => {
            world
                .findings
                .add(format!("{name} is unknown, and why does not name node {node}: {}", unknown.reason));
        }
        Some(_) => {}
        None if status.phase == Phase::Unknown => {
            world.findings.add(format!("{name} on {node} is unknown, and nobody says why"));
        }
        None if status.phase.is_live() && silent.contains(node.as_str()) => {
            world.findings.add(format!(
                "{node} is silent for so long that it is lost, and {name} there is {}",
                status.phase
            ));
        }
        None if status.phase == Phase::Crashed && status.last_exit.is_none() => {
            world.findings.add(format!("{name} on {node} is crashed, and nobody says how"));
        }
        None => {}
    }
}

async fn nodes(world: &World) {
    let before = silence(world);
    let Some(listed) = ask(world, &["node", "list", "-o", "json"]).await else { return };
    let silent = silent(world, before);
    let Some(listed) = read(world, "node list", items::<NodeStatus>(&listed)) else { return };
    for node in listed {
        if node.phase == NodePhase::Ready && silent.contains(node.id.as_str()) {
            world.findings.add(format!(
                "node {} is silent for so long that it is lost, and is listed as ready",
                node.id
            ));
        }
        if node.phase != NodePhase::Ready && node.reason.is_none() {
            world.findings.add(format!("node {} is {}, and nobody says why", node.id, node.phase));
        }
    }
}

/// One of the instances that were asked for lately, as a person would look at it.
async fn one(world: &World, looked: usize) {
    let Some(name) = world.ledger.some_name(looked) else { return };
    let before = silence(world);
    let Some(shown) = ask(world, &["get", &name, "-o", "json"]).await else { return };
    let silent = silent(world, before);
    let status = serde_json::from_str::<InstanceStatus>(&shown).map_err(|error| format!("{error}: {shown}"));
    if let Some(status) = read(world, "get", status) {
        judge(world, &status, &silent);
    }
}

impl Findings {
    /// Somebody looked, and was answered or not.
    fn looked(&self) {
        self.looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use wasmatrix_model::{FactKind, Timestamp};

    use super::*;

    #[test]
    fn facts_out_of_order_are_seen() {
        let fact = |seq, second| Fact {
            seq,
            at: Timestamp::from_second(second).unwrap(),
            node: "n".parse().unwrap(),
            kind: FactKind::NodeStopping,
        };
        let objections = |facts: &[(u64, i64)]| {
            let mut order = Order::default();
            facts.iter().filter(|(seq, second)| order.objection(&fact(*seq, *second)).is_some()).count()
        };
        assert_eq!(objections(&[(1, 1), (2, 1), (3, 2), (1, 3), (2, 3)]), 0);
        assert_eq!(objections(&[(1, 1), (3, 1)]), 1, "a gap");
        assert_eq!(objections(&[(1, 1), (2, 1), (2, 1)]), 1, "a double");
        assert_eq!(objections(&[(2, 1)]), 1, "a beginning that is none");
        assert_eq!(objections(&[(1, 2), (2, 1)]), 1, "backwards");
    }
}
