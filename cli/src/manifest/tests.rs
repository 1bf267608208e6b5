//! What an `app.toml` may hold, and what is said of one that does not.

use std::{fs, time::Duration};

use wasmatrix_model::{OnNodeLoss, RestartMode};

use super::*;

/// What is wrong with `text`, as `LINE:COLUMN: MESSAGE`.
fn problems(text: &str) -> Vec<String> {
    let problems = parse("app.toml", text).expect_err(text);
    problems
        .iter()
        .map(|problem| format!("{}:{}: {}", problem.place.line, problem.place.column, problem.message))
        .collect()
}

/// The one thing that is wrong with an instance that has this beside its name and file, which take lines 2 and 3.
fn problem(rest: &str) -> String {
    let found = problems(&format!("[[instance]]\nname = \"a\"\nfile = \"a.wasm\"\n{rest}\n"));
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

#[test]
fn a_whole_instance_is_read_whole() {
    let text = r#"
        [[instance]]
        name = "counter"
        file = "counter.wasm"
        executor = "microvm"
        args = ["a", "b"]
        grants = ["kv:read", "kv:write:settings/*"]
        env = { K = "V" }
        config = { C = "D" }
        [instance.limits]
        memory = "64MiB"
        wall_time = "10s"
        cpu = "50%"
        table_elements = 1000
        handles = 0x40
        log_lines_per_second = 10
        log_line_bytes = "1KiB"
        log_lines_kept = 20
        [instance.restart]
        policy = "on-failure"
        restarts_max = 3
        backoff_initial = "2s"
        backoff_max = "1m"
        jitter_percent = 0
        reset_after = "1h"
        [instance.placement]
        labels = { zone = "eu-1" }
        on_node_loss = "restart-elsewhere"

        [[instance]]
        name = "plain"
        file = "plain.wasm"

        [[instance]]
        name = "bound"
        file = "plain.wasm"
        [instance.placement]
        node = "b"
    "#;
    let mut drafts = parse("app.toml", text).unwrap().into_iter();
    let spec = drafts.next().unwrap().specs(Digest::of(b"")).unwrap().remove(0);
    assert_eq!(spec.executor, ExecutorKind::Microvm);
    assert_eq!(spec.args, ["a", "b"]);
    assert_eq!(spec.env["K"], "V");
    assert_eq!(spec.config["C"], "D");
    assert_eq!(
        spec.grants.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["kv:read", "kv:write:settings"]
    );
    assert_eq!(
        spec.limits,
        Limits {
            memory_bytes_max: 64 << 20,
            table_elements_max: 1000,
            handles_max: 64,
            wall_time_max: Some(Duration::from_secs(10)),
            cpu_millis_per_second: 500,
            log_lines_per_second: 10,
            log_line_bytes_max: 1024,
            log_lines_kept: 20,
        }
    );
    assert_eq!(
        spec.restart,
        RestartPolicy {
            mode: RestartMode::OnFailure,
            backoff_initial: Duration::from_secs(2),
            backoff_max: Duration::from_secs(60),
            jitter_percent: 0,
            restarts_max: Some(3),
            reset_after: Duration::from_secs(3600),
        }
    );
    assert_eq!(spec.placement.labels.to_string(), "zone=eu-1");
    assert_eq!(spec.placement.on_node_loss, OnNodeLoss::RestartElsewhere);
    let plain = drafts.next().unwrap();
    assert_eq!(plain.file, Path::new("plain.wasm"));
    let spec = plain.specs(Digest::of(b"")).unwrap().remove(0);
    assert_eq!(spec, InstanceSpec::new("plain".parse().unwrap(), Digest::of(b"")));
    let spec = drafts.next().unwrap().specs(Digest::of(b"")).unwrap().remove(0);
    assert_eq!(spec.placement.node, Some("b".parse().unwrap()));
}

#[test]
fn an_unknown_key_is_told_with_its_place_and_the_nearest_name() {
    assert_eq!(
        problem("excutor = \"wasmtime\""),
        "4:1: unknown key `excutor` in [[instance]]: did you mean `executor`?"
    );
    assert_eq!(problem("  grant = []"), "4:3: unknown key `grant` in [[instance]]: did you mean `grants`?");
    assert_eq!(
        problem("[instance.limits]\nmemory_bytes = \"1MiB\""),
        "5:1: unknown key `memory_bytes` in [instance.limits]: did you mean `memory`?"
    );
    assert_eq!(
        problem("[instance.restart]\nbackoff-inital = \"1s\""),
        "5:1: unknown key `backoff-inital` in [instance.restart]: did you mean `backoff_initial`?"
    );
    let far = problem("zzz = 1");
    assert!(
        far.starts_with("4:1: unknown key `zzz` in [[instance]]: there is: name, file, executor"),
        "{far}"
    );
    assert!(problems("[[instnce]]\n")[0].contains("did you mean `instance`?"));
}

#[test]
fn a_wrong_type_is_told_with_its_place() {
    let cases = [
        ("executor = 1", "4:12: `executor` must be text in quotes; this is of type integer"),
        ("args = \"a\"", "4:8: `args` must be a list of texts, e.g. [\"a\", \"b\"]; this is of type text"),
        ("args = [\"a\", 2]", "4:14: `args` must be text in quotes; this is of type integer"),
        ("env = [\"A=1\"]", "4:7: `env` must be a table; this is of type array"),
        ("env = { A = 1 }", "4:13: `env.A` must be text in quotes; this is of type integer"),
        ("limits = true", "4:10: `limits` must be a table; this is of type boolean"),
        ("limits = { memory = 64 }", "4:21: `memory` must be text in quotes; this is of type integer"),
        ("limits = { handles = \"64\" }", "4:22: `handles` must be a whole number; this is of type text"),
        ("restart = \"always\"", "4:11: `restart` must be a table; this is of type text"),
    ];
    for (rest, expected) in cases {
        assert_eq!(problem(rest), expected);
    }
}

#[test]
fn every_bad_value_is_told_with_its_place() {
    let cases = [
        ("executor = \"docker\"", "4:12:", "wasmtime or microvm"),
        ("grants = [\"kv:read\", \"kv:fly\"]", "4:22:", "kv:read, kv:write or kv:delete"),
        ("grants = [\"disk:read\"]", "4:11:", "there is: kv"),
        ("limits = { memory = \"1KiB\" }", "4:21:", "out of range"),
        ("limits = { memory = \"-1MiB\" }", "4:21:", "64MiB"),
        ("limits = { memory = \"99999999EiB\" }", "4:21:", "more bytes"),
        ("limits = { wall_time = \"0s\" }", "4:24:", "out of range"),
        ("limits = { wall_time = \"-1s\" }", "4:24:", "negative"),
        ("limits = { wall_time = \"10\" }", "4:24:", "unit"),
        ("limits = { cpu = \"101%\" }", "4:18:", "out of range"),
        ("limits = { cpu = \"x\" }", "4:18:", "share of a core"),
        ("limits = { table_elements = 0 }", "4:29:", "out of range"),
        ("limits = { handles = -1 }", "4:22:", "out of range"),
        ("limits = { handles = 99999999999 }", "4:22:", "out of range"),
        ("limits = { log_lines_per_second = 0 }", "4:35:", "out of range"),
        ("limits = { log_line_bytes = \"1GiB\" }", "4:29:", "out of range"),
        ("limits = { log_lines_kept = 0 }", "4:29:", "out of range"),
        ("restart = { policy = \"sometimes\" }", "4:22:", "never, on-failure or always"),
        ("restart = { backoff_initial = \"0s\" }", "4:31:", "1ms or more"),
        (
            "restart = { backoff_initial = \"2s\", backoff_max = \"1s\" }",
            "4:51:",
            "less than backoff_initial",
        ),
        ("restart = { jitter_percent = 101 }", "4:30:", "0 to 100"),
        ("restart = { jitter_percent = 300 }", "4:30:", "out of range"),
        ("restart = { restarts_max = -1 }", "4:28:", "out of range"),
        ("restart = { reset_after = \"1 fortnight\" }", "4:27:", "no duration"),
    ];
    for (rest, place, message) in cases {
        let problem = problem(rest);
        assert!(problem.starts_with(place), "{rest}: {problem}");
        assert!(problem.contains(message), "{rest}: {problem}");
    }
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let text = "[[instance]]\nname = \"BAD\"\nfle = \"a.wasm\"\n[instance.limits]\nmemory = \"no\"\nmemroy = \"1MiB\"\n\
                [[instance]]\nfile = \"b.wasm\"\n";
    let found = problems(text);
    let starts = [
        "1:1: this [[instance]] has no `file`",
        "2:8: `name`",
        "3:1: unknown key `fle`",
        "5:10: `memory`",
        "6:1: unknown key `memroy` in [instance.limits]: did you mean `memory`?",
        "7:1: this [[instance]] has no `name`",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (problem, start) in found.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem} should start with {start}");
    }
    let shown = parse("dir/app.toml", text).unwrap_err().to_string();
    assert!(shown.starts_with("dir/app.toml has 6 problems\n  dir/app.toml:1:1: "), "{shown}");
}

