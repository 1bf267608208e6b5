//! All that must hold before a change is taken: the steps of CI, in order, each announced and timed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::{
    examples,
    fuzz::Fuzz,
    kvm_amd::KvmAmd,
    tidy::Tree,
    tools::{self, COMPONENT},
    workspace::{self, cargo, cargo_command, execute, guests_target},
};

/// What came of a step that did not fail.
enum Done {
    Passed,
    Skipped { why: &'static str },
}

/// A name to announce, and what to do.
type Step = (&'static str, fn() -> Result<Done>);

/// What is quick to fail comes first. The tests get guests that are built, and so build none of their own.
const STEPS: &[Step] = &[
    ("format", format),
    ("guests", guests),
    ("clippy", clippy),
    ("clippy of the guests", clippy_of_guests),
    ("tests", tests),
    ("etcd", etcd),
    ("tests in documentation", doc_tests),
    ("documentation", documentation),
    ("licences, sources, owners", deny),
    ("advisories", advisories),
    ("fuzzing", fuzzing),
    ("micro-VM on kvm-amd", kvm_amd),
];

/// Takes every step, and stops at the first that fails, with its name.
///
/// # Errors
/// A step failed.
pub fn run() -> Result<()> {
    let begun = Instant::now();
    let mut report = Vec::new();
    for (name, step) in STEPS {
        println!("\n==> {name}");
        let begun = Instant::now();
        let done =
            step().with_context(|| format!("the step `{name}` failed after {}", time(begun.elapsed())))?;
        report.push(match done {
            Done::Passed => format!("{:>8}  {name}", time(begun.elapsed())),
            Done::Skipped { why } => format!("{:>8}  {name}: {why}", "skipped"),
        });
    }
    println!("\n==> all steps passed in {}\n{}", time(begun.elapsed()), report.join("\n"));
    Ok(())
}

fn time(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ ..60 => format!("{seconds}.{} s", duration.subsec_millis() / 100),
        seconds => format!("{} m {:02} s", seconds / 60, seconds % 60),
    }
}

/// The workspaces, which all obey deny.toml.
const MANIFESTS: &[&str] = &["Cargo.toml", "examples/Cargo.toml"];

const DENY_IS_MISSING: &str = "cargo-deny is not installed (cargo install cargo-deny --locked)";

/// These pages are for who builds the project, so a module's head may lead to its private rooms.
const DOC_FLAGS: &str = "--deny warnings --allow rustdoc::private_intra_doc_links";

const NOTHING_MORE: &[&str] = &[];

fn format() -> Result<Done> {
    cargo(&["fmt", "--all", "--check"], NOTHING_MORE)?;
    execute(cargo_command().args(["fmt", "--all", "--check"]).current_dir(workspace::examples()))?;
    Ok(Done::Passed)
}

fn guests() -> Result<Done> {
    let built = examples::rust(&[])?;
    println!("{} guests in {}", built.len(), examples::folder()?.display());
    Ok(Done::Passed)
}

fn clippy() -> Result<Done> {
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"], NOTHING_MORE)?;
    Ok(Done::Passed)
}

fn clippy_of_guests() -> Result<Done> {
    let mut clippy = cargo_command();
    clippy.args(["clippy", "--release", "--workspace", "--locked", "--target", COMPONENT, "--target-dir"]);
    clippy.arg(guests_target()).args(["--", "--deny", "warnings"]);
    execute(clippy.current_dir(workspace::examples()))?;
    Ok(Done::Passed)
}

fn tests() -> Result<Done> {
    let mut tests = cargo_command();
    if tools::find("cargo-nextest").is_some() {
        tests.args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast"]);
    } else {
        tests.args(["test", "--workspace", "--locked", "--no-fail-fast", "--lib", "--bins", "--tests"]);
    }
    execute(tests.env("WASMATRIX_GUESTS_DIR", examples::folder()?))?;
    Ok(Done::Passed)
}

/// Which tests need the feature `etcd`, in nextest's words, and in those of Rust's own harness: parts of their names.
const ETCD_TESTS: &str = "test(discovery::) or test(etcd) or binary(chaos)";
const ETCD_TEST_NAMES: &[&str] = &["discovery::", "etcd"];

/// What is built with the feature `etcd` only: linted, documented, and tested with the real etcd.
fn etcd() -> Result<Done> {
    tools::ensure_programs(&[("etcd", "etcd-server"), ("protoc", "protobuf-compiler"), ("tc", "iproute2")])?;
    // Of the whole workspace, whatever of it is wanted: for a part of it, cargo would build what that part depends on
    // again, with fewer features, and wasmtime among it.
    let with_feature = ["--workspace", "--features", "wasmatrix/etcd", "--locked"];
    let mut clippy = cargo_command();
    clippy.arg("clippy").args(with_feature).arg("--all-targets");
    execute(clippy.args(["--", "--deny", "warnings"]))?;
    let mut tests = cargo_command();
    if tools::find("cargo-nextest").is_some() {
        tests.args(["nextest", "run"]).args(with_feature).args(["--no-fail-fast", "-E", ETCD_TESTS]);
    } else {
        tests.arg("test").args(with_feature).args(["--no-fail-fast", "--lib", "--tests", "--"]);
        tests.args(ETCD_TEST_NAMES);
    }
    execute(tests.env("WASMATRIX_GUESTS_DIR", examples::folder()?))?;
    let mut doc = cargo_command();
    doc.arg("doc").args(with_feature).args(["--no-deps", "--document-private-items"]);
    execute(doc.env("RUSTDOCFLAGS", DOC_FLAGS))?;
    Ok(Done::Passed)
}

fn doc_tests() -> Result<Done> {
    let tree = Tree::read(workspace::root())?;
    let host = tree.rust().filter(|file| !file.path.starts_with("examples/"));
    if !host.into_iter().any(|file| has_doc_test(&file.text)) {
        return Ok(Done::Skipped { why: "there are none" });
    }
    cargo(&["test", "--workspace", "--locked", "--doc"], NOTHING_MORE)?;
    Ok(Done::Passed)
}

/// Whether rustdoc would run something of this file: a block of code that is not marked as another language.
fn has_doc_test(source: &str) -> bool {
    let mut inside = false;
    for line in source.lines().map(str::trim_start) {
        let Some(text) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
            inside = false;
            continue;
        };
        if let Some(language) = text.trim().strip_prefix("```") {
            let runs = matches!(language, "" | "rust" | "no_run" | "should_panic" | "compile_fail");
            if !inside && runs {
                return true;
            }
            inside = !inside;
        }
    }
    false
}

