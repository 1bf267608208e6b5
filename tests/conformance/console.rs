//! Arguments, environment, configuration, standard streams, the log, exit codes.

use wasmatrix_model::{ExitCause, LogLevel};

use crate::{everywhere, probe};

#[tokio::test]
async fn arguments_arrive_whole_and_in_order() {
    assert_eq!(probe(&[], &["args", "out a b"]).await, ["args out a b", "a b"]);
}

#[tokio::test]
async fn the_environment_is_what_was_given_and_nothing_of_the_host() {
    assert_eq!(probe(&[], &["env", "env PATH", "env HOME"]).await, ["none", "none", "none"]);
    let outcome = everywhere(
        |mut case| {
            case.env.insert("COLOUR".to_owned(), "blue".to_owned());
            case.args(["env", "env COLOUR"])
        },
        "probe",
    )
    .await;
    assert_eq!(outcome.stdout, "COLOUR=blue\nsome blue\n");
}

#[tokio::test]
async fn configuration_is_read_through_its_interface() {
    let outcome = everywhere(
        |mut case| {
            case.config.insert("colour".to_owned(), "blue".to_owned());
            case.config.insert("shape".to_owned(), "round".to_owned());
            case.args(["config colour", "config size", "config-all"])
        },
        "probe",
    )
    .await;
    assert_eq!(outcome.stdout, "some blue\nnone\ncolour=blue shape=round\n");
}

#[tokio::test]
async fn the_log_is_kept_apart_from_the_output() {
    let outcome = everywhere(|case| case.args(["log warn it is late", "err oh", "out hi"]), "probe").await;
    assert_eq!(outcome.stdout, "ok\nok\nhi\n");
    assert_eq!(outcome.stderr, "oh\n");
    assert_eq!(outcome.log, [(LogLevel::Warn, "probe".to_owned(), "it is late".to_owned())]);
}

#[tokio::test]
async fn standard_input_is_read_to_its_end() {
    let text: String = (0..20_000).map(|line| format!("line {line}\n")).collect();
    let outcome = everywhere(
        |mut case| {
            case.stdin = text.clone().into_bytes();
            case.args(["line", "stdin", "line"])
        },
        "probe",
    )
    .await;
    let mut lines = outcome.stdout.lines();
    assert_eq!(lines.next(), Some("line line 0"));
    let rest = lines.next().expect("the rest of the input");
    assert_eq!(rest.len(), "read 0x".len() + 2 * (text.len() - "line 0\n".len()));
    assert_eq!(lines.next(), Some("end"));
}

#[tokio::test]
async fn much_output_arrives_whole() {
    let outcome =
        everywhere(|case| case.args([format!("repeat 3000 out {}", "x".repeat(1000))]), "probe").await;
    assert_eq!(outcome.stdout.len(), 3000 * 1001);
}

#[tokio::test]
async fn exit_codes_arrive() {
    let code =
        async |steps: &[&str]| everywhere(|case| case.args(steps.iter().copied()), "probe").await.cause;
    assert_eq!(code(&["exit 0"]).await, ExitCause::Exited { code: 0 });
    assert_eq!(code(&["exit 1"]).await, ExitCause::Exited { code: 1 });
    assert_eq!(
        code(&["out what was said before the exit is not lost", "exit 0"]).await,
        ExitCause::Exited { code: 0 }
    );
}

#[tokio::test]
async fn a_preview_1_module_runs_like_a_component() {
    let (module, component) = (
        everywhere(|case| case.args(["a", "b"]), "hello-preview1").await,
        everywhere(|case| case.args(["a", "b"]), "hello").await,
    );
    assert_eq!(module.stdout, component.stdout);
    assert_eq!(module.cause, ExitCause::Exited { code: 0 });
}

#[tokio::test]
async fn clocks_go_and_chance_differs() {
    // Outcomes differ from run to run, so each executor is asked alone.
    for executor in wasmatrix_tests::executors() {
        let node = wasmatrix_tests::Node::new().await;
        let case = wasmatrix_tests::Case::of(*executor, "probe").args([
            "clock",
            "random 32",
            "random 32",
            "sleep 1",
        ]);
        let outcome = node.run(case.clone()).await.unwrap();
        let again = node.run(case).await.unwrap();
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let (first, second) = (lines(&outcome.stdout), lines(&again.stdout));
        assert_eq!(first.len(), 4, "{first:?}");
        assert_ne!(first[1], first[2]);
        assert!(!second.contains(&first[1]), "chance repeated itself in another run");
        assert!(first[0].starts_with("wall 1"), "{}", first[0]);
    }
}
