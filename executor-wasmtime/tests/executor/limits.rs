//! Limits on memory, tables, handles and wall time.

use std::time::Duration;

use wasmatrix_executor_api::ErrorKind;
use wasmatrix_model::{ExitCause, LimitKind, Limits};

use crate::{
    harness::{Job, artifact, module},
    worlds,
};

const MIB: u64 = 1 << 20;

fn limited(limits: Limits, body: &str) -> Job {
    Job { limits, ..Job::new(module(body)) }
}

/// Asks for 32 MiB and does `otherwise` if it does not get them.
fn greedy(otherwise: &str) -> Job {
    let limits = Limits { memory_bytes_max: 4 * MIB, ..Limits::default() };
    let body = format!(
        r#"(func (export "_start")
            (if (i32.eq (memory.grow (i32.const 512)) (i32.const -1)) (then {otherwise})))"#
    );
    limited(limits, &body)
}

#[tokio::test]
async fn an_abort_for_want_of_memory_is_told_as_the_limit() {
    let ExitCause::LimitExceeded { limit, message } = greedy("unreachable").run().await else {
        panic!("it aborts after a refusal")
    };
    assert_eq!(limit, LimitKind::Memory);
    assert!(message.starts_with("4194304 bytes are allowed, 33"), "{message}");
    assert!(message.ends_with("wasm `unreachable` instruction executed"), "{message}");
}

#[tokio::test]
async fn a_guest_that_makes_do_with_less_memory_goes_on() {
    assert_eq!(greedy("(call $exit (i32.const 7))").run().await, ExitCause::Exited { code: 7 });
}

#[tokio::test]
async fn asking_for_the_impossible_gives_nothing_back() {
    // Leaves with the number of pages that it got, of 64 that are allowed.
    let limits = Limits { memory_bytes_max: 4 * MIB, ..Limits::default() };
    let body = r#"(func (export "_start") (local $n i32)
        (loop
            (drop (memory.grow (i32.const 65536)))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if 0 (i32.and (i32.ne (memory.grow (i32.const 1)) (i32.const -1))
                (i32.lt_u (local.get $n) (i32.const 200)))))
        (call $exit (memory.size)))"#;
    let ExitCause::Exited { code } = limited(limits, body).run().await else { panic!("it exits") };
    assert!((32..=64).contains(&code), "{code} pages");
}

#[tokio::test]
async fn memory_is_shown_while_it_lasts() {
    let executor = crate::harness::config().build().unwrap();
    let grow = r#"(func (export "_start") (drop (memory.grow (i32.const 64))))"#;
    let mut run = Job::new(module(grow)).start(&executor).await.unwrap();
    run.exited().await;
    let usage = run.meter().usage();
    assert!(usage.memory_bytes_peak >= 65 * 65_536, "{usage:?}");
    assert_eq!(usage.memory_bytes, 0);
    assert!(!usage.cpu_time.is_zero());
}

#[tokio::test]
async fn memory_wanted_from_the_start_ends_the_launch() {
    let mut job = Job::new(artifact(r#"(module (memory (export "memory") 100) (func (export "_start")))"#));
    job.limits.memory_bytes_max = 4 * MIB;
    let error = job.refused().await;
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.chain().contains("memory limit"), "{}", error.chain());
    assert!(error.chain().contains("4194304 bytes are allowed, 6553600 were wanted"), "{}", error.chain());
}

#[tokio::test]
async fn tables_are_limited_too() {
    let table = |limit, body: &str| Job {
        limits: Limits { table_elements_max: limit, ..Limits::default() },
        ..Job::new(module(body))
    };
    let error = table(100, r#"(table 1000 funcref) (func (export "_start"))"#).refused().await;
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.chain().contains("table limit"), "{}", error.chain());
    let grow = r#"(table $t 1 funcref) (func (export "_start")
        (if (i32.eq (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)) (then unreachable)))"#;
    let ExitCause::LimitExceeded { limit, .. } = table(100, grow).run().await else {
        panic!("it aborts after a refusal")
    };
    assert_eq!(limit, LimitKind::Table);
}

#[tokio::test]
async fn handles_are_limited() {
    let job = Job {
        limits: Limits { handles_max: 50, ..Limits::default() },
        ..Job::new(worlds::draft(r#"(func (export "_start") (loop (drop (call $open_default)) (br 0)))"#))
    };
    let expected = ExitCause::LimitExceeded {
        limit: LimitKind::Handles,
        message: "all 50 handles are in use and one more was wanted".into(),
    };
    assert_eq!(job.run().await, expected);
}

/// One hour of `poll_oneoff`.
pub(crate) const SLEEP: &str = r#"(func (export "_start")
    (i32.store8 (i32.const 208) (i32.const 0))
    (i32.store (i32.const 216) (i32.const 1))
    (i64.store (i32.const 224) (i64.const 3600000000000))
    (drop (call $poll (i32.const 200) (i32.const 300) (i32.const 1) (i32.const 400))))"#;

#[tokio::test]
async fn wall_time_ends_who_computes_and_who_waits() {
    let limits = || Limits { wall_time_max: Some(Duration::from_millis(100)), ..Limits::default() };
    for body in [r#"(func (export "_start") (loop (br 0)))"#, SLEEP] {
        let expected = ExitCause::LimitExceeded {
            limit: LimitKind::WallTime,
            message: "100ms are allowed and the run took longer".into(),
        };
        assert_eq!(limited(limits(), body).run().await, expected);
    }
}

#[tokio::test]
async fn wall_time_counts_in_the_start_function_too() {
    let limits = Limits { wall_time_max: Some(Duration::from_millis(100)), ..Limits::default() };
    let spin = r#"(func $spin (loop (br 0))) (start $spin) (func (export "_start"))"#;
    let error = limited(limits, spin).refused().await;
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.chain().contains("wall-time limit"), "{}", error.chain());
}

#[tokio::test]
async fn a_failing_start_function_is_the_guests_fault() {
    let error =
        Job::new(module(r#"(func $no unreachable) (start $no) (func (export "_start"))"#)).refused().await;
    assert_eq!(error.kind(), ErrorKind::GuestFault);
    assert!(error.chain().contains("unreachable"), "{}", error.chain());
}
