//! How runs end: codes, traps, stops.

use wasmatrix_executor_api::Output;
use wasmatrix_model::ExitCause;

use crate::harness::{Job, artifact, config, module};

const SPIN: &str = r#"(func (export "_start") (loop (br 0)))"#;

#[tokio::test]
async fn hello() {
    let job = Job::new(module(
        r#"(data (i32.const 100) "hello\n")
        (func (export "_start") (call $write (i32.const 1) (i32.const 100) (i32.const 6)))"#,
    ));
    assert_eq!(job.run().await, ExitCause::Exited { code: 0 });
    assert_eq!(job.console.text(Output::Stdout), "hello\n");
}

#[tokio::test]
async fn exit_codes_come_through() {
    for code in [0, 1, 33, 125] {
        let job = Job::new(module(&format!(r#"(func (export "_start") (call $exit (i32.const {code})))"#)));
        assert_eq!(job.run().await, ExitCause::Exited { code });
    }
}

#[tokio::test]
async fn a_trap_has_its_name_and_a_backtrace() {
    let job = Job::new(artifact(
        r#"(module $calc
            (func $divide (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
            (func $_ZN4demo4half17h0123456789abcdefE (param i32) (result i32)
                (call $divide (local.get 0) (i32.const 0)))
            (func (export "_start") (drop (call $_ZN4demo4half17h0123456789abcdefE (i32.const 1)))))"#,
    ));
    let ExitCause::Trapped { trap, backtrace } = job.run().await else { panic!("it divides by zero") };
    assert_eq!(trap, "wasm trap: integer divide by zero");
    let functions: Vec<&str> = backtrace.iter().map(|frame| frame.function.as_str()).collect();
    assert_eq!(functions[..3], ["divide", "demo::half", "func[2]"]);
    assert_eq!(backtrace[0].module.as_deref(), Some("calc"));
    assert!(backtrace[0].offset.is_some());
}

#[tokio::test]
async fn a_backtrace_is_bounded() {
    let job = Job::new(artifact(r#"(module (func $deep (export "_start") (call $deep)))"#));
    let ExitCause::Trapped { trap, backtrace } = job.run().await else { panic!("it recurses without end") };
    assert_eq!(trap, "wasm trap: call stack exhausted");
    assert_eq!(backtrace.len(), 64);
}

#[tokio::test]
async fn a_spinner_is_stopped_at_once_and_twice() {
    let executor = config().build().unwrap();
    let mut run = Job::new(module(SPIN)).start(&executor).await.unwrap();
    assert_eq!(run.stop().await, ExitCause::StopRequested);
    assert_eq!(run.stop().await, ExitCause::StopRequested);
    assert_eq!(run.exited().await, ExitCause::StopRequested);
    assert_eq!(run.meter().usage().memory_bytes, 0);
}