#[test]
fn a_name_that_is_given_twice_names_the_first() {
    let text = "[[instance]]\nname = \"a\"\nfile = \"a\"\n\n[[instance]]\nname = \"a\"\nfile = \"b\"\n";
    assert_eq!(problems(text), ["5:1: the name `a` is taken by the instance at line 1"]);
}

#[test]
fn what_is_no_toml_is_told_with_its_place_and_nothing_else() {
    let found = problems("[[instance]]\nname = \"a\nfile = \"a.wasm\"\nzzz = 1\n");
    assert!(found[0].starts_with("2:"), "{found:?}");
    assert!(found.iter().all(|problem| !problem.contains("zzz")), "{found:?}");
    let twice = problems("[[instance]]\nname = \"a\"\nname = \"b\"\n");
    assert!(twice[0].starts_with("3:1:"), "{twice:?}");
}

#[test]
fn a_file_of_no_instances_is_told() {
    assert_eq!(problems(""), ["1:1: there is no [[instance]] in it"]);
    assert!(problems("[instance]\nname = \"a\"\n")[0].contains("two brackets"));
}

#[test]
fn columns_count_characters() {
    let found = problems("[[instance]]\nname = \"a\"\nfile = \"a\"\nenv = { \"äöü\" = \"ß\", B = 1 }\n");
    assert!(found[0].starts_with("4:26:"), "{found:?}");
}

