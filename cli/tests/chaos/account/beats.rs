//! What really runs: every service counts under its name in a bucket of its node, and a reader on each node sees which
//! counts go up. A copy that nobody lists any more, and that runs on, would be seen.

use std::collections::{BTreeMap, BTreeSet};

use wasmatrix_model::{ExecutorKind, InstanceStatus, NodeId, Phase, Placement};
use wasmatrix_wire::StartRequest;

use super::{PATIENCE, PAUSE};
use crate::{
    World,
    agents::Agent,
    cluster::NODES,
    ledger::{self, BEAT, Kind, Life, grant},
    load,
};

/// How often a reader reads, and the time between, in milliseconds.
const READS: usize = 8;
const READ_MILLIS: u64 = 1000;
/// Counts that one call asks for.
const KEYS_MAX: usize = 50;

pub(super) async fn agree(world: &World, listed: &[InstanceStatus], lives: &[Life]) {
    let names: Vec<&str> = lives.iter().filter(|life| life.kind == Kind::Service).map(Life::name).collect();
    let mut beating = 0;
    for (number, node) in NODES.iter().enumerate() {
        let counts = match read(world, number, &names).await {
            Ok(counts) => counts,
            Err(problem) => {
                world.findings.add(format!("the reader on node {node}: {problem}"));
                continue;
            }
        };
        let is_here = |status: &&InstanceStatus| {
            status.node.as_str() == *node
                && status.phase == Phase::Running
                && names.contains(&status.spec.name.as_str())
        };
        let should: BTreeSet<&str> =
            listed.iter().filter(is_here).map(|status| status.spec.name.as_str()).collect();
        for (name, (first, last)) in &counts {
            let runs = last > first;
            beating += usize::from(runs);
            if runs != should.contains(name.as_str()) {
                let seen = if runs { "runs" } else { "does not run" };
                world.findings.add(format!("{name} {seen} on node {node}, where the agent lists {should:?}"));
            }
        }
        for name in should.iter().filter(|name| !counts.contains_key(**name)) {
            world
                .findings
                .add(format!("{name} is listed on node {node} as running, and never counted there"));
        }
    }
    world.findings.figures(format!("services seen running: {beating} of {} ever asked for", names.len()));
}

/// The counts of these names on a node, when the reader began and when it ended.
async fn read(world: &World, number: usize, names: &[&str]) -> Result<BTreeMap<String, (u64, u64)>, String> {
    let node: NodeId = NODES[number].parse().map_err(|_| "no legal name".to_owned())?;
    let name = format!("reader-{node}");
    let digest = world.program.digest;
    let mut spec = ledger::spec(Kind::Job, &name, digest, ExecutorKind::Wasmtime, false, [false; 4]);
    spec.placement = Placement { node: Some(node), ..Placement::default() };
    spec.grants = [grant(&format!("kv:read:{BEAT}"))].into_iter().collect();
    let gets = names.chunks(KEYS_MAX).map(|names| format!("kv.get-many {BEAT} {}", names.join(" ")));
    let read: Vec<String> = std::iter::once("out read".to_owned()).chain(gets).collect();
    spec.args = read.clone();
    for _ in 1..READS {
        spec.args.push(format!("sleep {READ_MILLIS}"));
        spec.args.extend(read.clone());
    }
    let request = StartRequest { spec, idempotency_key: None, assignment: None };
    let mut user = load::user(&world.cluster);
    let started =
        user.start(request, world.program.bytes.clone()).await.map_err(|failure| failure.to_string())?;
    let id = started.id.to_string();
    let ended = async {
        loop {
            match user.get(&id).await {
                Ok(status) if !status.phase.is_live() => return Ok(status),
                Ok(_) => tokio::time::sleep(PAUSE).await,
                Err(failure) => return Err(failure.to_string()),
            }
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.map_err(|_| "it never ended".to_owned())??;
    let lines = Agent::of(world, number).whole_log(&id).await?;
    Ok(counts(&lines))
}

/// Each count, as it was first and last read.
fn counts(lines: &[String]) -> BTreeMap<String, (u64, u64)> {
    let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for word in lines.iter().flat_map(|line| line.split(' ')) {
        if let Some((name, count)) = word.split_once('=')
            && let Ok(count) = count.parse()
        {
            counts.entry(name.to_owned()).or_insert((count, count)).1 = count;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_of_each_count_are_found() {
        let lines = ["read", "a=1 none b=5", "ok", "read", "a=3 none b=5"].map(str::to_owned);
        let found = counts(&lines);
        assert_eq!(found["a"], (1, 3));
        assert_eq!(found["b"], (5, 5));
    }
}
