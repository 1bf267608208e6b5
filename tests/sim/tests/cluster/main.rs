//! Properties of many machines: a real control plane in front of simulated nodes, under a paused clock.
//!
//! A case is a cluster of its own in a runtime of its own, which lives through minutes in no time. Cases follow from one
//! seed, which is told on failure; proptest shrinks what was done and what went wrong to the least that fails.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what a test takes for granted and is not so ends it")]

mod facts;
mod losses;
mod recovery;
mod registry;
mod starts;
mod status;
mod story;
mod versions;

use std::{fmt::Debug, time::Duration};

use bytes::Bytes;
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestCaseResult, TestError, TestRng, TestRunner},
};
use wasmatrix_model::{Digest, InstanceSpec, InstanceStatus, OnNodeLoss, Placement};
use wasmatrix_sim::{Direction, Fault, Seed, World, seed::VARIABLE};
use wasmatrix_wire::StartRequest;

/// Cases of each property.
const CASES: u32 = 256;
/// What stands for an artifact: nothing runs it.
const ARTIFACT: Bytes = Bytes::from_static(b"not even Wasm");
/// Longer than any case lasts, as its cluster has it.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Checks [`CASES`] cases. A case gets the seed of its cluster.
fn check<S: Strategy<Value: Debug + Clone>, F: Future<Output = TestCaseResult>>(
    strategy: S,
    case: impl Fn(Seed, S::Value) -> F,
) {
    let seed = Seed::of_the_environment();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.get().to_le_bytes());
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let outcome = runner.run(&strategy, |value| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        let within = async {
            let cluster = seed.of(format!("{value:?}"));
            let in_time = tokio::time::timeout(LIFETIME, case(cluster, value.clone())).await;
            in_time.map_err(|_| TestCaseError::fail("it does not come to an end"))?
        };
        runtime.unwrap().block_on(within)
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, least)) => {
            panic!("{why}\nthe least that fails: {least:#?}\nto repeat this run: {VARIABLE}={seed}")
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

fn spec(name: &str) -> InstanceSpec {
    InstanceSpec::new(name.parse().unwrap(), Digest::of(&ARTIFACT))
}

/// One that is started elsewhere when its node is lost.
fn precious(name: &str) -> InstanceSpec {
    let placement = Placement { on_node_loss: OnNodeLoss::RestartElsewhere, ..Placement::default() };
    InstanceSpec { placement, ..spec(name) }
}

/// A start that may be asked for again.
fn keyed(spec: InstanceSpec) -> StartRequest {
    let idempotency_key = Some(format!("key-of-{}", spec.name));
    StartRequest { spec, idempotency_key, assignment: None }
}

/// What is there in truth, on all nodes that are up, in the order of a listing.
fn truth(world: &World) -> Vec<InstanceStatus> {
    let machines = world.nodes.iter().filter_map(wasmatrix_sim::SimNode::machine);
    let mut all: Vec<_> = machines.flat_map(|machine| machine.list(None, usize::MAX)).collect();
    all.sort_by(|one, other| (&one.spec.name, one.id).cmp(&(&other.spec.name, other.id)));
    all
}

/// The listing, and the truth at the same time.
async fn listed_and_true(world: &World) -> (Vec<InstanceStatus>, Vec<InstanceStatus>) {
    let mut user = world.user();
    loop {
        let before = truth(world);
        let listed = user.list().await.unwrap();
        if truth(world) == before {
            return (listed, before);
        }
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
}

/// Something that goes wrong and leaves the node's instances as they are.
fn trouble() -> impl Strategy<Value = Fault> {
    let direction = || prop_oneof![Just(Direction::Toward), Just(Direction::Away)];
    prop_oneof![
        Just(Fault::Cut),
        (direction(), 1..4000_u32).prop_map(|(direction, bytes)| Fault::CutAfter(direction, bytes)),
        (1..500_u64).prop_map(|millis| Fault::Delay(Duration::from_millis(millis))),
        (direction(), 2000..50_000_u32).prop_map(|(direction, rate)| Fault::Slow(direction, rate)),
        (1..4_u32).prop_map(Fault::LoseAnswers),
        Just(Fault::Heal),
    ]
}

/// Anything that goes wrong.
fn fault() -> impl Strategy<Value = Fault> {
    let direction = || prop_oneof![Just(Direction::Toward), Just(Direction::Away)];
    prop_oneof![
        4 => trouble(),
        1 => direction().prop_map(Fault::Hold),
        2 => Just(Fault::Partition),
        1 => (-60_000..60_000_i64).prop_map(Fault::Skew),
        1 => Just(Fault::Crash),
        1 => Just(Fault::Boot),
    ]
}

fn pause(most: u64) -> impl Strategy<Value = Duration> {
    (0..most).prop_map(Duration::from_millis)
}
