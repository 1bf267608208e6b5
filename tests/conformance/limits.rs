//! Each limit ends a run with an error of its own.

use std::time::Duration;

use wasmatrix_model::{ErrorCode, ExitCause, LimitKind, Limits};
use wasmatrix_tests::{Case, Node, Outcome, executors};

const MIB: u64 = 1 << 20;

/// Runs on each executor alone: messages may tell sizes that differ.
async fn on_each(guest: &str, args: &[&str], limits: Limits) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for executor in executors() {
        let case = Case::of(*executor, guest).args(args.iter().copied()).limits(limits.clone());
        outcomes.push(Node::new().await.run(case).await.expect("the guest starts"));
    }
    outcomes
}

fn exceeded(outcome: &Outcome) -> Option<LimitKind> {
    match &outcome.cause {
        ExitCause::LimitExceeded { limit, .. } => Some(*limit),
        _ => None,
    }
}

#[tokio::test]
async fn who_eats_memory_without_end_is_ended_by_the_memory_limit() {
    for outcome in on_each("hog", &[], Limits { memory_bytes_max: 32 * MIB, ..Limits::default() }).await {
        assert_eq!(exceeded(&outcome), Some(LimitKind::Memory), "{:?}", outcome.cause);
    }
}

#[tokio::test]
async fn who_takes_no_for_an_answer_goes_on() {
    let limits = Limits { memory_bytes_max: 32 * MIB, ..Limits::default() };
    for outcome in on_each("probe", &["alloc 8", "alloc 64", "touch", "out still here"], limits).await {
        assert_eq!(outcome.cause, ExitCause::Exited { code: 0 });
        let lines: Vec<&str> = outcome.stdout.lines().collect();
        assert_eq!(lines[0], "ok");
        assert!(lines[1].starts_with("error: "), "{lines:?}");
        assert_eq!(lines[2..], ["touched 8 MiB", "still here"]);
    }
}

#[tokio::test]
async fn a_guest_that_does_not_fit_is_not_started() {
    for executor in executors() {
        let limits = Limits { memory_bytes_max: 64 * 1024, ..Limits::default() };
        let case = Case::of(*executor, "hello").limits(limits);
        let failure = Node::new().await.start(&case).await.unwrap_err();
        assert_eq!(failure.code, ErrorCode::ResourceExhausted, "{failure}");
        assert!(failure.message.contains("memory"), "{failure}");
    }
}

#[tokio::test]
async fn who_spins_is_ended_by_the_wall_time() {
    let limits = Limits { wall_time_max: Some(Duration::from_secs(1)), ..Limits::default() };
    for outcome in on_each("spin", &[], limits).await {
        assert_eq!(exceeded(&outcome), Some(LimitKind::WallTime), "{:?}", outcome.cause);
    }
}

#[tokio::test]
async fn who_sleeps_is_ended_by_the_wall_time() {
    let limits = Limits { wall_time_max: Some(Duration::from_secs(1)), ..Limits::default() };
    for outcome in on_each("probe", &["out before", "sleep 3600000"], limits).await {
        assert_eq!(exceeded(&outcome), Some(LimitKind::WallTime), "{:?}", outcome.cause);
        assert_eq!(outcome.stdout, "before\n");
    }
}

#[tokio::test]
async fn handles_are_counted() {
    let limits = Limits { handles_max: 64, ..Limits::default() };
    for outcome in on_each("probe", &["kv.hold 100 default"], limits).await {
        assert_eq!(exceeded(&outcome), Some(LimitKind::Handles), "{:?} {}", outcome.cause, outcome.stdout);
    }
}

/// wasmtime tells of failed growths that it never asked about; whoever struck those off would let a guest have what
/// it had struck off by asking for the impossible.
#[tokio::test]
async fn asking_for_the_impossible_gives_nothing_back() {
    let text = "(module
        (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
        (memory (export \"memory\") 1)
        (func (export \"_start\") (local $n i32)
          (loop $again
            (drop (memory.grow (i32.const 1)))
            (drop (memory.grow (i32.const 65535)))
            (drop (memory.grow (i32.const 65536)))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $n) (i32.const 200))))
          (if (i32.gt_u (memory.size) (i32.const 64)) (then (call $exit (i32.const 3))))))";
    let module = wat::parse_str(text).expect("the test writes legal text");
    for executor in executors() {
        let limits = Limits { memory_bytes_max: 4 * MIB, ..Limits::default() };
        let case = Case::with(*executor, module.clone()).limits(limits);
        let outcome = Node::new().await.run(case).await.expect("it starts");
        assert_eq!(outcome.cause, ExitCause::Exited { code: 0 }, "{executor}");
    }
}
