//! Standard input, output and error, arguments and terminals.

use wasmatrix_executor_api::Output;
use wasmatrix_model::ExitCause;

use crate::harness::{Job, Memory, artifact, config, module};

#[tokio::test]
async fn input_comes_in_and_goes_out_again() {
    let job = Job {
        console: Memory::with_input("some words"),
        ..Job::new(module(
            r#"(func (export "_start")
                (loop
                    (i32.store (i32.const 16) (i32.const 100))
                    (i32.store (i32.const 20) (i32.const 4))
                    (drop (call $fd_read (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 24)))
                    (if (i32.load (i32.const 24)) (then
                        (call $write (i32.const 2) (i32.const 100) (i32.load (i32.const 24)))
                        (br 1)))))"#,
        ))
    };
    assert_eq!(job.run().await, ExitCause::Exited { code: 0 });
    assert_eq!(job.console.text(Output::Stderr), "some words");
    assert_eq!(job.console.text(Output::Stdout), "");
}

#[tokio::test]
async fn much_output_is_all_there_and_in_order_when_the_run_has_ended() {
    let job = Job::new(module(
        r#"(data (i32.const 100) "0123456789abcde\n")
        (func (export "_start") (local $n i32)
            (loop
                (call $write (i32.const 1) (i32.const 100) (i32.const 16))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if 0 (i32.lt_u (local.get $n) (i32.const 20000))))
            unreachable)"#,
    ));
    assert!(matches!(job.run().await, ExitCause::Trapped { .. }));
    assert_eq!(job.console.text(Output::Stdout), "0123456789abcde\n".repeat(20_000));
}

#[tokio::test]
async fn output_arrives_while_the_guest_goes_on() {
    let executor = config().build().unwrap();
    let job = Job::new(module(
        r#"(data (i32.const 100) "up\n")
        (func (export "_start") (call $write (i32.const 1) (i32.const 100) (i32.const 3)) (loop (br 0)))"#,
    ));
    let _run = job.start(&executor).await.unwrap();
    job.console.spoken().await;
    assert_eq!(job.console.text(Output::Stdout), "up\n");
}

#[tokio::test]
async fn arguments_and_environment_are_those_of_the_launch() {
    let mut job = Job::new(artifact(
        r#"(module
            (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "environ_sizes_get" (func $env (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func (export "_start")
                (drop (call $args (i32.const 0) (i32.const 4)))
                (drop (call $env (i32.const 8) (i32.const 12)))
                (call $exit (i32.add (i32.mul (i32.load (i32.const 0)) (i32.const 10)) (i32.load (i32.const 8))))))"#,
    ));
    job.args = vec!["job".into(), "a".into(), "b".into()];
    job.env = [("K".to_owned(), "V".to_owned())].into();
    assert_eq!(job.run().await, ExitCause::Exited { code: 31 });
}

#[tokio::test]
async fn a_terminal_is_one_only_if_the_console_says_so() {
    for terminal in [false, true] {
        let job = Job {
            console: Memory::on_terminal(terminal),
            // A terminal is a character device, to preview 1.
            ..Job::new(artifact(
                r#"(module
                    (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $stat (param i32 i32) (result i32)))
                    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                    (memory (export "memory") 1)
                    (func (export "_start")
                        (drop (call $stat (i32.const 1) (i32.const 8)))
                        (call $exit (i32.eq (i32.load8_u (i32.const 8)) (i32.const 2)))))"#,
            ))
        };
        assert_eq!(job.run().await, ExitCause::Exited { code: u8::from(terminal) });
    }
}