/// A module whose `_start` does nothing.
const COMMAND: &[u8] =
    b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x0a\x01\x06_start\0\0\x0a\x04\x01\x02\0\x0b";

#[test]
fn artifacts_are_found_beside_the_file_and_all_that_are_missing_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let app = dir.path().join("app.toml");
    fs::write(dir.path().join("a.wasm"), COMMAND).unwrap();
    let one = |name: &str, file: &str| format!("[[instance]]\nname = \"{name}\"\nfile = \"{file}\"\n");
    fs::write(&app, one("a", "a.wasm")).unwrap();
    let entries = load(&app).unwrap();
    assert_eq!(entries[0].spec.digest, Digest::of(COMMAND));
    assert_eq!(entries[0].artifact.digest, entries[0].spec.digest);

    fs::write(&app, one("a", "a.wasm") + &one("b", "b.wasm") + &one("c", ".")).unwrap();
    let error = load(&app).unwrap_err().to_string();
    assert!(error.contains("app.toml:6:8: ") && error.contains("b.wasm: there is no such file"), "{error}");
    assert!(error.contains("app.toml:9:8: ") && error.contains("is a directory"), "{error}");

    fs::write(dir.path().join("text.wasm"), "#!/bin/sh\n").unwrap();
    fs::write(&app, one("a", "a.wasm") + &one("b", "text.wasm")).unwrap();
    let error = load(&app).unwrap_err().to_string();
    assert!(error.contains("has 1 problem\n") && error.contains("app.toml:6:8: text.wasm: "), "{error}");
}

#[test]
fn replicas_are_instances_of_one_group_with_names_of_their_own() {
    let text = "[[instance]]\nname = \"web\"\nfile = \"web.wasm\"\nreplicas = 2\n";
    let specs = parse("app.toml", text).unwrap().remove(0).specs(Digest::of(b"")).unwrap();
    let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(names, ["web-0", "web-1"]);
    assert!(specs.iter().all(|spec| spec.placement.group == Some("web".parse().unwrap())));
    let clash = format!("{text}[[instance]]\nname = \"web-1\"\nfile = \"web.wasm\"\n");
    assert_eq!(problems(&clash), ["5:1: the name `web-1` is taken by the instance at line 1"]);
    for bad in ["0", "1001", "-1", "4294967296"] {
        assert!(problem(&format!("replicas = {bad}")).starts_with("4:12: `replicas`: "), "{bad}");
    }
}

#[test]
fn a_placement_that_is_none_is_told_with_its_place() {
    let cases = [
        ("node = \"B\"", "5:8: `node`: "),
        ("labels = { \"a b\" = \"c\" }", "5:10: `labels`: `a b=c` is no label"),
        (
            "on_node_loss = \"move\"",
            "5:16: `on_node_loss`: `move` is no answer: write leave or restart-elsewhere",
        ),
        ("label = {}", "5:1: unknown key `label` in [instance.placement]: did you mean `labels`?"),
    ];
    for (line, expected) in cases {
        let found = problem(&format!("[instance.placement]\n{line}"));
        assert!(found.starts_with(expected), "{found}");
    }
}
