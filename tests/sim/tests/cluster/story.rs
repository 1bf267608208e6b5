//! Everything at once: starts, stops and grants, while lines fail, nodes crash and the control plane is killed. After
//! all is healed, every acknowledged start is accounted for, and nothing runs twice.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::{task::JoinSet, time::Instant};
use wasmatrix_model::{Fact, FactKind, Grant, InstanceId, NodeId, Phase, RunId};
use wasmatrix_sim::Lives;

use super::*;

const NODES: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Start {
        precious: bool,
    },
    Stop(usize),
    Remove(usize),
    Assign(usize),
    Befall(usize, Fault),
    /// Nobody hears the node for so long, and then everybody does again.
    Away(usize, Duration),
    Kill,
    Begin,
    Wait(Duration),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<bool>().prop_map(|precious| Step::Start { precious }),
        1 => any::<usize>().prop_map(Step::Stop),
        1 => any::<usize>().prop_map(Step::Remove),
        1 => any::<usize>().prop_map(Step::Assign),
        5 => (0..NODES, fault()).prop_map(|(node, fault)| Step::Befall(node, fault)),
        2 => (0..NODES, pause(30_000)).prop_map(|(node, time)| Step::Away(node, time)),
        1 => Just(Step::Kill),
        1 => Just(Step::Begin),
        5 => pause(12_000).prop_map(Step::Wait),
    ]
}

/// What was acknowledged, and the run of its agent at that time, if that was still up.
type Acknowledged = Arc<Mutex<Vec<(InstanceStatus, Option<RunId>)>>>;

/// The present run of a node.
fn run_of(world: &World, node: &NodeId) -> Option<RunId> {
    let node = world.nodes.iter().find(|other| other.traits().id == *node)?;
    node.machine().map(|machine| machine.facts.run())
}

/// Since when nobody can hear each node.
#[derive(Debug, Default)]
struct Silence(BTreeMap<usize, Instant>);

impl Silence {
    fn note(&mut self, node: usize, fault: &Fault) {
        match fault {
            Fault::Crash | Fault::Partition => {
                self.0.entry(node).or_insert_with(Instant::now);
            }
            Fault::Boot | Fault::Heal => {
                self.0.remove(&node);
            }
            _ => {}
        }
    }
}

async fn play(world: &Arc<World>, steps: &[Step], acknowledged: &Acknowledged) -> TestCaseResult {
    let mut work = JoinSet::new();
    let (mut silence, mut names) = (Silence::default(), Vec::<String>::new());
    for step in steps {
        let mut user = world.user();
        let named = |index: &usize| names.get(index % names.len().max(1)).cloned().unwrap_or_default();
        match step {
            Step::Start { precious: is_precious } => {
                let name = format!("i{}", names.len());
                let spec = if *is_precious { precious(&name) } else { spec(&name) };
                names.push(name);
                let (world, acknowledged) = (Arc::clone(world), Arc::clone(acknowledged));
                work.spawn(async move {
                    if let Ok(status) = user.start(keyed(spec), ARTIFACT).await {
                        let run = run_of(&world, &status.node);
                        acknowledged.lock().unwrap().push((status, run));
                    }
                });
            }
            Step::Stop(index) => {
                let name = named(index);
                work.spawn(async move { user.stop(&name).await.map(drop).unwrap_or_default() });
            }
            Step::Remove(index) => {
                let name = named(index);
                work.spawn(async move { user.remove(&name).await.unwrap_or_default() });
            }
            Step::Assign(index) => {
                let (name, grant) = (named(index), "kv:read".parse::<Grant>().unwrap());
                work.spawn(async move { user.assign(&name, &grant).await.map(drop).unwrap_or_default() });
            }
            Step::Befall(node, fault) => {
                silence.note(*node, fault);
                fault.befall(&world.nodes[*node]).await.unwrap();
            }
            Step::Away(node, time) => {
                silence.note(*node, &Fault::Partition);
                Fault::Partition.befall(&world.nodes[*node]).await.unwrap();
                tokio::time::sleep(*time).await;
                nothing_is_said_of_the_silent(world, &silence).await?;
                Fault::Heal.befall(&world.nodes[*node]).await.unwrap();
                silence.note(*node, &Fault::Heal);
            }
            Step::Kill => world.kill_control_plane().await,
            Step::Begin => world.begin_control_plane().await,
            Step::Wait(time) => {
                tokio::time::sleep(*time).await;
                nothing_is_said_of_the_silent(world, &silence).await?;
            }
        }
    }
    world.heal().await;
    while work.join_next().await.is_some() {}
    Ok(())
}

