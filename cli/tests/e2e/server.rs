//! A server and its client: the verbs, live grants, several instances from a file.

use wasmatrix_tests::executors;

use crate::{Up, guest, text};

#[test]
fn an_instance_lives_under_the_clients_verbs() {
    let directory = tempfile::tempdir().unwrap();
    let up = Up::start(directory.path());
    up.tell(&["start", &guest("counter"), "--name", "counter", "--grant", "kv:read,kv:write"]);
    up.tell(&["start", &guest("sleeper"), "--name", "sleeper"]);
    assert_eq!(up.tell(&["ps", "-o", "name"]), "counter\nsleeper\n");
    let sleeper = up.json(&["get", "sleeper"]).to_string();
    assert!(sleeper.contains("\"phase\":\"running\""), "{sleeper}");
    up.hear("counter", "visits: 1");
    up.tell(&["grant", "sleeper", "kv:read", "kv:write:settings/*"]);
    up.tell(&["revoke", "sleeper", "kv:read"]);
    let grants = up.json(&["get", "sleeper"])["grants"].to_string();
    assert_eq!(grants, "[\"kv:write:settings\"]");
    up.tell(&["stop", "sleeper"]);
    let stopped = up.json(&["get", "sleeper"]).to_string();
    assert!(stopped.contains("\"phase\":\"stopped\""), "{stopped}");
    up.tell(&["rm", "sleeper", "counter"]);
    assert_eq!(up.tell(&["ps", "-o", "name"]), "");
    let events = up.tell(&["events"]);
    for fact in
        ["instance-created", "instance-started", "grant-assigned", "grant-revoked", "instance-removed"]
    {
        assert!(events.contains(fact), "{fact}: {events}");
    }
}

#[test]
fn a_failed_start_says_why_wherever_one_looks() {
    let directory = tempfile::tempdir().unwrap();
    let up = Up::start(directory.path());
    let junk = directory.path().join("junk.wasm");
    std::fs::write(&junk, b"\x7fELF").unwrap();
    let output = up.ask(&["start", &junk.display().to_string(), "--name", "junk"]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("ELF"), "{}", text(&output.stderr));
    for look in [&["get", "junk"][..], &["ps"], &["events"], &["logs", "junk"]] {
        let seen = up.tell(look);
        assert!(seen.contains("ELF") || seen.contains("native"), "{look:?}: {seen}");
    }
    // Mended, it starts under the same name.
    up.tell(&["start", &guest("hello"), "--name", "junk"]);
}

#[test]
fn an_app_is_several_instances_each_where_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let up = Up::start(directory.path());
    let app = directory.path().join("app.toml");
    let strongest = executors().last().expect("there is an executor").as_str();
    let instance = |name: &str, executor: &str| {
        format!(
            "[[instance]]\nname = \"{name}\"\nfile = \"{}\"\nexecutor = \"{executor}\"\n",
            guest("sleeper")
        )
    };
    std::fs::write(&app, instance("near", "wasmtime") + &instance("far", strongest)).unwrap();
    let app = app.display().to_string();
    up.tell(&["validate", "-f", &app]);
    up.tell(&["apply", "-f", &app]);
    assert_eq!(up.tell(&["ps", "-o", "name"]), "far\nnear\n");
    assert!(up.json(&["get", "far"]).to_string().contains(&format!("\"executor\":\"{strongest}\"")));
    // Once more changes nothing.
    up.tell(&["apply", "-f", &app]);
    assert_eq!(up.tell(&["ps", "-o", "name"]), "far\nnear\n");
}

#[test]
fn what_is_not_there_is_not_found() {
    let directory = tempfile::tempdir().unwrap();
    let up = Up::start(directory.path());
    for verb in ["get", "stop", "rm", "logs"] {
        let output = up.ask(&[verb, "nobody"]);
        assert_eq!(output.status.code(), Some(3), "{verb}: {}", text(&output.stderr));
    }
}
