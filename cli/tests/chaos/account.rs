//! The reckoning, when all is healed: every acknowledged word is held against what the agents themselves list, what was
//! told meanwhile, and what really runs.

mod beats;
mod grants;
mod losses;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use wasmatrix_model::{Fact, FactKind, InstanceId, InstanceStatus, Timestamp};

use crate::{
    World,
    agents::Agent,
    cluster::{NODES, Who},
    fate::Death,
    ledger::{self, Held, Kind, Life, Word},
    load,
    watch::Events,
};

/// Longest wait for what is to become true when nothing is out of order any more.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// All that is known at the end.
struct Known {
    /// What the agents list.
    listed: Vec<InstanceStatus>,
    /// What `events --watch` told.
    facts: Vec<Fact>,
    deaths: Vec<Death>,
    /// When all that was known.
    at: Timestamp,
}

/// Takes stock. What is wrong is added to the findings.
pub(crate) async fn account(world: &World, events: &mut Events) {
    let Some(listed) = settled(world).await else { return };
    let Some(facts) = caught_up(world, events).await else { return };
    let known = Known { listed, facts, deaths: world.weather.deaths(), at: ledger::now() };
    let lives = world.ledger.lives().clone();
    for life in &lives {
        known.acknowledged(world, life);
        known.stopped(world, life);
        known.wanted(world, life);
        losses::are_told(world, &known, life);
    }
    grants::agree(world, &known, &lives).await;
    beats::agree(world, &known.listed, &lives).await;
    world.findings.figures(format!("facts told: {}", known.counts()));
}

/// What two lists must agree in.
fn essence(status: &InstanceStatus) -> String {
    let InstanceStatus { id, node, phase, generation, predecessor, restart_count, grants, .. } = status;
    format!(
        "{id} {} on {node}: {phase}, {generation}, {predecessor:?}, {restart_count}, {grants:?}",
        status.spec.name
    )
}

