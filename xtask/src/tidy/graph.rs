//! Which of our crates depend on which: compared with a golden file, and with the arrows that must not be.
//!
//! A change of the graph is a change of the architecture, so it shows up in a review as a changed line of
//! `docs/crate-graph.txt`, and not somewhere in a manifest.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Finding, Tree};
use crate::workspace::metadata;

/// Where the agreed graph is.
pub const GOLDEN: &str = "docs/crate-graph.txt";

const HEAD: &str = "\
# Which of our crates depend on which. A line is an arrow; `(dev)` is one of tests only.
# Written by `cargo xtask tidy --write`, compared by a test: whoever changes it changes the architecture.
";

/// What must not be reached, by whom, over however many crates; tests may. A name ends in `*` to mean all that begin
/// so.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "wasmatrix-control-plane",
        &["wasmatrix-executor-*", "wasmatrix-providers", "wasmatrix-agent"],
        "the control plane can't run code: what it wants, it asks an agent for, over the wire",
    ),
    (
        "wasmatrix-executor-*",
        &[
            "wasmatrix-providers",
            "wasmatrix-wire",
            "wasmatrix-agent",
            "wasmatrix-control-plane",
            "wasmatrix-executor-wasmtime",
            "wasmatrix-executor-microvm",
        ],
        "an executor sees capabilities through executor-api, and nobody behind it",
    ),
    ("wasmatrix-model", &["wasmatrix*"], "everything depends on the model, so it depends on nothing of ours"),
    (
        "wasmatrix-providers",
        &["wasmatrix-executor-wasmtime", "wasmatrix-executor-microvm", "wasmatrix-agent"],
        "a provider answers calls and does not know who runs the guest",
    ),
];

/// Arrows between packages of ours.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Graph {
    arrows: BTreeSet<Arrow>,
    packages: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrow {
    from: String,
    to: String,
    /// Of tests, examples and benchmarks only.
    dev: bool,
}

impl Graph {
    /// Reads it from what `cargo metadata` prints.
    ///
    /// # Errors
    /// It is in a form that we don't know.
    pub fn read(metadata: &Value) -> Result<Self> {
        let mut graph = Self::default();
        for package in metadata["packages"].as_array().context("cargo metadata lists no packages")? {
            let from = package["name"].as_str().context("a package without a name")?;
            graph.packages.insert(from.to_owned());
            for dependency in package["dependencies"].as_array().context("a package without dependencies")? {
                // Ours are those that lie in a folder.
                if dependency["path"].is_string() {
                    let to = dependency["name"].as_str().context("a dependency without a name")?.to_owned();
                    let dev = dependency["kind"] == "dev";
                    graph.arrows.insert(Arrow { from: from.to_owned(), to, dev });
                }
            }
        }
        Ok(graph)
    }

    /// How one package reaches others without tests: each with the path that leads there.
    fn reached(&self, from: &str) -> BTreeMap<&str, Vec<&str>> {
        let mut paths: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut waiting = vec![(from, Vec::new())];
        while let Some((here, path)) = waiting.pop() {
            for arrow in self.arrows.iter().filter(|arrow| arrow.from == here && !arrow.dev) {
                if !paths.contains_key(arrow.to.as_str()) {
                    let longer: Vec<&str> = path.iter().copied().chain([arrow.to.as_str()]).collect();
                    paths.insert(&arrow.to, longer.clone());
                    waiting.push((&arrow.to, longer));
                }
            }
        }
        paths
    }

    /// Arrows that must not be.
    pub fn forbidden(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (from, targets, reason) in FORBIDDEN {
            for package in self.packages.iter().filter(|package| matches(from, package)) {
                for (to, path) in self.reached(package) {
                    if to != package && targets.iter().any(|target| matches(target, to)) {
                        findings.push(Finding::new(
                            package.as_str(),
                            format!("reaches {to}: {package} -> {}", path.join(" -> ")),
                            format!("take out a dependency on this path; {reason}"),
                        ));
                    }
                }
            }
        }
        findings
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(begin) => name.starts_with(begin),
        None => name == pattern,
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        for Arrow { from, to, dev } in &self.arrows {
            writeln!(f, "{from} -> {to}{}", if *dev { " (dev)" } else { "" })?;
        }
        Ok(())
    }
}

