//! P02 a crash leaves the rest as it was, P06 every interleaving is explained by the state machine, P08 restarts
//! happen exactly when the policy says, P14 a query tells what is, not what was asked for.

use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;
use wasmatrix_agent::restart::{Decision, Restarts};
use wasmatrix_model::{ErrorCode, ExitCause, FactKind, InstanceId, Phase, RestartMode, RestartPolicy};
use wasmatrix_tests::{Case as Run, Node, executors};

use crate::{CASES, block_on, cases, fresh, runtime};

/// Properties that start several instances a case take fewer.
const FEWER_CASES: u32 = 64;

#[test]
fn property_02_a_crash_preserves_the_rest() {
    let runtime = runtime();
    for executor in executors() {
        let node = runtime.block_on(Node::new());
        let crash = prop::sample::select(vec![
            "trap divide",
            "trap unreachable",
            "trap bounds",
            "trap stack",
            "exit 1",
            "alloc 4000",
        ]);
        runtime.block_on(async {
            for name in ["by-one", "by-two"] {
                node.start(&Run::of(*executor, "sleeper").name(name).grants(&["kv:read"])).await.unwrap();
            }
            let keep = Run::of(*executor, "probe")
                .name("by-three")
                .grants(&["kv:write"])
                .args(["kv.set default k kept"]);
            node.run(keep).await.unwrap();
        });
        proptest!(cases(CASES), |(crash in crash, restarts in 0..2_u32)| {
            block_on(&runtime, async {
                let (before, facts) = (node.agent.list(None, 10), node.facts().await);
                let mut run = Run::of(*executor, "probe").name("crasher").args([crash, "trap unreachable"]);
                run.restart = RestartPolicy {
                    backoff_initial: Duration::from_millis(1),
                    restarts_max: Some(restarts),
                    ..RestartPolicy::with_mode(RestartMode::OnFailure)
                };
                node.start(&run).await.unwrap();
                prop_assert_eq!(node.agent.wait("crasher").await.unwrap().phase, Phase::Crashed);
                node.agent.remove("crasher").await.unwrap();
                let mut after = node.agent.list(None, 10);
                for (after, before) in after.iter_mut().zip(&before) {
                    after.usage.cpu_time = before.usage.cpu_time; // the bystanders live, so this may grow
                }
                prop_assert_eq!(after, before);
                let later = node.facts().await;
                let kept = facts.iter().find(|fact| fact.seq == later[0].seq).map_or(0, |fact| fact.seq - facts[0].seq);
                let kept = usize::try_from(kept).unwrap();
                prop_assert_eq!(&later[..facts.len() - kept], &facts[kept..]);
                let look = Run::of(*executor, "probe").name("by-three").grants(&["kv:read"]).args(["kv.get default k"]);
                prop_assert_eq!(node.run(look).await.unwrap().stdout, "some kept\n");
                Ok(())
            })?;
        });
    }
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    StartSleeper,
    StartJob,
    StartCrasher,
    StartBroken,
    Stop,
    Remove,
    Get,
    List,
}

fn deeds() -> impl Strategy<Value = Vec<(usize, Deed)>> {
    let deed = prop::sample::select(vec![
        Deed::StartSleeper,
        Deed::StartJob,
        Deed::StartCrasher,
        Deed::StartBroken,
        Deed::Stop,
        Deed::Remove,
        Deed::Get,
        Deed::List,
    ]);
    prop::collection::vec((0..2_usize, deed), 1..12)
}

const NAMES: [&str; 2] = ["one", "two"];

async fn act(
    node: &Node,
    executor: wasmatrix_model::ExecutorKind,
    name: &str,
    deed: Deed,
) -> Result<(), ErrorCode> {
    let code = |failure: wasmatrix_model::Failure| failure.code;
    let start = async |run: Run| node.start(&run.name(name)).await.map(drop).map_err(code);
    match deed {
        Deed::StartSleeper => start(Run::of(executor, "sleeper")).await,
        Deed::StartJob => start(Run::of(executor, "hello")).await,
        Deed::StartCrasher => {
            let mut run = Run::of(executor, "trap").args(["divide"]);
            run.restart = RestartPolicy {
                backoff_initial: Duration::from_millis(1),
                restarts_max: Some(1),
                ..RestartPolicy::with_mode(RestartMode::Always)
            };
            start(run).await
        }
        Deed::StartBroken => start(Run::with(executor, &b"not wasm"[..])).await,
        Deed::Stop => node.agent.stop(name, Duration::ZERO).await.map(drop).map_err(code),
        Deed::Remove => node.agent.remove(name).await.map_err(code),
        Deed::Get => node.agent.get(name).map(drop).map_err(code),
        Deed::List => {
            node.agent.list(None, 10);
            Ok(())
        }
    }
}