/// Waits until the control plane lists what the agents list, and no name is live twice. `None`: it never does.
async fn settled(world: &World) -> Option<Vec<InstanceStatus>> {
    let mut apart = "nobody could be asked".to_owned();
    let settled = async {
        let mut agents = Agent::all(world);
        let mut user = load::user(&world.cluster);
        loop {
            let listed = user.list().await.map_err(|failure| failure.to_string());
            let truth = truth(&mut agents).await;
            match (listed, truth) {
                (Ok(listed), Ok(truth)) => match difference(&listed, &truth) {
                    None => return truth,
                    Some(difference) => apart = difference,
                },
                (Err(problem), _) | (_, Err(problem)) => apart = problem,
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let settled = tokio::time::timeout(PATIENCE, settled).await.ok();
    if settled.is_none() {
        world.findings.add(format!("{PATIENCE:?} after all was healed: {apart}"));
    }
    settled
}

async fn truth(agents: &mut [Agent]) -> Result<Vec<InstanceStatus>, String> {
    let mut all = Vec::new();
    for agent in agents {
        all.extend(agent.list().await?);
    }
    Ok(all)
}

/// In what the control plane's list and the agents' differ, or what is live twice.
fn difference(listed: &[InstanceStatus], truth: &[InstanceStatus]) -> Option<String> {
    let set = |list: &[InstanceStatus]| list.iter().map(essence).collect::<BTreeSet<_>>();
    let (listed, there) = (set(listed), set(truth));
    let only = |one: &BTreeSet<String>, other: &BTreeSet<String>| -> Vec<String> {
        one.difference(other).take(5).cloned().collect()
    };
    if listed != there {
        let (said, are) = (only(&listed, &there), only(&there, &listed));
        return Some(format!("the control plane lists {said:#?}, the agents {are:#?}"));
    }
    let mut live: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for status in truth.iter().filter(|status| status.phase.is_live()) {
        live.entry(status.spec.name.as_str()).or_default().push(essence(status));
    }
    let twice = live.into_values().find(|copies| copies.len() > 1)?;
    Some(format!("one name is live more than once: {twice:#?}"))
}

/// Waits until all that happened on the agents was told. Gives all that was told.
async fn caught_up(world: &World, events: &mut Events) -> Option<Vec<Fact>> {
    let mut missing = String::new();
    let caught_up = async {
        'again: loop {
            for (number, mut agent) in Agent::all(world).into_iter().enumerate() {
                let truth = match agent.facts().await {
                    Ok(facts) => facts,
                    Err(problem) => {
                        missing = problem;
                        tokio::time::sleep(PAUSE).await;
                        continue 'again;
                    }
                };
                tokio::time::sleep(PAUSE).await;
                let told = events.facts();
                let of_node = told.iter().filter(|fact| fact.node.as_str() == NODES[number]);
                let of_node: Vec<&Fact> = of_node.collect();
                // From the oldest that the agent keeps on.
                let begins = of_node.iter().rposition(|fact| truth.first() == Some(*fact));
                let of_run = begins.map_or(&[][..], |begins| &of_node[begins..]);
                if of_run.len() < truth.len() || !truth.iter().eq(of_run[..truth.len()].iter().copied()) {
                    let (told, are) = (of_run.len(), truth.len());
                    missing =
                        format!("of {are} facts of node {}, {told} were told, or others", NODES[number]);
                    continue 'again;
                }
            }
            return events.facts().clone();
        }
    };
    match tokio::time::timeout(PATIENCE, caught_up).await {
        Ok(facts) => Some(facts),
        Err(_) => {
            let goes_on = events.goes_on();
            world.findings.add(format!("events --watch, which goes on: {goes_on}: {missing}"));
            None
        }
    }
}

impl Known {
    /// How often what matters was told: a story in which it never was proves nothing.
    fn counts(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for fact in &self.facts {
            *counts.entry(fact.kind.name()).or_default() += 1;
        }
        format!("{counts:?}")
    }

    /// Whether that one was killed between the two, or after the first.
    fn died(&self, who: Who, after: Timestamp) -> bool {
        self.deaths.iter().any(|death| death.who == who && death.at >= after)
    }

    fn node_died(&self, node: &str, after: Timestamp) -> bool {
        NODES.iter().position(|name| *name == node).is_some_and(|number| self.died(Who::Node(number), after))
    }

    /// Whether an agent and then the control plane died, or both while neither knew of the other: what the one had was
    /// known by nobody any more, and nobody can tell it.
    fn is_forgotten(&self, node: &str, since: Timestamp) -> bool {
        self.node_died(node, since) && self.died(Who::Control, since)
    }

    fn live(&self, life: &Life) -> Vec<&InstanceStatus> {
        let named = self.listed.iter().filter(|status| status.spec.name == life.spec.name);
        named.filter(|status| status.phase.is_live() || status.next_restart_at.is_some()).collect()
    }

    fn told(&self, id: InstanceId, is: impl Fn(&FactKind) -> bool) -> bool {
        let mut facts = self.facts.iter().map(|fact| &fact.kind);
        facts.any(|kind| kind.subject().is_some_and(|subject| subject.id == id) && is(kind))
    }

    /// Whether a fact tells what became of an instance.
    fn is_told(&self, id: InstanceId) -> bool {
        self.told(id, |kind| {
            matches!(
                kind,
                FactKind::InstanceRemoved { .. }
                    | FactKind::InstanceFenced { .. }
                    | FactKind::InstanceLost { .. }
                    | FactKind::InstanceSucceeded { .. }
            )
        })
    }

    /// Every acknowledged start is listed, or a fact tells what became of it, or its agent began anew and says so.
    fn acknowledged(&self, world: &World, life: &Life) {
        for started in &life.acknowledged {
            let is_listed = self.listed.iter().any(|status| status.id == started.id);
            let is_told = self.is_told(started.id);
            let node = started.node.as_str();
            let began_anew = self.facts.iter().any(|fact| {
                fact.node == started.node
                    && fact.at > started.created_at
                    && matches!(fact.kind, FactKind::NodeStarted { .. })
            });
            let is_forgotten = self.is_forgotten(node, started.created_at) && began_anew;
            if !is_listed && !is_told && !is_forgotten {
                world.findings.add(format!("nobody can tell what became of {}: {started:?}", life.name()));
            }
        }
    }

    /// What was said to be stopped or removed is.
    fn stopped(&self, world: &World, life: &Life) {
        let live = self.live(life);
        for (id, _) in &life.stopped {
            if live.iter().any(|status| status.id == *id) {
                world.findings.add(format!("{} ({id}) was said to be stopped, and runs", life.name()));
            }
        }
        // Another copy of it may be back, when nobody is left who knew that this one was stopped.
        let Word::Done(at) = life.stop else { return };
        let is_forgotten = life.stopped.iter().any(|(_, node)| self.is_forgotten(node.as_str(), at))
            || life.stopped.iter().any(|(id, _)| self.had_an_unheard_successor(*id, at));
        if !live.is_empty() && !is_forgotten {
            let live: Vec<_> = live.into_iter().map(essence).collect();
            world
                .findings
                .add(format!("{} was said to be stopped at {at}, and there is {live:?}", life.name()));
        }
        let removed = matches!(life.remove, Word::Done(_));
        let stays = self.listed.iter().find(|status| status.spec.name == life.spec.name);
        if let (true, Some(stays), false) = (removed, stays, is_forgotten) {
            world.findings.add(format!(
                "{} was said to be removed, and there is {}",
                life.name(),
                essence(stays)
            ));
        }
    }

    /// Whether a copy that was stopped then had a successor of which its control plane could not know: it had just begun,
    /// and had not heard the successor's node.
    fn had_an_unheard_successor(&self, stopped: InstanceId, at: Timestamp) -> bool {
        let born = |fact: &&Fact| matches!(&fact.kind, FactKind::InstanceCreated { predecessor: Some(of), .. } if *of == stopped);
        let before = |fact: &&Fact| fact.at < at;
        let Some(successor) = self.facts.iter().filter(before).find(born) else { return false };
        let began = |fact: &&Fact| matches!(fact.kind, FactKind::ControlPlaneStarted { .. });
        let Some(begun) = self.facts.iter().filter(before).filter(began).map(|fact| fact.at).max() else {
            return false;
        };
        // What it lists takes a moment to come.
        let heard = self.facts.iter().any(|fact| {
            matches!(&fact.kind, FactKind::NodeRegistered { node, .. } if *node == successor.node)
                && fact.at >= begun
                && fact.at.duration_until(at) > jiff::SignedDuration::from_secs(1)
        });
        successor.at < begun && !heard
    }

    /// A service that nobody wanted to end goes on, unless its agent died; and then, if it may, elsewhere.
    fn wanted(&self, world: &World, life: &Life) {
        if life.kind != Kind::Service || !life.is_wanted() || life.acknowledged.is_empty() {
            return;
        }
        if !self.live(life).is_empty() {
            return;
        }
        let of_name =
            |fact: &&Fact| fact.kind.subject().is_some_and(|subject| subject.name == life.spec.name);
        let facts: Vec<&Fact> = self.facts.iter().filter(of_name).collect();
        let since = life.acknowledged[0].created_at;
        let is_forgotten = NODES.iter().any(|node| self.is_forgotten(node, since));
        let died = life.acknowledged.iter().any(|started| self.node_died(started.node.as_str(), since));
        let gave_up = facts.iter().any(|fact| matches!(fact.kind, FactKind::SuccessionFailed { .. }));
        let is_explained = if life.is_precious() { gave_up || is_forgotten } else { died };
        if !is_explained {
            let told: Vec<_> = facts
                .iter()
                .map(|fact| format!("{:.3} {} {}", fact.at, fact.node, fact.kind.name()))
                .collect();
            let listed: Vec<_> =
                self.listed.iter().filter(|status| status.spec.name == life.spec.name).map(essence).collect();
            world.findings.add(format!(
                "{} does not run, and nobody stopped it; listed: {listed:?}; told: {told:#?}",
                life.name()
            ));
        }
    }

    /// When something was done about a succession of that name: while it is, a grant may be given to the one that ends.
    fn successions(&self, life: &Life) -> Vec<Timestamp> {
        let facts = self.facts.iter().filter(|fact| {
            fact.kind.subject().is_some_and(|subject| subject.name == life.spec.name)
                && matches!(
                    fact.kind,
                    FactKind::InstanceUnknown { .. }
                        | FactKind::InstanceLost { .. }
                        | FactKind::InstanceSucceeded { .. }
                        | FactKind::InstanceFenced { .. }
                )
        });
        facts.map(|fact| fact.at).collect()
    }

    /// Whether a service holds that, as far as its user can know: `None`, if he can't.
    fn should_hold(&self, life: &Life, held: Held) -> Option<bool> {
        let Held::Certain(holds, at) = held else { return None };
        let near = |other: &Timestamp| at.duration_until(*other).abs() < jiff::SignedDuration::from_secs(3);
        let races = self.successions(life).iter().any(near);
        (!races).then_some(holds)
    }
}