/// Compares the graph with the golden file.
///
/// # Errors
/// Cargo does not say what the graph is.
pub fn golden(tree: &Tree) -> Result<Vec<Finding>> {
    Ok(compare(tree.text(GOLDEN).unwrap_or_default(), &Graph::read(&metadata()?)?.to_string()))
}

fn compare(agreed: &str, actual: &str) -> Vec<Finding> {
    let arrows =
        |text| -> BTreeSet<&str> { str::lines(text).filter(|line| !line.starts_with('#')).collect() };
    let (agreed, actual) = (arrows(agreed), arrows(actual));
    let remedy =
        "if the architecture is meant to change, run `cargo xtask tidy --write` and say why in the commit";
    let new =
        actual.difference(&agreed).map(|arrow| format!("the crates have an arrow that it lacks: {arrow}"));
    let gone =
        agreed.difference(&actual).map(|arrow| format!("it has an arrow that the crates lack: {arrow}"));
    new.chain(gone).map(|problem| Finding::new(GOLDEN, problem, remedy)).collect()
}

/// Looks for arrows that must not be.
///
/// # Errors
/// Cargo does not say what the graph is.
pub fn forbidden(_: &Tree) -> Result<Vec<Finding>> {
    Ok(Graph::read(&metadata()?)?.forbidden())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn graph(arrows: &[(&str, &str, Option<&str>)]) -> Graph {
        let package = |name: &str| {
            let dependencies: Vec<Value> = arrows
                .iter()
                .filter(|(from, ..)| *from == name)
                .map(|(_, to, kind)| json!({"name": to, "kind": kind, "path": "somewhere"}))
                .chain([json!({"name": "serde", "kind": null, "path": null})])
                .collect();
            json!({"name": name, "dependencies": dependencies})
        };
        let names: BTreeSet<&str> = arrows.iter().flat_map(|(from, to, _)| [*from, *to]).collect();
        Graph::read(&json!({"packages": names.into_iter().map(package).collect::<Vec<_>>()})).unwrap()
    }

    #[test]
    fn an_arrow_that_must_not_be_is_found_however_long_its_path() {
        let found = graph(&[
            ("wasmatrix-control-plane", "wasmatrix-wire", None),
            ("wasmatrix-wire", "wasmatrix-executor-wasmtime", None),
        ])
        .forbidden();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].problem.contains("wasmatrix-wire -> wasmatrix-executor-wasmtime"), "{}", found[0]);
    }

    #[test]
    fn tests_may_reach_further_and_the_contract_is_for_executors() {
        let found = graph(&[
            ("wasmatrix-executor-wasmtime", "wasmatrix-executor-api", None),
            ("wasmatrix-control-plane", "wasmatrix-agent", Some("dev")),
        ])
        .forbidden();
        assert_eq!(found, []);
    }

    #[test]
    fn the_model_depends_on_nothing_of_ours() {
        assert_eq!(graph(&[("wasmatrix-model", "wasmatrix-wire", Some("build"))]).forbidden().len(), 1);
    }

    #[test]
    fn a_difference_is_said_in_either_direction() {
        let agreed = graph(&[("a", "b", None)]).to_string();
        let actual = graph(&[("a", "c", Some("dev"))]).to_string();
        let found = compare(&agreed, &actual);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].problem.ends_with("a -> c (dev)"), "{}", found[0]);
        assert!(found[1].problem.ends_with("a -> b"), "{}", found[1]);
        assert_eq!(compare(&agreed, &agreed), []);
    }
}
