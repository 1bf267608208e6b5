//! What the command line takes, and that its help keeps its promises.

use std::time::Duration;

use clap::error::ErrorKind;
use wasmatrix_model::{Digest, RestartMode, failure::Invalid};

use super::*;

fn parsed(line: &str) -> Cli {
    parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(line: &str) -> clap::Error {
    parse_from(line.split_whitespace()).expect_err(line)
}

fn every_command(command: &clap::Command, visit: &mut impl FnMut(&clap::Command)) {
    visit(command);
    command.get_subcommands().for_each(|sub| every_command(sub, visit));
}

#[test]
fn clap_finds_the_definition_sound() {
    command().debug_assert();
}

#[test]
fn every_flag_has_its_twin_in_the_environment_and_a_word_of_help() {
    let mut flags = 0;
    every_command(&command(), &mut |command| {
        for arg in command.get_arguments() {
            let place = format!("{} {}", command.get_name(), arg.get_id());
            assert!(arg.get_help().is_some(), "{place} has no help");
            let Some(long) = arg.get_long() else { continue };
            if ["help", "version", INSECURE].contains(&long) {
                continue;
            }
            flags += 1;
            let twin = arg.get_env().unwrap_or_else(|| panic!("{place} has no twin"));
            assert_eq!(twin, format!("WASMATRIX_{}", long.to_uppercase().replace('-', "_")).as_str());
        }
    });
    assert!(flags > 40, "only {flags} flags were seen");
}

#[test]
fn every_verb_teaches_with_an_example() {
    every_command(&command(), &mut |command| {
        if command.has_subcommands() || command.get_name() == "exit-codes" {
            return;
        }
        let after =
            command.get_after_help().unwrap_or_else(|| panic!("{} has no example", command.get_name()));
        assert!(after.to_string().contains("Example"), "{}", command.get_name());
    });
}

#[test]
fn every_exit_code_is_documented() {
    use crate::{
        error::Exit,
        run::{RunExit, Signal},
    };
    let documented = |code: u8| {
        let found = EXIT_CODES.lines().any(|line| line.trim_start().starts_with(&format!("{code}  ")));
        assert!(found, "{code} is not in --help");
    };
    for exit in [
        Exit::Ok,
        Exit::Failed,
        Exit::Usage,
        Exit::NotFound,
        Exit::Denied,
        Exit::Unavailable,
        Exit::Artifact,
        Exit::Limit,
        Exit::Conflict,
    ] {
        documented(exit as u8);
    }
    for exit in [
        RunExit::WallTime,
        RunExit::Fault,
        RunExit::Artifact,
        RunExit::NoFile,
        RunExit::Interrupted(Signal::Interrupt),
        RunExit::Trapped,
        RunExit::Limit,
    ] {
        documented(exit.code());
    }
}

#[test]
fn everything_after_the_file_is_the_guests() {
    let line = "wasmatrix run --grant kv:read,kv:write --grant kv:delete:b/x* --quiet app.wasm --grant nothing -o x -- y";
    let cli = parsed(line);
    let Verb::Run(run) = cli.verb else { panic!("{cli:?}") };
    assert_eq!(run.program, ["app.wasm", "--grant", "nothing", "-o", "x", "--", "y"]);
    let grants: Vec<String> = run.definition.grants.iter().map(ToString::to_string).collect();
    assert_eq!(grants, ["kv:read", "kv:write", "kv:delete:b/x*"]);
    assert!(cli.global.quiet);
    assert_eq!(run.kv, KvPlace::Memory);
}

#[test]
fn a_flag_that_run_does_not_know_is_not_taken_for_the_file() {
    assert_eq!(refused("wasmatrix run --bogus app.wasm").kind(), ErrorKind::UnknownArgument);
    assert_eq!(refused("wasmatrix run").kind(), ErrorKind::MissingRequiredArgument);
}

#[test]
fn start_takes_flags_on_both_sides_of_the_file() {
    let cli = parsed(
        "wasmatrix start --name a app.wasm --memory 64MiB --wall-time 10s --cpu 50% --restart on-failure \
         --restart-max 3 --backoff-initial 10m -- x --y",
    );
    let Verb::Start(start) = cli.verb else { panic!("{cli:?}") };
    assert_eq!(start.args, ["x", "--y"]);
    let spec = start.definition.spec(start.default_name(), Digest::of(b""), start.args.clone()).unwrap();
    assert_eq!(spec.name.as_str(), "a");
    assert_eq!(spec.limits.memory_bytes_max, 64 << 20);
    assert_eq!(spec.limits.wall_time_max, Some(Duration::from_secs(10)));
    assert_eq!(spec.limits.cpu_millis_per_second, 500);
    let policy = start.restart.policy();
    assert_eq!(policy.mode, RestartMode::OnFailure);
    assert_eq!(policy.restarts_max, Some(3));
    assert_eq!(policy.backoff_max, Duration::from_secs(600), "a long first wait lifts the default maximum");
    assert_eq!(policy.validate(), Ok(()));
}

#[test]
fn flags_that_are_left_out_mean_the_models_defaults() {
    let cli = parsed("wasmatrix start My_App.wasm");
    let Verb::Start(start) = cli.verb else { panic!("{cli:?}") };
    let spec = start.definition.spec(start.default_name(), Digest::of(b""), Vec::new()).unwrap();
    let mut expected = wasmatrix_model::InstanceSpec::new("my-app".parse().unwrap(), Digest::of(b""));
    expected.restart = start.restart.policy();
    assert_eq!(spec, expected);
    assert_eq!(start.restart.policy(), wasmatrix_model::RestartPolicy::default());
}

#[test]
fn a_limit_out_of_range_names_itself() {
    let invalid = |flags: &str| -> Invalid {
        let cli = parsed(&format!("wasmatrix start {flags} app.wasm"));
        let Verb::Start(start) = cli.verb else { panic!("{cli:?}") };
        start.definition.spec(start.default_name(), Digest::of(b""), Vec::new()).unwrap_err()
    };
    assert_eq!(invalid("--memory 1KiB").field, "limits.memory");
    assert_eq!(invalid("--memory 5GiB").field, "limits.memory");
    assert_eq!(invalid("--wall-time 0s").field, "limits.wall_time");
    assert_eq!(invalid("--cpu 200%").field, "limits.cpu_millis_per_second");
    assert_eq!(invalid("--log-line-bytes 1EiB").field, "limits.log_line_bytes");
}

#[test]
fn values_that_are_none_are_refused_with_what_to_write() {
    let cases = [
        ("run --memory lots app.wasm", "64MiB"),
        ("run --wall-time=-1s app.wasm", "negative"),
        ("run --grant kv:fly app.wasm", "kv:read, kv:write or kv:delete"),
        ("run --env A app.wasm", "NAME=VALUE"),
        ("run --executor docker app.wasm", "wasmtime or microvm"),
        ("run --name UPPER app.wasm", "lower-case"),
        ("start --restart sometimes app.wasm", "on-failure"),
        ("up --listen nowhere", "--listen"),
        ("up --lost-after soon", "500ms"),
        ("join nowhere", "10.0.0.1:7118"),
        ("join 10.0.0.1:1 --token a --token-file b", "cannot be used with"),
        ("control-plane --static b=http://x:1 --etcd http://y:2", "cannot be used with"),
        ("run --cache-dir d --no-cache app.wasm", "cannot be used with"),
        ("provider start http", "there is: kv"),
        ("start --label zone app.wasm", "NAME=VALUE"),
        ("start --replicas 0 app.wasm", "1..=1000"),
        ("start --on-node-loss move app.wasm", "restart-elsewhere"),
        ("ps -o xml", "json"),
        ("ps --log-format loud", "auto, text or json"),
    ];
    for (line, expected) in cases {
        let error = refused(&format!("wasmatrix {line}"));
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(expected), "{line}: {error}");
    }
}

#[test]
fn lists_and_shows_have_their_aliases() {
    for line in ["ps", "list", "ls"] {
        assert!(matches!(parsed(&format!("wasmatrix {line}")).verb, Verb::Ps(_)), "{line}");
    }
    assert!(matches!(parsed("wasmatrix node ls").verb, Verb::Node(NodeVerb::List)));
    let cli = parsed("wasmatrix ps -o json --addr http://127.0.0.1:1 --timeout 1s");
    assert_eq!(cli.global.output, OutputFormat::Json);
    assert_eq!(cli.global.timeout, Some(Duration::from_secs(1)));
}