fn documentation() -> Result<Done> {
    let mut doc = cargo_command();
    doc.args(["doc", "--workspace", "--no-deps", "--locked", "--document-private-items"]);
    execute(doc.env("RUSTDOCFLAGS", DOC_FLAGS))?;
    Ok(Done::Passed)
}

/// What holds by the lock file alone. The guests are a workspace of their own, under the same licences.
fn deny() -> Result<Done> {
    if tools::find("cargo-deny").is_none() {
        return Ok(Done::Skipped { why: DENY_IS_MISSING });
    }
    for manifest in MANIFESTS {
        let mut deny = cargo_command();
        deny.args(["deny", "--locked", "--manifest-path", manifest, "check", "--hide-inclusion-graph"]);
        // Doubles are others' to solve, and one workspace needs not all that deny.toml lets the other have.
        for quiet in ["duplicate", "unused-wrapper", "license-not-encountered"] {
            deny.args(["--allow", quiet]);
        }
        execute(deny.args(["bans", "licenses", "sources"]))?;
    }
    Ok(Done::Passed)
}

/// What is known of the versions that we use. Needs a database from the network, which not every machine reaches.
fn advisories() -> Result<Done> {
    if tools::find("cargo-deny").is_none() {
        return Ok(Done::Skipped { why: DENY_IS_MISSING });
    }
    if cargo(&["deny", "fetch", "db"], NOTHING_MORE).is_err() {
        return Ok(Done::Skipped { why: "the database of advisories is out of reach" });
    }
    for manifest in MANIFESTS {
        let offline =
            ["deny", "--locked", "--manifest-path", manifest, "check", "--disable-fetch", "advisories"];
        cargo(&offline, NOTHING_MORE)?;
    }
    Ok(Done::Passed)
}

/// How long CI fuzzes each target, in seconds. Its finds are kept, so that the next run begins where this one ended.
const FUZZ_SECONDS: u64 = 15;

fn fuzzing() -> Result<Done> {
    if !Fuzz::is_possible() {
        return Ok(Done::Skipped { why: "it needs a C++ compiler, on x86-64" });
    }
    Fuzz::all(FUZZ_SECONDS).run()?;
    Ok(Done::Passed)
}

/// The micro-VM where this machine's own KVM, which the tests use, may not be what users have.
fn kvm_amd() -> Result<Done> {
    if !KvmAmd::is_possible()? {
        return Ok(Done::Skipped { why: "it needs Debian's qemu-system-x86 and busybox-static, on x86-64" });
    }
    KvmAmd::default().run()?;
    Ok(Done::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blocks_that_rustdoc_runs_count() {
        assert!(has_doc_test("//! ```\n//! let x = 1;\n//! ```"));
        assert!(has_doc_test("    /// ```rust\n    /// f();\n    /// ```\nfn f() {}"));
        assert!(!has_doc_test("//! ```text\n//! a picture\n//! ```\n"));
        assert!(!has_doc_test("let fence = \"```\";"));
    }

    #[test]
    fn times_are_said_in_the_unit_that_suits_them() {
        assert_eq!(time(Duration::from_millis(4_250)), "4.2 s");
        assert_eq!(time(Duration::from_secs(125)), "2 m 05 s");
    }
}
