//! Every file: what should not be written anywhere.

use anyhow::Result;

use super::{Finding, Tree};

/// Marks of work put off. In pieces, so that this file is not found.
const LEFTOVERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Where people keep their files. In pieces, so that this file is not found.
const MACHINE_PATHS: &[&str] =
    &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];

/// Files that tools write, with words of their own.
const WRITTEN_BY_TOOLS: &[&str] = &["Cargo.lock", "package-lock.json"];

/// Finds marks of work put off.
///
/// # Errors
/// Never; the other checks can fail.
pub fn leftovers(tree: &Tree) -> Result<Vec<Finding>> {
    Ok(search(tree, LEFTOVERS, "do it, or describe it in an issue; a document about the future is an ADR"))
}

/// Finds paths of the machine that a file was written on.
///
/// # Errors
/// Never; the other checks can fail.
pub fn machine_paths(tree: &Tree) -> Result<Vec<Finding>> {
    Ok(search(tree, MACHINE_PATHS, "write a path from the root of the tree, or `$HOME`"))
}

fn search(tree: &Tree, needles: &[&str], remedy: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let written = |path: &str| WRITTEN_BY_TOOLS.iter().any(|name| path.rsplit('/').next() == Some(name));
    for file in tree.files.iter().filter(|file| !written(&file.path)) {
        for (number, line) in file.text.lines().enumerate() {
            for needle in needles.iter().filter(|needle| stands_alone(line, needle)) {
                findings.push(Finding::at(&file.path, number + 1, format!("says `{needle}`"), remedy));
            }
        }
    }
    findings
}

/// Whether the line has the needle at the beginning of a word, and as a whole word if it ends in a letter.
fn stands_alone(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let part_of_word = |character: char| character.is_alphanumeric() || character == '_';
        let before = line[..at].chars().next_back();
        let after = line[at + needle.len()..].chars().next();
        let path = needle.starts_with('/');
        !before.is_some_and(|character| part_of_word(character) || (path && "}).$*".contains(character)))
            && (path || !after.is_some_and(part_of_word))
    })
}

#[cfg(test)]
mod tests {
    use super::{super::places, *};

    #[test]
    fn marks_of_work_put_off_are_found_as_words() {
        let mark = LEFTOVERS[0];
        let text = format!("fine\n// {mark}: later\nMAS{mark}N\ntodo = \"deny\"\n");
        let tree = Tree::of(&[("a.rs", &text), ("Cargo.lock", mark)]);
        assert_eq!(places(&leftovers(&tree).unwrap()), ["a.rs:2"]);
    }

    #[test]
    fn paths_of_a_machine_are_found_and_parts_of_other_paths_are_not() {
        let path = MACHINE_PATHS[0];
        let text = format!("see {path}me\n$ROOT{path}me\nhttps://example.org{path}me\n\"{path}me\"\n");
        let tree = Tree::of(&[("a.md", &text)]);
        assert_eq!(places(&machine_paths(&tree).unwrap()), ["a.md:1", "a.md:4"]);
    }
}
