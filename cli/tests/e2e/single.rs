//! `wasmatrix run` and what needs no server.

use std::io::Write as _;

use wasmatrix_tests::executors;

use crate::{guest, run, text, wasmatrix};

#[test]
fn a_job_has_its_arguments_its_output_and_its_exit_code() {
    for executor in executors() {
        let executor = executor.as_str();
        let output = run(&["run", "--executor", executor, &guest("hello"), "one", "two words"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("two words"), "{}", text(&output.stdout));
        let output = run(&["run", "--executor", executor, &guest("probe"), "out said", "exit 1"]);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), "said\n"));
    }
}

#[test]
fn standard_input_passes_through_byte_for_byte() {
    for executor in executors() {
        let executor = executor.as_str();
        let mut process = wasmatrix()
            .args(["run", "--executor", executor, &guest("probe"), "stdin"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        process.stdin.take().unwrap().write_all(b"\x00\xff\n").unwrap();
        let output = process.wait_with_output().unwrap();
        assert_eq!(text(&output.stdout), "read 0x00ff0a\n");
    }
}

#[test]
fn a_crash_says_what_and_where_and_a_denial_is_no_crash() {
    let trapped = run(&["run", &guest("trap"), "divide"]);
    assert_eq!(trapped.status.code(), Some(134));
    let said = text(&trapped.stderr);
    assert!(said.contains("integer divide by zero") && said.contains("trap::divide"), "{said}");
    let denied = run(&["run", &guest("probe"), "kv.get default k"]);
    assert_eq!((denied.status.code(), text(&denied.stdout).as_str()), (Some(0), "denied\n"));
    let granted = run(&["run", "--grant", "kv:read", "--grant", "kv:write", &guest("counter")]);
    assert_eq!(text(&granted.stdout), "visits: 1\n");
}

#[test]
fn limits_have_words_and_codes_of_their_own() {
    let hog = run(&["run", "--memory", "32MiB", &guest("hog")]);
    assert!(text(&hog.stderr).contains("memory limit"), "{}", text(&hog.stderr));
    let spin = run(&["run", "--wall-time", "100ms", &guest("spin")]);
    assert!(text(&spin.stderr).contains("wall-time limit"), "{}", text(&spin.stderr));
    assert_ne!(hog.status.code(), spin.status.code());
}

#[test]
fn what_cannot_run_is_refused_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    for (path, words) in [
        (directory.path().display().to_string(), "directory"),
        (directory.path().join("none.wasm").display().to_string(), "no such file"),
        (file("empty.wasm", b""), "empty"),
        (file("text.wasm", b"hello"), "not"),
        (file("elf.wasm", b"\x7fELF\x02\x01\x01\0\0\0\0\0"), "ELF"),
        (file("reactor.wasm", b"\0asm\x01\0\0\0"), "_start"),
    ] {
        for executor in executors() {
            let executor = executor.as_str();
            let output = run(&["run", "--executor", executor, &path]);
            assert!(!output.status.success());
            let said = text(&output.stderr);
            assert!(said.contains(words) && said.starts_with("error: "), "{path}: {said}");
        }
    }
}

#[test]
fn a_typo_is_met_with_the_nearest_word() {
    let directory = tempfile::tempdir().unwrap();
    let app = directory.path().join("app.toml");
    std::fs::write(&app, "[[instance]]\nname = \"a\"\nfile = \"a.wasm\"\nexecuter = \"wasmtime\"\n").unwrap();
    let output = run(&["validate", "-f", &app.display().to_string()]);
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(said.contains(":4:") && said.contains("executer") && said.contains("`executor`"), "{said}");
    let output = run(&["run", "--grant", "kv:reed", &guest("hello")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("kv:read"), "{}", text(&output.stderr));
}

#[test]
fn without_a_server_the_client_says_how_to_start_one() {
    let output = run(&["--addr", "http://127.0.0.1:1", "ps"]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("wasmatrix up"), "{}", text(&output.stderr));
}

#[test]
fn the_doctor_tells_what_this_host_can_run() {
    let output = run(&["doctor", "-o", "json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report.to_string().contains("wasmtime"), "{report}");
}

#[test]
fn completions_and_manual_pages_are_written() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&run(&["completion", shell]).stdout).contains("wasmatrix"));
    }
    let directory = tempfile::tempdir().unwrap();
    assert!(run(&["man", &directory.path().display().to_string()]).status.success());
    assert!(directory.path().join("wasmatrix.1").exists());
}
