//! Who gets the processor, and who is taken off it.

use std::{num::NonZero, time::Duration};

use wasmatrix_executor_api::{ErrorKind, Executor};
use wasmatrix_executor_wasmtime::Config;
use wasmatrix_model::{ExitCause, Limits};

use crate::{
    harness::{Job, config, module},
    limits::SLEEP,
};

const SPIN: &str = r#"(func (export "_start") (loop (br 0)))"#;
const HELLO: &str = r#"(data (i32.const 100) "hello\n")
    (func (export "_start") (call $write (i32.const 1) (i32.const 100) (i32.const 6)))"#;

#[tokio::test]
async fn spinners_do_not_starve_a_short_job_on_the_same_thread() {
    let executor = Config { worker_threads: NonZero::<usize>::MIN, ..config() }.build().unwrap();
    let spinner = Job::new(module(SPIN));
    let mut first = spinner.start(&executor).await.unwrap();
    let mut second = spinner.start(&executor).await.unwrap();
    let mut short = Job::new(module(HELLO)).start(&executor).await.unwrap();
    assert_eq!(short.exited().await, ExitCause::Exited { code: 0 });
    assert_eq!(first.stop().await, ExitCause::StopRequested);
    assert_eq!(second.stop().await, ExitCause::StopRequested);
    assert!(!first.meter().usage().cpu_time.is_zero());
}

#[tokio::test]
async fn a_share_of_the_processor_is_kept() {
    let limits = Limits {
        cpu_millis_per_second: 100,
        wall_time_max: Some(Duration::from_millis(1000)),
        ..Limits::default()
    };
    let executor = config().build().unwrap();
    let mut run = Job { limits, ..Job::new(module(SPIN)) }.start(&executor).await.unwrap();
    run.exited().await;
    // 100 ms were earned and 10 ms were saved; a slice or two may be overdrawn, more on a machine that is busy.
    let used = run.meter().usage().cpu_time;
    assert!(used < Duration::from_millis(300), "{used:?}");
}

#[tokio::test]
async fn who_rests_is_stopped_at_once() {
    let limits = Limits { cpu_millis_per_second: 10, ..Limits::default() };
    let executor = config().build().unwrap();
    let mut run = Job { limits, ..Job::new(module(SPIN)) }.start(&executor).await.unwrap();
    assert_eq!(run.stop().await, ExitCause::StopRequested);
}

#[tokio::test]
async fn who_waits_is_stopped_at_once() {
    let executor = config().build().unwrap();
    let mut run = Job::new(module(SLEEP)).start(&executor).await.unwrap();
    assert_eq!(run.stop().await, ExitCause::StopRequested);
}

#[tokio::test]
async fn a_run_that_ended_by_itself_is_not_stopped() {
    let executor = config().build().unwrap();
    let job = Job::new(module(HELLO));
    let mut run = job.start(&executor).await.unwrap();
    assert_eq!(run.exited().await, ExitCause::Exited { code: 0 });
    assert_eq!(run.stop().await, ExitCause::Exited { code: 0 });
}

#[tokio::test]
async fn places_are_limited_and_come_free() {
    let executor = Config { instances_max: 1, ..config() }.build().unwrap();
    let spinner = Job::new(module(SPIN));
    let mut first = spinner.start(&executor).await.unwrap();
    let error = spinner.start(&executor).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.chain().contains("1 runs are under way"), "{}", error.chain());
    first.stop().await;
    let mut second = Job::new(module(HELLO)).start(&executor).await.unwrap();
    assert_eq!(second.exited().await, ExitCause::Exited { code: 0 });
}

#[tokio::test]
async fn dropping_the_executor_ends_its_runs() {
    let executor = config().build().unwrap();
    let mut run = Job::new(module(SPIN)).start(&executor).await.unwrap();
    drop(executor);
    assert_eq!(run.exited().await, ExitCause::HostFault { message: "the executor was shut down".into() });
}

#[tokio::test]
async fn an_artifact_of_another_executor_is_not_launched() {
    let (one, other) = (config().build().unwrap(), config().build().unwrap());
    let job = Job::new(module(HELLO));
    let launch = job.launch(one.prepare(&job.artifact).await.unwrap());
    let error = other.launch(launch).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostFault);
}