/// Follows each instance through its facts and checks every step against the one table.
fn explained(facts: &[wasmatrix_model::Fact]) -> Result<HashMap<InstanceId, Phase>, TestCaseError> {
    let mut phases: HashMap<InstanceId, Phase> = HashMap::new();
    for fact in facts {
        let Some(subject) = fact.kind.subject() else { continue };
        let now = phases.get(&subject.id).copied();
        let path: &[Phase] = match &fact.kind {
            FactKind::InstanceCreated { .. } => {
                prop_assert_eq!(now, None);
                phases.insert(subject.id, Phase::Pending);
                continue;
            }
            FactKind::InstanceStarted { restart_count: 0, .. } => &[Phase::Starting, Phase::Running],
            FactKind::InstanceStarted { .. } => &[Phase::Running],
            FactKind::InstanceStopping { .. } => &[Phase::Stopping],
            FactKind::InstanceStopped { .. } if now == Some(Phase::Pending) => {
                &[Phase::Starting, Phase::Stopped]
            }
            FactKind::InstanceStopped { .. } if now == Some(Phase::Stopped) => &[],
            FactKind::InstanceStopped { .. } => &[Phase::Stopped],
            FactKind::InstanceCrashed { .. } if now == Some(Phase::Pending) => {
                &[Phase::Starting, Phase::Crashed]
            }
            FactKind::InstanceCrashed { .. } => &[Phase::Crashed],
            FactKind::InstanceRestarted { .. } => &[Phase::Starting],
            FactKind::InstanceRemoved { .. } => {
                prop_assert!(now.is_some_and(|phase| !phase.is_live()), "removed while {:?}", now);
                phases.remove(&subject.id);
                continue;
            }
            _ => &[],
        };
        let mut phase = now.expect("created first");
        for next in path {
            prop_assert!(phase.can_become(*next), "{:?} became {:?} in {:?}", phase, next, fact);
            phase = *next;
        }
        phases.insert(subject.id, phase);
    }
    Ok(phases)
}

#[test]
fn property_06_every_interleaving_is_explained_by_the_state_machine() {
    let runtime = runtime();
    for executor in executors() {
        proptest!(cases(FEWER_CASES), |(left in deeds(), right in deeds())| {
            block_on(&runtime, async {
                let node = Node::new().await;
                let hand = async |deeds: Vec<(usize, Deed)>| {
                    for (name, deed) in deeds {
                        let answer = act(&node, *executor, NAMES[name], deed).await;
                        let expected = match deed {
                            Deed::StartSleeper | Deed::StartJob | Deed::StartCrasher => {
                                matches!(answer, Ok(()) | Err(ErrorCode::InvalidRequest))
                            }
                            // A stop that comes before the start has failed is what ended it.
                            Deed::StartBroken => {
                                matches!(answer, Ok(()) | Err(ErrorCode::InvalidRequest | ErrorCode::WasmRuntimeError))
                            }
                            Deed::Stop | Deed::Get => matches!(answer, Ok(()) | Err(ErrorCode::InstanceNotFound)),
                            Deed::Remove => matches!(
                                answer,
                                Ok(()) | Err(ErrorCode::InstanceNotFound | ErrorCode::RestartPolicyViolation)
                            ),
                            Deed::List => answer.is_ok(),
                        };
                        prop_assert!(expected, "{:?} was answered {:?}", deed, answer);
                    }
                    Ok(())
                };
                let (left, right) = tokio::join!(hand(left.clone()), hand(right.clone()));
                left?;
                right?;
                node.agent.shutdown(Duration::ZERO).await;
                let phases = explained(&node.facts().await)?;
                // What the facts lead to is what a query tells.
                let listed = node.agent.list(None, 10);
                prop_assert_eq!(listed.len(), phases.len());
                for status in listed {
                    prop_assert_eq!(phases.get(&status.id), Some(&status.phase));
                }
                Ok(())
            })?;
        });
    }
}

/// The policy told a second time: as a list of waits, worked out from the end times alone.
fn expected_waits(policy: &RestartPolicy, runs: &[(bool, Duration)]) -> Vec<Option<Duration>> {
    let mut row = 0_u32;
    runs.iter()
        .map(|(crash, lasted)| {
            let applies = match policy.mode {
                RestartMode::Never => false,
                RestartMode::OnFailure => *crash,
                RestartMode::Always => true,
            };
            if *lasted >= policy.reset_after && applies {
                row = 0;
            }
            if !applies || policy.restarts_max.is_some_and(|max| row >= max) {
                return None;
            }
            let mut wait = policy.backoff_initial;
            for _ in 0..row {
                wait = (wait * 2).min(policy.backoff_max);
            }
            row += 1;
            Some(wait.min(policy.backoff_max))
        })
        .collect()
}

