//! What runs may take.

use std::time::{Duration, Instant};

use wasmatrix_executor_api::ErrorKind;
use wasmatrix_model::{ExitCause, LimitKind, Limits};

use crate::stage::{Scene, executor, program};

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn memory_grows_to_its_limit_and_not_beyond() {
    let Some(executor) = executor() else { return };
    let limits = Limits { memory_bytes_max: 4 * MIB, ..Limits::default() };
    let scene = Scene { limits, ..Scene::new(&executor) };
    // One page at a time, each written to; the exit code is the number of pages.
    let text = program(
        r#"(func (export "_start")
            (loop $more
                (i32.store8 (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1)) (i32.const 1))
                (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
            (call $exit (memory.size)))"#,
    );
    // The adapter has a page of its own.
    assert!(matches!(scene.run(&text).await, ExitCause::Exited { code: 60..=64 }));
    let text = program(
        r#"(func (export "_start") (if (i32.eq (memory.grow (i32.const 1000)) (i32.const -1)) (then unreachable)))"#,
    );
    let end = scene.run(&text).await;
    assert!(matches!(&end, ExitCause::LimitExceeded { limit: LimitKind::Memory, .. }), "{end:?}");
}

#[tokio::test]
async fn memory_that_is_too_large_from_the_start_is_refused_at_launch() {
    let Some(executor) = executor() else { return };
    let limits = Limits { memory_bytes_max: 4 * MIB, ..Limits::default() };
    let scene = Scene { limits, ..Scene::new(&executor) };
    let text = program(r#"(func (export "_start"))"#).replace("\"memory\") 1", "\"memory\") 1000");
    let error = scene.launch(&text).await.err().expect("it does not start");
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(
        error.to_string().starts_with("the memory limit does not let it start: 4194304 bytes are allowed"),
        "{error}"
    );
}

/// The same code twice: what is instantiated once for all its runs is too much for one of them.
#[tokio::test]
async fn what_was_instantiated_ahead_bears_the_limits_of_its_run() {
    let Some(executor) = executor() else { return };
    let text = program(r#"(table 1000 funcref) (func (export "_start"))"#)
        .replace("\"memory\") 1", "\"memory\") 100");
    assert_eq!(Scene::new(&executor).run(&text).await, ExitCause::Exited { code: 0 });
    for (limits, message) in [
        (
            Limits { memory_bytes_max: 4 * MIB, ..Limits::default() },
            "4194304 bytes are allowed, 6553600 were wanted",
        ),
        (Limits { table_elements_max: 100, ..Limits::default() }, "100 table elements are allowed"),
    ] {
        let scene = Scene { limits, ..Scene::new(&executor) };
        let error = scene.launch(&text).await.err().expect("it does not start");
        assert_eq!(error.kind(), ErrorKind::Exhausted);
        assert!(error.to_string().contains(message), "{error}");
    }
    assert_eq!(Scene::new(&executor).run(&text).await, ExitCause::Exited { code: 0 });
}

#[tokio::test]
async fn four_gibibytes_can_be_had() {
    let Some(executor) = executor() else { return };
    let limits = Limits { memory_bytes_max: Limits::MEMORY_BYTES_CEILING, ..Limits::default() };
    let scene = Scene { limits, ..Scene::new(&executor) };
    let text = program(
        r#"(func (export "_start")
            (if (i32.eq (memory.grow (i32.const 60000)) (i32.const -1)) (then unreachable))
            (i32.store (i32.const 0xea60fffc) (i32.const 7))
            (call $exit (i32.load (i32.const 0xea60fffc))))"#,
    );
    assert_eq!(scene.run(&text).await, ExitCause::Exited { code: 7 });
}

#[tokio::test]
async fn a_share_of_a_processor_is_kept_to() {
    let Some(executor) = executor() else { return };
    let limits = Limits {
        cpu_millis_per_second: 200,
        wall_time_max: Some(Duration::from_millis(1500)),
        ..Limits::default()
    };
    let scene = Scene { limits, ..Scene::new(&executor) };
    let mut instance =
        scene.launch(&program(r#"(func (export "_start") (loop $on (br $on)))"#)).await.expect("it starts");
    let begun = Instant::now();
    let end = instance.exited().await;
    assert!(matches!(end, ExitCause::LimitExceeded { limit: LimitKind::WallTime, .. }), "{end:?}");
    let allowed = begun.elapsed().mul_f64(0.2) + Duration::from_millis(200);
    let used = instance.meter().usage().cpu_time;
    assert!(used < allowed && used > Duration::from_millis(50), "{used:?} of {allowed:?}");
}
