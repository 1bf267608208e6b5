//! Which tests run on the emulated machine, and the binaries that hold them.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::workspace::{cargo_command, output_of};

/// Tests in one binary.
struct Known {
    name: &'static str,
    package: &'static str,
    /// Which of the package's binaries, in cargo's words.
    target: &'static [&'static str],
    /// Whether the tests read the guests of examples/.
    runs_examples: bool,
    /// Arguments that choose what ends in minutes. None: all of it does.
    usual: &'static [&'static str],
}

/// In the order in which they run: what the rest stands on comes first.
const KNOWN: [Known; 3] = [
    Known {
        name: "executor",
        package: "wasmatrix-executor-microvm",
        target: &["--lib"],
        runs_examples: false,
        usual: &[],
    },
    Known {
        name: "machine",
        package: "wasmatrix-executor-microvm",
        target: &["--test", "machine"],
        runs_examples: false,
        usual: &[],
    },
    Known {
        name: "conformance",
        package: "wasmatrix-tests",
        target: &["--test", "conformance"],
        runs_examples: true,
        usual: &["--skip", "console::standard_input_is_read", "--skip", "endurance::"],
    },
];

/// A binary of tests, and which of them to run.
#[derive(Debug)]
pub struct Suite {
    /// What it is called on the console.
    pub name: &'static str,
    /// Where it is.
    pub binary: PathBuf,
    /// Its arguments: parts of tests' names, and options of Rust's test harness.
    pub arguments: Vec<String>,
    /// Whether the tests read the guests of examples/.
    pub runs_examples: bool,
}

/// Builds the suites that have a test which these arguments choose. Without arguments that is the usual choice of
/// each, or everything if `all`.
///
/// # Errors
/// A build fails, or no test is chosen.
pub fn chosen(all: bool, arguments: &[String]) -> Result<Vec<Suite>> {
    let mut suites = Vec::new();
    for known in KNOWN {
        let arguments = match (all, arguments) {
            (true, _) => Vec::new(),
            (false, []) => known.usual.iter().map(|word| (*word).to_owned()).collect(),
            (false, chosen) => chosen.to_vec(),
        };
        let suite =
            Suite { name: known.name, binary: build(&known)?, arguments, runs_examples: known.runs_examples };
        let tests = suite.tests()?;
        if tests > 0 {
            println!("{}: {tests} tests", suite.name);
            suites.push(suite);
        }
    }
    if suites.is_empty() {
        bail!("no test has a name with `{}` in it", arguments.join("` or `"));
    }
    Ok(suites)
}

impl Suite {
    /// How many tests the arguments choose; the harness itself says so, here on the host.
    fn tests(&self) -> Result<usize> {
        let list =
            output_of(Command::new(&self.binary).args(["--list", "--format=terse"]).args(&self.arguments))?;
        Ok(String::from_utf8_lossy(&list).lines().filter(|line| line.ends_with(": test")).count())
    }
}

fn build(known: &Known) -> Result<PathBuf> {
    let mut cargo = cargo_command();
    cargo.args(["test", "--no-run", "--locked", "--message-format=json-render-diagnostics"]);
    cargo.args(["--package", known.package]).args(known.target);
    let messages = output_of(&mut cargo)?;
    executable(&String::from_utf8_lossy(&messages))
        .with_context(|| format!("cargo names no binary for the tests of {}", known.package))
}

/// The one binary that a build was for, from cargo's messages, one JSON object in each line.
fn executable(messages: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut tests = messages.filter(|message| message["profile"]["test"] == true);
    tests.find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_the_one_that_holds_tests() {
        let messages = r#"{"reason":"compiler-artifact","profile":{"test":false},"executable":"/target/build-script"}
            {"reason":"compiler-artifact","profile":{"test":true},"executable":"/target/machine-1"}
            {"reason":"compiler-artifact","profile":{"test":false},"executable":null}
            {"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages), Some("/target/machine-1".into()));
        assert_eq!(executable("not JSON"), None);
    }

    #[test]
    fn the_harness_counts_what_is_chosen() {
        let count = |arguments: &[&str]| {
            let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
            let binary = std::env::current_exe().unwrap();
            Suite { name: "self", binary, arguments, runs_examples: false }.tests().unwrap()
        };
        assert_eq!(count(&["the_harness_counts_what_is_chosen"]), 1);
        assert_eq!(count(&["no_test_is_called_like_this"]), 0);
    }
}
