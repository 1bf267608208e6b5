//! Guests that bring their own runtime down, or keep their host too busy.

use std::time::{Duration, Instant};

use wasmatrix_executor_api::ErrorKind;
use wasmatrix_executor_microvm::Config;
use wasmatrix_model::ExitCause;

use crate::stage::{Scene, executor, program};

/// A component of many instances with many globals each: little to compile, and much to keep.
fn hoarder(instances: usize) -> String {
    let globals = "(global (mut i64) (i64.const 0))".repeat(50_000);
    let instances = "(core instance (instantiate $hoard))".repeat(instances);
    format!(
        r#"(component
            (core module $hoard {globals})
            {instances}
            (core module $program (func (export "run") (result i32) (i32.const 0)))
            (core instance $program (instantiate $program))
            (func $run (result (result)) (canon lift (core func $program "run")))
            (instance $exported (export "run" (func $run)))
            (export "wasi:cli/run@0.2.3" (instance $exported)))"#
    )
}

#[tokio::test]
async fn a_runtime_that_has_no_memory_left_says_so() {
    let Some(executor) = executor() else { return };
    let scene = Scene::new(&executor);
    let error = scene.launch(&hoarder(200)).await.err().expect("160 MB of globals do not fit");
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
    assert!(
        error
            .to_string()
            .starts_with("while it started, the runtime in its micro-VM has used up the 128 MiB"),
        "{error}"
    );
    assert_eq!(scene.run(&hoarder(20)).await, ExitCause::Exited { code: 0 });
}

#[tokio::test]
async fn a_flood_of_requests_is_slowed_down_to_the_rate_and_none_is_lost() {
    const RATE: u32 = 300;
    let Some(_) = executor() else { return };
    let executor = Config { requests_per_second_max: RATE, ..Config::default() }.build();
    let scene = Scene::new(&executor);
    // 200 writes of a byte, as fast as it can.
    let text = program(
        r#"(func (export "_start") (local $n i32)
            (loop $more
                (call $print (i32.const 1) (i32.const 1024) (i32.const 1))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $n) (i32.const 200)))))"#,
    );
    let begun = Instant::now();
    assert_eq!(scene.run(&text).await, ExitCause::Exited { code: 0 });
    // What was saved up, a tenth of a second's, comes at once.
    let earned = (begun.elapsed() + Duration::from_millis(100)).as_secs_f64() * f64::from(RATE) + 1.0;
    assert_eq!(scene.console.out(), "h".repeat(200));
    assert!(earned >= 200.0, "200 requests were answered in {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_flood_that_is_slowed_down_can_be_stopped_at_once() {
    let Some(_) = executor() else { return };
    let executor = Config { requests_per_second_max: 10, ..Config::default() }.build();
    let scene = Scene::new(&executor);
    let text = program(
        r#"(func (export "_start") (loop $on (call $print (i32.const 1) (i32.const 1024) (i32.const 1)) (br $on)))"#,
    );
    let mut instance = scene.launch(&text).await.expect("it starts");
    assert_eq!(instance.stop().await, ExitCause::StopRequested);
}
