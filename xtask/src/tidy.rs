//! The checks that are not a compiler's. Each is a function from the tree to what is wrong with it.
//!
//! | module | what it looks at |
//! |---|---|
//! | [`graph`] | which of our crates depend on which |
//! | [`manifests`] | `Cargo.toml` of each package, and the crate roots |
//! | [`sources`] | Rust files: heads, sizes, names |
//! | [`documents`] | Markdown: links and paths, and that what must be documented is |
//! | [`texts`] | every file: what should not be written anywhere |

pub mod documents;
pub mod graph;
pub mod manifests;
pub mod sources;
pub mod texts;

use std::{fmt, fs, path::Path, process::Command, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::workspace::{metadata, output_of, root};

/// `cargo xtask tidy`
#[derive(Debug, Args)]
pub struct Tidy {
    /// Write the crate graph as it is to docs/crate-graph.txt, before the checks
    #[arg(long)]
    write: bool,
}

impl Tidy {
    /// Prints what is wrong. Success: nothing is.
    ///
    /// # Errors
    /// The tree can't be read.
    pub fn run(&self) -> Result<ExitCode> {
        if self.write {
            let path = root().join(graph::GOLDEN);
            fs::write(&path, graph::Graph::read(&metadata()?)?.to_string())
                .with_context(|| format!("can't write {}", path.display()))?;
        }
        let tree = Tree::read(root())?;
        let mut findings = Vec::new();
        for (_, check) in CHECKS {
            findings.extend(check(&tree)?);
        }
        for finding in &findings {
            eprintln!("{finding}");
        }
        println!("{} files, {} findings", tree.files.len(), findings.len());
        Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// A check: what is wrong with the tree.
pub type Check = fn(&Tree) -> Result<Vec<Finding>>;

/// Every check, with the rule that it holds us to.
pub const CHECKS: &[(&str, Check)] = &[
    ("the crate graph is the one that was agreed on", graph::golden),
    ("arrows that must not be are not", graph::forbidden),
    ("every package takes the workspace's lints", manifests::lints),
    ("crate roots forbid unsafe code", manifests::unsafe_code),
    ("every Rust file says what it is", sources::heads),
    ("no Rust file is too long to read", sources::lengths),
    ("no module has a name that says nothing", sources::names),
    ("links and paths in documents lead somewhere", documents::links),
    ("every error code is documented", documents::error_codes),
    ("nothing is left to be done later", texts::leftovers),
    ("no file knows the machine that it was written on", texts::machine_paths),
];

/// Something wrong: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A path in the tree, with a line if there is one.
    pub place: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    /// A finding about a whole file, or about something that is no file.
    pub fn new(place: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into(), remedy: remedy.into() }
    }

    /// A finding about a line, counted from 1.
    pub fn at(path: &str, line: usize, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(format!("{path}:{line}"), problem, remedy)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n    {}", self.place, self.problem, self.remedy)
    }
}

/// A text file of the tree.
#[derive(Clone, Debug)]
pub struct File {
    /// From the root, with `/`.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// The files that git knows or would take, as they are now.
#[derive(Debug, Default)]
pub struct Tree {
    /// Text files, in order of their paths.
    pub files: Vec<File>,
    /// The paths of all files, those that are no text too.
    pub paths: Vec<String>,
}

impl Tree {
    /// Reads the tree.
    ///
    /// # Errors
    /// It is no checkout of git, or a file can't be read.
    pub fn read(root: &Path) -> Result<Self> {
        let mut git = Command::new("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"]);
        let listed =
            output_of(git.current_dir(root)).context("the list of files comes from git, in a checkout")?;
        let listed = String::from_utf8(listed).context("a path is not UTF-8")?;
        let mut tree = Self::default();
        for path in listed.split_terminator('\0') {
            let here = root.join(path);
            // Git lists a file that was deleted, and not yet committed so.
            if !here.is_file() {
                continue;
            }
            tree.paths.push(path.to_owned());
            let bytes = fs::read(&here).with_context(|| format!("can't read {path}"))?;
            if let Ok(text) = String::from_utf8(bytes) {
                tree.files.push(File { path: path.to_owned(), text });
            }
        }
        Ok(tree)
    }

    /// The Rust files.
    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.with_extension(".rs")
    }

    /// The files whose paths end so.
    pub fn with_extension<'a>(&'a self, end: &'a str) -> impl Iterator<Item = &'a File> {
        self.files.iter().filter(move |file| file.path.ends_with(end))
    }

    /// Whether there is a file or a folder at this path, from the root, without `.` and `..`.
    pub fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        path.is_empty()
            || self.paths.iter().any(|file| {
                file.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
    }

    /// A file's text.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }
}

#[cfg(test)]
impl Tree {
    /// A tree of these files, for the tests of the checks.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self {
            files: files
                .iter()
                .map(|(path, text)| File { path: (*path).to_owned(), text: (*text).to_owned() })
                .collect(),
            paths: files.iter().map(|(path, _)| (*path).to_owned()).collect(),
        }
    }
}

#[cfg(test)]
fn places(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.place.as_str()).collect()
}
