//! Markdown: links and paths lead somewhere, and what must be documented is.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

use super::{File, Finding, Tree};

/// Where the error codes are explained to users.
const ERRORS: &str = "docs/errors.md";
/// Where they are defined.
const CODES: &str = "crates/model/src/failure.rs";

/// Folders that a chore makes and git ignores, so that a document may speak of them.
const MADE: &[&str] = &["examples/wasm", "examples/target", "target"];

/// Documents about how things were at their time; paths in them may be of that time.
const OF_THEIR_TIME: &[&str] = &["docs/adr/", "CHANGELOG.md"];

/// Finds links to nothing, and paths of nothing.
///
/// # Errors
/// Never; the other checks can fail.
pub fn links(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in tree.with_extension(".md") {
        for (number, line) in prose(&file.text) {
            for target in link_targets(line) {
                if let Some(problem) = broken(tree, file, target) {
                    findings.push(Finding::at(
                        &file.path,
                        number,
                        problem,
                        "correct the link, or what it should lead to",
                    ));
                }
            }
            if OF_THEIR_TIME.iter().any(|old| file.path.starts_with(old)) {
                continue;
            }
            for path in paths(tree, line).filter(|path| !tree.has(path)) {
                let problem = format!("speaks of `{path}`, which is not there");
                findings.push(Finding::at(&file.path, number, problem, "correct the path, or take it out"));
            }
        }
    }
    Ok(findings)
}

/// The lines that are no code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut code = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        (!code && !fence).then_some((number + 1, line))
    })
}

/// What stands in the round brackets of `[…](…)`.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(|target| target.split(' ').next().unwrap_or(target))
}

/// What is wrong with a link, if it is one into the tree.
fn broken(tree: &Tree, from: &File, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() { Some(from.path.clone()) } else { resolve(&from.path, path) };
    let Some(path) = path.filter(|path| tree.has(path)) else {
        return Some(format!("links to `{target}`, which is not there"));
    };
    if anchor.is_empty() || !path.ends_with(".md") {
        return None;
    }
    let anchors: BTreeSet<String> = prose(tree.text(&path)?).filter_map(|(_, line)| heading(line)).collect();
    (!anchors.contains(anchor)).then(|| format!("links to `{target}`, and {path} has no such heading"))
}

/// A path from the root, for one that is relative to a file. `None`: it leads out of the tree.
fn resolve(from: &str, relative: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// A heading's anchor, as forges make it.
fn heading(line: &str) -> Option<String> {
    let text = line.trim_start_matches('#');
    if text.len() == line.len() || !text.starts_with(' ') {
        return None;
    }
    let kept =
        text.trim().chars().filter(|character| character.is_alphanumeric() || " -_".contains(*character));
    Some(
        kept.flat_map(char::to_lowercase)
            .map(|character| if character == ' ' { '-' } else { character })
            .collect(),
    )
}

/// Paths between backticks: words with a `/` whose first part is a folder of ours.
fn paths<'a>(tree: &'a Tree, line: &'a str) -> impl Iterator<Item = &'a str> {
    let quoted = line.split('`').skip(1).step_by(2);
    quoted.map(|word| word.split("::").next().unwrap_or(word)).filter(|word| {
        let plain = |character: char| character.is_ascii_alphanumeric() || "_-./".contains(character);
        let made = MADE.iter().any(|made| word.starts_with(made));
        let ours = || word.split_once('/').is_some_and(|(first, _)| tree.has(first) && !first.is_empty());
        word.chars().all(plain) && !made && ours()
    })
}

/// Finds error codes that the documentation does not name.
///
/// # Errors
/// The codes are not where they used to be.
pub fn error_codes(tree: &Tree) -> Result<Vec<Finding>> {
    let source = tree.text(CODES).with_context(|| format!("{CODES} defines the error codes"))?;
    let codes = codes(source);
    anyhow::ensure!(
        !codes.is_empty(),
        "{CODES} has no `error_codes!` with lines like `Internal = \"INTERNAL\",`"
    );
    let documented = tree.text(ERRORS).unwrap_or_default();
    let part_of_word = |character: char| character.is_alphanumeric() || character == '_';
    let words: BTreeSet<&str> = documented.split(|character| !part_of_word(character)).collect();
    let missing = codes.into_iter().filter(|code| !words.contains(code));
    Ok(missing
        .map(|code| {
            Finding::new(
                ERRORS,
                format!("does not name `{code}`"),
                "say when it comes, and what a client should do",
            )
        })
        .collect())
}

fn codes(source: &str) -> Vec<&str> {
    let lines =
        source.lines().skip_while(|line| *line != "error_codes! {").skip(1).take_while(|line| *line != "}");
    lines.filter_map(|line| line.trim().split_once(" = \"")?.1.strip_suffix("\",")).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::places, *};

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let tree = Tree::of(&[
            (
                "README.md",
                "[a](docs/a.md) [b](docs/b.md)\n[c](docs/a.md#the-rules) [d](docs/a.md#no-rules)\n",
            ),
            (
                "docs/a.md",
                "# The rules\n[up](../README.md) [out](../../else.md) [web](https://example.org/x)\n[here](#the-rules)\n",
            ),
            ("docs/code.md", "```\n[not a link](nowhere.md)\n```\n[nowhere](nowhere.md)\n"),
        ]);
        assert_eq!(
            places(&links(&tree).unwrap()),
            ["README.md:1", "README.md:2", "docs/a.md:2", "docs/code.md:4"]
        );
    }

    #[test]
    fn paths_that_are_not_there_are_found() {
        let tree = Tree::of(&[
            ("agent/src/gate.rs", ""),
            (
                "README.md",
                "`agent/src/gate.rs` `agent/src/` `agent/src/gate.rs::permit`\n`agent/src/door.rs`\n`a/b` `agent/*.rs` `kv:read`\n",
            ),
            ("docs/adr/0001-once.md", "`agent/src/door.rs`\n"),
        ]);
        assert_eq!(places(&links(&tree).unwrap()), ["README.md:2"]);
    }

    #[test]
    fn a_code_that_is_not_documented_is_found() {
        let source = "error_codes! {\n    /// A fault.\n    Internal = \"INTERNAL\",\n    /// Late.\n    Timeout = \"TIMEOUT\",\n}\n";
        let tree =
            Tree::of(&[(CODES, source), (ERRORS, "| TIMEOUT | too late |\n| INTERNAL_AFFAIRS | ours |\n")]);
        let found = error_codes(&tree).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].problem.contains("`INTERNAL`"), "{}", found[0]);
    }
}
