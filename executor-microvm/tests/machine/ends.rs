//! How runs end, and how it is told.

use std::time::Duration;

use wasmatrix_executor_api::{ErrorKind, Executor};
use wasmatrix_executor_microvm::Config;
use wasmatrix_model::{ExitCause, Limits};

use crate::stage::{LONG, Scene, executor, program};

#[tokio::test]
async fn exit_codes_arrive() {
    let Some(executor) = executor() else { return };
    let scene = Scene::new(&executor);
    for code in [0_u8, 1, 42, 125] {
        let text = program(&format!(r#"(func (export "_start") (call $exit (i32.const {code})))"#));
        assert_eq!(scene.run(&text).await, ExitCause::Exited { code });
    }
}

/// Runs a body that traps; returns the trap and the innermost function's name.
async fn trap(scene: &Scene<'_>, body: &str) -> (String, String) {
    let text = program(&format!(
        r#"(table 1 funcref)
           (func $culprit (param $zero i32) {body})
           (func (export "_start") (call $culprit (i32.const 0)))"#
    ));
    match scene.run(&text).await {
        ExitCause::Trapped { trap, backtrace } => {
            let first = backtrace.first().expect("a trap has a backtrace");
            assert_eq!(first.module.as_deref(), Some("prog"), "{backtrace:?}");
            // A stack is exhausted before a function's first instruction.
            assert!(first.offset.is_some() || trap.contains("stack"), "{backtrace:?}");
            (trap, first.function.clone())
        }
        other => panic!("expected a trap, got {other:?}"),
    }
}

#[tokio::test]
async fn traps_have_the_names_and_backtraces_that_they_have_in_process() {
    let Some(executor) = executor() else { return };
    let scene = Scene::new(&executor);
    for (body, expected) in [
        ("(drop (i32.div_u (i32.const 1) (local.get $zero)))", "wasm trap: integer divide by zero"),
        (
            "(drop (i32.div_s (i32.const 0x80000000) (i32.sub (local.get $zero) (i32.const 1))))",
            "wasm trap: integer overflow",
        ),
        (
            "(drop (i32.load (i32.sub (local.get $zero) (i32.const 4))))",
            "wasm trap: out of bounds memory access",
        ),
        (
            "(drop (i32.load offset=0xffff0000 (i32.const 0xffff0000)))",
            "wasm trap: out of bounds memory access",
        ),
        ("unreachable", "wasm trap: wasm `unreachable` instruction executed"),
        ("(call_indirect (local.get $zero))", "wasm trap: uninitialized element"),
        ("(call_indirect (i32.const 9))", "wasm trap: undefined element: out of bounds table access"),
        ("(drop (i32.trunc_f32_s (f32.const nan)))", "wasm trap: invalid conversion to integer"),
        ("(call $culprit (local.get $zero))", "wasm trap: call stack exhausted"),
    ] {
        assert_eq!(trap(&scene, body).await, (expected.into(), "culprit".into()), "{body}");
    }
}

#[tokio::test]
async fn the_first_byte_past_memory_traps_and_the_last_within_does_not() {
    let Some(executor) = executor() else { return };
    let scene = Scene::new(&executor);
    for pages in [0_u32, 1, 15, 16, 17, 100] {
        let text = |offset: i32| {
            program(&format!(
                r#"(func (export "_start")
                    (drop (memory.grow (i32.const {pages})))
                    (i32.store8 (i32.add (i32.mul (memory.size) (i32.const 65536)) (i32.const {offset})) (i32.const 1)))"#
            ))
        };
        assert_eq!(scene.run(&text(-1)).await, ExitCause::Exited { code: 0 }, "{pages}");
        let past = scene.run(&text(0)).await;
        assert!(
            matches!(&past, ExitCause::Trapped { trap, .. } if trap == "wasm trap: out of bounds memory access"),
            "{pages}: {past:?}"
        );
    }
}

#[tokio::test]
async fn a_start_function_that_fails_fails_the_launch() {
    let Some(executor) = executor() else { return };
    let scene = Scene::new(&executor);
    let text = program(r#"(func $begin unreachable) (start $begin) (func (export "_start"))"#);
    let error = scene.launch(&text).await.err().expect("it does not start");
    assert_eq!(error.kind(), ErrorKind::GuestFault);
    assert!(error.to_string().contains("unreachable"), "{error}");
}

#[tokio::test]
async fn a_spinner_is_stopped_when_asked() {
    let Some(executor) = executor() else { return };
    let scene = Scene::new(&executor);
    let text = program(r#"(func (export "_start") (loop $on (br $on)))"#);
    let mut instance = scene.launch(&text).await.expect("it starts");
    let end = tokio::time::timeout(LONG, instance.stop()).await.expect("it stops at once");
    assert_eq!(end, ExitCause::StopRequested);
    assert_eq!(instance.exited().await, ExitCause::StopRequested, "the same answer again");
}

#[tokio::test]
async fn a_spinner_ends_at_its_wall_time() {
    let Some(executor) = executor() else { return };
    let limits = Limits { wall_time_max: Some(Duration::from_secs(1)), ..Limits::default() };
    let scene = Scene { limits, ..Scene::new(&executor) };
    let end = scene.run(&program(r#"(func (export "_start") (loop $on (br $on)))"#)).await;
    assert_eq!(end.to_string(), "wall-time limit: 1s are allowed and the run took longer");
}

#[tokio::test]
async fn a_host_without_kvm_is_told_why_at_every_step() {
    let executor = Config { kvm: "/dev/no-such-kvm".into(), ..Config::default() }.build();
    let reason = executor.capacity().unavailable.clone().expect("it can't be used");
    assert!(reason.contains("/dev/no-such-kvm") && reason.contains("modprobe"), "{reason}");
    let error =
        Scene::new(&executor).launch(&program(r#"(func (export "_start"))"#)).await.err().expect("refused");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&reason), "{error}");
}

#[tokio::test]
async fn what_is_not_offered_is_refused_by_name() {
    let Some(executor) = executor() else { return };
    let text = r#"(component (import "acme:db/sql@1.2.3" (instance))
        (instance $run) (export "wasi:cli/run@0.2.3" (instance $run)))"#;
    let error = Scene::new(&executor).launch(text).await.err().expect("refused");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("acme:db/sql@1.2.3"), "{error}");
}

#[tokio::test]
async fn what_was_compiled_is_kept_for_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let Some(_) = executor() else { return };
    let config =
        Config { cache_dir: Some(directory.path().to_owned()), pool_machines_max: 0, ..Config::default() };
    let entries = || std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let text = program(r#"(func (export "_start") (call $exit (i32.const 9)))"#);
    for _ in 0..2 {
        let executor = config.clone().build();
        assert_eq!(Scene::new(&executor).run(&text).await, ExitCause::Exited { code: 9 });
        assert_eq!(entries().filter(|path| path.extension().is_some_and(|end| end == "cwasm")).count(), 1);
    }
    // One that was tampered with is not run, but made again.
    let entry = entries().find(|path| path.extension().is_some_and(|end| end == "cwasm")).unwrap();
    let mut bytes = std::fs::read(&entry).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&entry, &bytes).unwrap();
    let executor = config.build();
    assert_eq!(Scene::new(&executor).run(&text).await, ExitCause::Exited { code: 9 });
    assert_ne!(std::fs::read(&entry).unwrap(), bytes);
}
