//! The prebuilt tests of WebAssembly/wasi-testsuite, on both executors.
//!
//! A test passes if its exit code, and its standard output where one is given, are right. Those that have a folder of
//! their own to work in can't pass, since a guest has no file system; nor can those of WASI 0.3. They are run all the
//! same: they have to fail alike, and without a fault of the host.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{EXECUTORS, Runner};
use crate::tools::PREVIEW1;

/// Exit code of `run` when it was at fault itself.
const FAULT: i32 = 125;

/// What a test's description says.
#[derive(Debug, Default)]
struct Description {
    args: Vec<String>,
    environment: Vec<(String, String)>,
    code: i32,
    stdout: Option<String>,
    wants_folder: bool,
    can_pass: bool,
}

impl Description {
    /// That beside a module; what is not described is the default.
    fn beside(module: &Path) -> Result<Self> {
        let Ok(text) = fs::read_to_string(module.with_extension("json")) else {
            return Ok(Self { can_pass: true, ..Self::default() });
        };
        let json: Value = serde_json::from_str(&text).context("a test's description is not JSON")?;
        let words = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| value.as_array().map(|words_of| words_of.iter().map(words).collect());
        let pairs = json["env"].as_object().into_iter().flatten();
        let wants_folder = !json["dirs"].is_null() || !json["root"].is_null();
        Ok(Self {
            args: list(&json["args"]).unwrap_or_default(),
            environment: pairs.map(|(name, value)| (name.clone(), words(value))).collect(),
            code: json["exit_code"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(0),
            stdout: json["stdout"].as_str().map(str::to_owned),
            wants_folder,
            can_pass: !wants_folder,
        })
    }
}

/// Runs all of it, prints a row for each kind of test, and says how many were otherwise on one executor than on the
/// other, or a fault of the host.
pub(super) fn run(runner: &Runner, checkout: &Path) -> Result<u32> {
    println!("wasi-testsuite: passed in process, in a micro-VM");
    let mut failures = 0;
    for (language, target) in
        [("assemblyscript", PREVIEW1), ("c", PREVIEW1), ("rust", PREVIEW1), ("rust", "wasm32-wasip3")]
    {
        let folder = checkout.join("tests").join(language).join("testsuite").join(target);
        let mut plain = Tally::default();
        let mut with_folder = Tally::default();
        for module in modules(&folder)? {
            let mut description = Description::beside(&module)?;
            description.can_pass &= target == PREVIEW1;
            let tally = if description.wants_folder { &mut with_folder } else { &mut plain };
            failures += u32::from(!tally.add(runner, &module, &description)?);
        }
        println!("  {language} for {target}: {plain}; with a folder: {with_folder}");
    }
    Ok(failures)
}

fn modules(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut modules: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "wasm")).collect();
    modules.sort();
    Ok(modules)
}

/// How many passed, on each executor, of how many.
#[derive(Debug, Default)]
struct Tally {
    passed: [u32; EXECUTORS.len()],
    all: u32,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {} of {}", self.passed[0], self.passed[1], self.all)
    }
}

impl Tally {
    /// Runs a test on both executors. False: they don't agree, or the host was at fault.
    fn add(&mut self, runner: &Runner, module: &Path, description: &Description) -> Result<bool> {
        self.all += 1;
        let mut outcomes = Vec::new();
        for (executor, passed) in EXECUTORS.iter().zip(&mut self.passed) {
            let outcome = runner.go(executor, module, &description.environment, &description.args, b"")?;
            let right = outcome.code == description.code
                && description.stdout.as_ref().is_none_or(|wanted| wanted.as_bytes() == outcome.stdout);
            *passed += u32::from(right);
            outcomes.push((right, outcome));
        }
        let agree = outcomes
            .windows(2)
            .all(|pair| (pair[0].1.code, &pair[0].1.stdout) == (pair[1].1.code, &pair[1].1.stdout));
        let fault = outcomes.iter().any(|(_, outcome)| outcome.code == FAULT);
        if !agree || fault || description.can_pass && outcomes.iter().any(|(right, _)| !right) {
            let name = module.file_stem().unwrap_or_default().to_string_lossy();
            let codes: Vec<String> = outcomes.iter().map(|(_, outcome)| outcome.to_string()).collect();
            println!("    {} {name}: {}", if agree { "failed" } else { "DIFFER" }, codes.join("; "));
        }
        Ok(agree && !fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_may_say_little_or_much() {
        let folder = std::env::temp_dir().join(format!("wasmatrix-suite-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let module = folder.join("test.wasm");
        assert_eq!(Description::beside(&module).unwrap().code, 0);
        let text =
            r#"{"args": ["a", "b c"], "env": {"N": "V"}, "exit_code": 3, "stdout": "x\n", "root": "d"}"#;
        fs::write(folder.join("test.json"), text).unwrap();
        let described = Description::beside(&module).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(described.args, ["a", "b c"]);
        assert_eq!(described.environment, [("N".to_owned(), "V".to_owned())]);
        assert_eq!((described.code, described.stdout.as_deref()), (3, Some("x\n")));
        assert!(described.wants_folder);
    }
}
