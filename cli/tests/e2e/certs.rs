//! Certificates on the command line: made once, shown, and refused where they can't be used.

use std::os::unix::fs::PermissionsExt as _;

use crate::{run, text};

#[test]
fn an_authority_is_made_once_and_signs_for_every_role() {
    let directory = tempfile::tempdir().unwrap();
    let certs = directory.path().join("certs");
    let certs_text = certs.display().to_string();
    let made = run(&["certs", "init", &certs_text, "--host", "control.example"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    for role in ["authority", "control-plane", "admin"] {
        assert!(text(&made.stdout).contains(&format!("certs/{role}")), "{}", text(&made.stdout));
    }
    let key = certs.join("authority/ca-key.pem");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(&key).unwrap();
    assert!(run(&["certs", "init", &certs_text]).status.success());
    assert_eq!(std::fs::read(&key).unwrap(), before, "the authority was made anew");

    let issued =
        run(&["certs", "issue", "viewer", "--name", "eve", "--valid-for", "1d", "--dir", &certs_text]);
    assert!(issued.status.success(), "{}", text(&issued.stderr));
    let again = run(&["certs", "issue", "viewer", "--dir", &certs_text]);
    assert!(
        !again.status.success() && text(&again.stderr).contains("not overwritten"),
        "{}",
        text(&again.stderr)
    );
    assert!(run(&["certs", "issue", "viewer", "--dir", &certs_text, "--force"]).status.success());
    let shown = run(&["certs", "show", &certs_text, "-o", "json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let roles: Vec<&str> =
        shown["items"].as_array().unwrap().iter().filter_map(|c| c["role"].as_str()).collect();
    assert_eq!(roles, ["admin", "authority", "control plane", "viewer"]);
    assert_eq!(run(&["certs", "issue", "king", "--dir", &certs_text]).status.code(), Some(2));
}

#[test]
fn without_a_certificate_the_user_is_told_how_to_get_one() {
    let directory = tempfile::tempdir().unwrap();
    let ask = |arguments: &[&str]| {
        let mut command = crate::wasmatrix();
        command
            .env("XDG_DATA_HOME", directory.path())
            .args(["--addr", "https://127.0.0.1:1"])
            .args(arguments);
        command.output().unwrap()
    };
    let none = ask(&["ps"]);
    assert_eq!(none.status.code(), Some(4));
    assert!(text(&none.stderr).contains("wasmatrix certs issue"), "{}", text(&none.stderr));
    // With the one that `certs init` puts in the user's own directory it is only that nobody is there.
    assert!(ask(&["certs", "init"]).status.success());
    let nobody = ask(&["ps"]);
    assert_eq!(nobody.status.code(), Some(5), "{}", text(&nobody.stderr));
    let broken = directory.path().join("wasmatrix/certs/admin/key.pem");
    std::fs::write(&broken, "no key").unwrap();
    let refused = ask(&["ps"]);
    assert_eq!(refused.status.code(), Some(4));
    assert!(text(&refused.stderr).contains("key.pem"), "{}", text(&refused.stderr));
}
