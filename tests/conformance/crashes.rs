//! How runs end badly: each trap by its name and with a backtrace, and a restart that begins clean.

use std::time::Duration;

use futures::StreamExt as _;
use wasmatrix_agent::changes::Change;
use wasmatrix_model::{ExitCause, FactKind, Phase, RestartMode, RestartPolicy};
use wasmatrix_tests::{Case, Node, executors};

use crate::everywhere;

/// Runs the trap example in one of its ways and gives the trap and the names of the functions on the stack.
async fn trap(kind: &str) -> (String, Vec<String>) {
    match everywhere(|case| case.args([kind]), "trap").await.cause {
        ExitCause::Trapped { trap, backtrace } => {
            (trap, backtrace.into_iter().map(|frame| frame.function).collect())
        }
        other => panic!("{kind}: {other:?}"),
    }
}

#[tokio::test]
async fn each_trap_has_its_name_and_its_place() {
    for (kind, name) in [
        ("divide", "wasm trap: integer divide by zero"),
        ("unreachable", "wasm trap: wasm `unreachable` instruction executed"),
        ("bounds", "wasm trap: out of bounds memory access"),
        ("stack", "wasm trap: call stack exhausted"),
    ] {
        let (trap, frames) = trap(kind).await;
        assert_eq!(trap, name, "{kind}");
        assert!(frames.iter().any(|function| function.contains("trap")), "{kind}: {frames:?}");
    }
}

#[tokio::test]
async fn a_panic_says_why_on_standard_error_and_traps() {
    let outcome = everywhere(|case| case.args(["panic"]), "trap").await;
    assert!(outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    assert!(matches!(outcome.cause, ExitCause::Trapped { .. }), "{:?}", outcome.cause);
}

#[tokio::test]
async fn a_crash_is_told_in_the_status_the_facts_and_the_log() {
    for executor in executors() {
        let node = Node::new().await;
        let case = Case::of(*executor, "trap").name("crasher").args(["divide"]);
        node.start(&case).await.unwrap();
        let status = node.agent.wait("crasher").await.unwrap();
        assert_eq!(status.phase, Phase::Crashed);
        let fact = node.until(|fact| matches!(fact.kind, FactKind::InstanceCrashed { .. })).await;
        let FactKind::InstanceCrashed { exit, next_restart_at: None, .. } = fact.kind else {
            panic!("{fact:?}")
        };
        assert_eq!(Some(exit), status.last_exit);
        let log = node.agent.logs("crasher", 0, None, false).unwrap();
        let lines: Vec<String> =
            futures::StreamExt::collect::<Vec<_>>(log).await.iter().map(|r| r.line.clone()).collect();
        assert!(lines.iter().any(|line| line.contains("integer divide by zero")), "{lines:?}");
    }
}

#[tokio::test]
async fn a_flaky_job_is_restarted_until_it_succeeds() {
    for executor in executors() {
        let node = Node::new().await;
        let mut case = Case::of(*executor, "flaky").name("flaky").grants(&["kv:read", "kv:write"]);
        case.restart = RestartPolicy {
            backoff_initial: Duration::from_millis(1),
            ..RestartPolicy::with_mode(RestartMode::OnFailure)
        };
        node.start(&case).await.unwrap();
        let status = node.agent.wait("flaky").await.unwrap();
        assert_eq!((status.phase, status.restart_count), (Phase::Stopped, 3), "{status:?}");
        let crashes = node
            .facts()
            .await
            .into_iter()
            .filter(|fact| matches!(fact.kind, FactKind::InstanceCrashed { .. }));
        assert_eq!(crashes.count(), 3);
    }
}

#[tokio::test]
async fn a_stop_ends_what_spins_and_what_sleeps() {
    for executor in executors() {
        let node = Node::new().await;
        for (guest, name) in [("spin", "spinner"), ("sleeper", "sleeper")] {
            node.start(&Case::of(*executor, guest).name(name)).await.unwrap();
            let status = node.agent.stop(name, Duration::ZERO).await.unwrap();
            assert_eq!(status.phase, Phase::Stopped);
            assert_eq!(status.last_exit.unwrap().cause, ExitCause::StopRequested);
        }
    }
}

#[tokio::test]
async fn who_does_nothing_but_restart_does_not_flood_the_facts() {
    for executor in executors() {
        let node = Node::new().await;
        let mut restless = Case::of(*executor, "probe").name("restless").args(["exit 0"]);
        restless.restart = RestartPolicy {
            backoff_initial: Duration::from_millis(1),
            backoff_max: Duration::from_millis(1),
            ..RestartPolicy::with_mode(RestartMode::Always)
        };
        node.start(&restless).await.unwrap();
        let mut changes = Box::pin(node.agent.watch(""));
        let restarts = loop {
            match changes.next().await.unwrap().change {
                Change::Instance(status) if status.restart_count >= 300 => break status.restart_count,
                _ => {}
            }
        };
        node.agent.stop("restless", Duration::ZERO).await.unwrap();
        let facts = node.facts().await;
        let mut told: Vec<u32> = Vec::new();
        for fact in &facts {
            match fact.kind {
                FactKind::InstanceRestarted { restart_count, .. } => told.push(restart_count),
                // Whatever is told of a run, its beginning was told before.
                FactKind::InstanceStarted { restart_count, .. } if restart_count > 0 => {
                    assert_eq!(told.last(), Some(&restart_count), "{executor}");
                }
                _ => {}
            }
        }
        assert!(told.is_sorted(), "the counts say how many were left out: {told:?}");
        assert!(
            told.len() >= 50 && told.len() < restarts as usize / 2,
            "{} of {restarts} are told",
            told.len()
        );
        let last = facts.iter().rev().find(|fact| fact.kind.subject().is_some()).unwrap();
        assert!(matches!(last.kind, FactKind::InstanceStopped { next_restart_at: None, .. }), "{last:?}");
    }
}
