//! Rust files: heads, sizes, names.

use anyhow::Result;

use super::{Finding, Tree};

/// Longest Rust file, in lines. About 400 is what a reader likes.
const LINES_MAX: usize = 800;

/// Names that say nothing of what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helper", "helpers", "manager", "misc"];

/// Finds files that don't begin by saying what they are.
///
/// # Errors
/// Never; the other checks can fail.
pub fn heads(tree: &Tree) -> Result<Vec<Finding>> {
    let without = tree.rust().filter(|file| !file.text.starts_with("//! "));
    Ok(without
        .map(|file| {
            Finding::at(
                &file.path,
                1,
                "has no head",
                "begin it with `//! ` and a sentence that says what it is",
            )
        })
        .collect())
}

/// Finds files that are too long.
///
/// # Errors
/// Never; the other checks can fail.
pub fn lengths(tree: &Tree) -> Result<Vec<Finding>> {
    let sized = tree.rust().map(|file| (file, file.text.lines().count()));
    Ok(sized
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(file, lines)| {
            Finding::new(
                &file.path,
                format!("has {lines} lines, more than {LINES_MAX}"),
                "split it by what its parts are about: foo.rs keeps the head, foo/ takes the parts",
            )
        })
        .collect())
}

/// Finds modules whose names say nothing, and `mod.rs`.
///
/// # Errors
/// Never; the other checks can fail.
pub fn names(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        let path = file.path.strip_suffix(".rs").unwrap_or(&file.path);
        if let Some(name) = path.split('/').find(|name| EMPTY_NAMES.contains(name)) {
            findings.push(Finding::new(
                &file.path,
                format!("`{name}` says nothing of what is inside"),
                "name it after what it is about, or put each part where it is used",
            ));
        }
        if path == "mod" || path.ends_with("/mod") {
            let better = path.strip_suffix("/mod").unwrap_or(path);
            findings.push(Finding::new(
                &file.path,
                "is one of many files called mod.rs",
                format!("call it {better}.rs; its parts stay in {better}/"),
            ));
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::{super::places, *};

    #[test]
    fn a_file_without_a_head_is_found() {
        let tree = Tree::of(&[("a.rs", "//! What it is.\n"), ("b.rs", "// What it is.\n"), ("c.rs", "")]);
        assert_eq!(places(&heads(&tree).unwrap()), ["b.rs:1", "c.rs:1"]);
    }

    #[test]
    fn a_file_may_have_as_many_lines_as_the_limit_and_no_more() {
        let (most, more) = ("\n".repeat(LINES_MAX), "\n".repeat(LINES_MAX + 1));
        let tree = Tree::of(&[("most.rs", &most), ("more.rs", &more), ("more.txt", &more)]);
        assert_eq!(places(&lengths(&tree).unwrap()), ["more.rs"]);
    }

    #[test]
    fn names_that_say_nothing_are_found_in_files_and_folders() {
        let tree = Tree::of(&[
            ("a/src/utils.rs", ""),
            ("a/src/common/thing.rs", ""),
            ("a/src/part/mod.rs", ""),
            ("a/src/commonwealth.rs", ""),
            ("a/src/model.rs", ""),
        ]);
        assert_eq!(
            places(&names(&tree).unwrap()),
            ["a/src/utils.rs", "a/src/common/thing.rs", "a/src/part/mod.rs"]
        );
    }
}
