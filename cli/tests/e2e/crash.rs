//! `kill -9` at any moment: what was acknowledged is on disk, and no instance outlives the process.

use std::io::{BufRead as _, BufReader};

use crate::{Up, guest, run, text, wasmatrix};

#[test]
fn what_was_written_survives_and_instances_do_not() {
    let directory = tempfile::tempdir().unwrap();
    for round in 1..=3_u32 {
        let up = Up::start(directory.path());
        assert_eq!(up.tell(&["ps", "-o", "name"]), "", "an instance survived");
        // A guest that writes without end, and says each number once it is acknowledged.
        let endless = "repeat 1000000 kv.incr default n";
        up.tell(&[
            "start",
            &guest("probe"),
            "--name",
            "writer",
            "--grant",
            "kv:read,kv:write",
            "--",
            endless,
        ]);
        let mut follow = wasmatrix()
            .args(["--addr", &up.address, "logs", "-f", "writer"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(follow.stdout.take().unwrap()).lines();
        let seen: Vec<u64> =
            lines.map_while(Result::ok).filter_map(|line| line.parse().ok()).take(20).collect();
        let acknowledged = *seen.last().expect("it counts");
        up.kill();
        let _ = follow.kill();
        let _ = follow.wait();
        let store = directory.path().join("kv.redb").display().to_string();
        let read = ["run", "--kv", &store, "--name", "writer", "--grant", "kv:read"];
        let output = run(&[&read[..], &[&guest("probe"), "kv.get default n"]].concat());
        let said = text(&output.stdout);
        let kept: u64 = said.trim().strip_prefix("some ").expect(&said).parse().expect("a number");
        assert!(kept >= acknowledged, "round {round}: {acknowledged} was acknowledged and {kept} is there");
    }
}

#[test]
fn a_store_that_another_process_holds_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let _up = Up::start(directory.path());
    let second = wasmatrix()
        .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(directory.path())
        .output()
        .unwrap();
    assert!(!second.status.success());
    assert!(text(&second.stderr).contains("kv.redb"), "{}", text(&second.stderr));
}