/// Of a node that is silent for longer than the timetable allows, nothing is said to be running.
async fn nothing_is_said_of_the_silent(world: &World, silence: &Silence) -> TestCaseResult {
    const LOST_AFTER: Duration = Duration::from_secs(16);
    if !world.has_control_plane() {
        return Ok(());
    }
    let Ok(listed) = world.user().list().await else { return Ok(()) };
    for (node, since) in &silence.0 {
        let id = &world.nodes[*node].traits().id;
        let alive = listed
            .iter()
            .find(|status| status.node == *id && status.phase.is_live() && status.phase != Phase::Unknown);
        prop_assert!(
            since.elapsed() < LOST_AFTER || alive.is_none(),
            "{id} is silent for {:?}, and yet: {alive:?}",
            since.elapsed()
        );
    }
    Ok(())
}

/// Whether a fact tells what became of an instance.
fn tells(fact: &Fact, started: &InstanceStatus) -> bool {
    let of = |id: InstanceId| id == started.id;
    match &fact.kind {
        FactKind::InstanceRemoved { instance }
        | FactKind::InstanceFenced { instance, .. }
        | FactKind::InstanceLost { instance, .. }
        | FactKind::InstanceSucceeded { instance, .. } => of(instance.id),
        _ => false,
    }
}

/// How often what matters came up in all cases together: a story in which it never does proves nothing.
#[derive(Debug, Default)]
struct CameUp {
    acknowledged: AtomicUsize,
    unknown: AtomicUsize,
    succeeded: AtomicUsize,
    fenced: AtomicUsize,
    lost: AtomicUsize,
}

impl CameUp {
    fn count(&self, acknowledged: usize, facts: &[Fact]) {
        self.acknowledged.fetch_add(acknowledged, Relaxed);
        for fact in facts {
            match fact.kind {
                FactKind::InstanceUnknown { .. } => &self.unknown,
                FactKind::InstanceSucceeded { .. } => &self.succeeded,
                FactKind::InstanceFenced { .. } => &self.fenced,
                FactKind::InstanceLost { .. } => &self.lost,
                _ => continue,
            }
            .fetch_add(1, Relaxed);
        }
    }

    fn is_enough(&self) -> bool {
        let few =
            [&self.unknown, &self.succeeded, &self.fenced, &self.lost].map(|count| count.load(Relaxed) < 10);
        self.acknowledged.load(Relaxed) > 100 && !few.contains(&true)
    }
}

/// Whether it was told that the present run of a node began.
fn began_anew(world: &World, facts: &[Fact], node: &NodeId) -> bool {
    let Some(began) =
        world.nodes.iter().find(|other| other.traits().id == *node).and_then(|node| node.machine())
    else {
        return false;
    };
    let began = began.registration("").started_at;
    let is_it = |fact: &Fact| matches!(fact.kind, FactKind::NodeStarted { .. }) && fact.at >= began;
    facts.iter().any(|fact| fact.node == *node && is_it(fact))
}

#[test]
fn every_acknowledged_start_is_accounted_for_and_nothing_runs_twice() {
    let came_up = CameUp::default();
    check(prop::collection::vec(step(), 1..40), async |seed, steps| {
        let lives = Lives { start: Lives::restless().start, ..Lives::calm() };
        let world = Arc::new(World::new(seed, NODES, &lives).await);
        let observer = world.user().observe();
        let acknowledged = Acknowledged::default();
        play(&world, &steps, &acknowledged).await?;

        let (listed, truth) = listed_and_true(&world).await;
        prop_assert_eq!(&listed, &truth, "the listing and the nodes");
        let facts = observer.facts();
        came_up.count(acknowledged.lock().unwrap().len(), &facts);
        for (started, run) in acknowledged.lock().unwrap().iter() {
            let is_listed = listed.iter().any(|status| status.id == started.id);
            let is_told = facts.iter().any(|fact| tells(fact, started));
            // Should the control plane have died with its agent, nobody is left who knew it but those who were told:
            // the agent began anew, and says so.
            let now = run_of(&world, &started.node);
            let is_anew = now != *run && began_anew(&world, &facts, &started.node);
            prop_assert!(is_listed || is_told || is_anew, "nobody can tell what became of {started:?}");
        }
        let mut live: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for status in truth.iter().filter(|status| status.phase.is_live()) {
            live.entry(status.spec.name.clone()).or_default().push(status);
        }
        for (name, copies) in live {
            prop_assert!(copies.len() == 1, "{name} runs twice: {copies:#?}");
        }
        Ok(())
    });
    println!("{came_up:?}");
    assert!(came_up.is_enough(), "too little came up: {came_up:?}");
}