proptest! {
    #![proptest_config(cases(CASES))]

    #[test]
    fn property_08_the_rule_waits_what_the_policy_says(
        mode in prop::sample::select(RestartMode::ALL.to_vec()),
        initial in 1..10_000_u64,
        factor in 1..100_u64,
        jitter in 0..=100_u8,
        max in prop::option::of(0..6_u32),
        reset in 1..100_000_u64,
        runs in prop::collection::vec((any::<bool>(), 0..200_000_u64, 0.0..=1.0_f64), 1..30),
    ) {
        let policy = RestartPolicy {
            mode,
            backoff_initial: Duration::from_millis(initial),
            backoff_max: Duration::from_millis(initial * factor),
            jitter_percent: jitter,
            restarts_max: max,
            reset_after: Duration::from_millis(reset),
        };
        prop_assert!(policy.validate().is_ok());
        let told: Vec<_> = runs.iter().map(|(crash, lasted, _)| (*crash, Duration::from_millis(*lasted))).collect();
        let mut rule = Restarts::new(policy.clone());
        for (wait, (crash, lasted, chance)) in expected_waits(&policy, &told).into_iter().zip(runs) {
            let cause = ExitCause::Exited { code: u8::from(crash) };
            match (wait, rule.decide(&cause, Duration::from_millis(lasted), chance)) {
                (None, Decision::Stay | Decision::GiveUp) => {}
                (Some(wait), Decision::RestartAfter(given)) => {
                    let least = wait.mul_f64(1.0 - f64::from(jitter) / 100.0);
                    prop_assert!(given <= wait && given + Duration::from_nanos(2) >= least, "{:?} of {:?}", given, wait);
                }
                (wait, decision) => prop_assert!(false, "{:?} but {:?}", wait, decision),
            }
        }
    }
}

#[test]
fn property_08_the_agent_restarts_exactly_as_often_and_as_late() {
    let runtime = runtime();
    for executor in executors() {
        let node = runtime.block_on(Node::new());
        let mode = prop::sample::select(RestartMode::ALL.to_vec());
        let end = prop::sample::select(vec!["exit 0", "exit 1", "trap divide"]);
        proptest!(cases(FEWER_CASES), |(mode in mode, end in end, max in 0..4_u32)| {
            block_on(&runtime, async {
                let name = format!("p08-{}", fresh());
                let mut run = Run::of(*executor, "probe").name(&name).args([end]);
                run.restart = RestartPolicy {
                    backoff_initial: Duration::from_millis(2),
                    restarts_max: Some(max),
                    jitter_percent: 0,
                    ..RestartPolicy::with_mode(mode)
                };
                let id = node.start(&run).await.unwrap().id;
                let status = node.agent.wait(&name).await.unwrap();
                let applies = mode == RestartMode::Always || (mode == RestartMode::OnFailure && end != "exit 0");
                prop_assert_eq!(status.restart_count, if applies { max } else { 0 });
                let mut row = 0_u32;
                for fact in node.facts().await {
                    let told = match fact.kind {
                        FactKind::InstanceCrashed { instance, exit, next_restart_at, .. }
                        | FactKind::InstanceStopped { instance, exit, next_restart_at } if instance.id == id => {
                            next_restart_at.map(|next| next.duration_since(exit.at))
                        }
                        _ => continue,
                    };
                    let wait = (applies && row < max).then(|| jiff::SignedDuration::from_millis(2 << row));
                    prop_assert_eq!(told, wait);
                    row += 1;
                }
                prop_assert_eq!(row, status.restart_count + 1);
                node.agent.remove(&name).await.unwrap();
                Ok(())
            })?;
        });
    }
}

#[test]
fn property_14_a_query_tells_what_is() {
    let runtime = runtime();
    for executor in executors() {
        let node = runtime.block_on(Node::new());
        let way = prop::sample::select(vec!["lives", "done", "fails", "traps", "broken", "stopped"]);
        proptest!(cases(CASES), |(way in way)| {
            block_on(&runtime, async {
                let guest = |args: &[&str]| Run::of(*executor, "probe").args(args.iter().copied());
                let run = match way {
                    "lives" | "stopped" => guest(&["line"]),
                    "done" => guest(&["exit 0"]),
                    "fails" => guest(&["exit 1"]),
                    "traps" => guest(&["trap bounds"]),
                    _ => Run::with(*executor, &b"\0asm broken"[..]),
                };
                let run = run.name("p14");
                let (dialogue, ear) = wasmatrix_tests::Dialogue::new();
                let started = node.agent.start_attached(node.spec(&run), Some(run.artifact.clone()), ear).await;
                prop_assert_eq!(started.is_err(), way == "broken");
                let phase = match way {
                    // It waits for a line that nobody said, so it runs.
                    "lives" => node.agent.get("p14").unwrap().phase,
                    "stopped" => node.agent.stop("p14", Duration::ZERO).await.unwrap().phase,
                    _ => node.agent.wait("p14").await.unwrap().phase,
                };
                let truth = match way {
                    "lives" => Phase::Running,
                    "done" | "stopped" => Phase::Stopped,
                    _ => Phase::Crashed,
                };
                prop_assert_eq!(phase, truth);
                if way == "lives" {
                    dialogue.say("enough").await;
                    prop_assert_eq!(node.agent.wait("p14").await.unwrap().phase, Phase::Stopped);
                }
                node.agent.remove("p14").await.unwrap();
                Ok(())
            })?;
        });
    }
}
