//! `Cargo.toml` of each package, and the crate roots.

use anyhow::Result;

use super::{Finding, Tree};

/// Packages that may have `unsafe` code where a lint exception says why, and so can't forbid it.
const UNSAFE_PACKAGES: &[(&str, &str)] = &[
    ("executor-microvm/", "talks to KVM and to memory that a guest shares"),
    ("executor-wasmtime/", "loads machine code that it compiled earlier"),
    ("examples/trap/", "crashes on purpose, in ways that safe code checks for first"),
];

/// Where packages are in no workspace that has lints to take: they have sections of their own.
const OUTSIDE: &[&str] = &["executor-microvm/guest/", "executor-microvm/fuzz/"];

/// Finds packages that don't take the workspace's lints.
///
/// # Errors
/// Never; the other checks can fail.
pub fn lints(tree: &Tree) -> Result<Vec<Finding>> {
    let manifests = tree.files.iter().filter(|file| is_manifest(&file.path));
    let lacking = manifests.filter(|file| {
        let inherits = section(&file.text, "[lints]").any(|line| line == "workspace = true");
        let outside = OUTSIDE.iter().any(|folder| file.path.starts_with(folder));
        let own = outside && file.text.contains("\n[lints.");
        file.text.contains("[package]") && !inherits && !own
    });
    Ok(lacking
        .map(|file| {
            Finding::new(
                &file.path,
                "does not take the workspace's lints",
                "add a section `[lints]` with the line `workspace = true`",
            )
        })
        .collect())
}

/// Finds crate roots that don't forbid unsafe code.
///
/// # Errors
/// Never; the other checks can fail.
pub fn unsafe_code(tree: &Tree) -> Result<Vec<Finding>> {
    let may = |path: &str| UNSAFE_PACKAGES.iter().any(|(package, _)| path.starts_with(package));
    let roots = tree.rust().filter(|file| is_root(tree, &file.path) && !may(&file.path));
    Ok(roots
        .filter(|file| !file.text.lines().any(|line| line == "#![forbid(unsafe_code)]"))
        .map(|file| {
            Finding::new(
                &file.path,
                "is the root of a crate and does not forbid unsafe code",
                "write `#![forbid(unsafe_code)]` below the file's head; who may do otherwise is listed, with the \
                 reason, in xtask/src/tidy/manifests.rs",
            )
        })
        .collect())
}

fn is_manifest(path: &str) -> bool {
    path == "Cargo.toml" || path.ends_with("/Cargo.toml")
}

/// A library or a program. Tests and benchmarks are crates too, and take the workspace's lint, which denies.
fn is_root(tree: &Tree, path: &str) -> bool {
    let package =
        path.strip_suffix("src/lib.rs").or_else(|| path.strip_suffix("src/main.rs")).or_else(|| {
            let (package, program) = path.split_once("src/bin/")?;
            (!program.contains('/') || program.ends_with("/main.rs")).then_some(package)
        });
    package.is_some_and(|package| tree.text(&format!("{package}Cargo.toml")).is_some())
}

/// The lines of one section of a manifest.
fn section<'a>(manifest: &'a str, head: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = manifest.lines().map(str::trim).skip_while(move |line| *line != head).skip(1);
    lines.take_while(|line| !line.starts_with('['))
}

#[cfg(test)]
mod tests {
    use super::{super::places, *};

    #[test]
    fn a_package_without_lints_is_found() {
        let tree = Tree::of(&[
            ("a/Cargo.toml", "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n"),
            ("b/Cargo.toml", "[package]\nname = \"b\"\n\n[lints]\n[dependencies]\nworkspace = true\n"),
            ("Cargo.toml", "[workspace]\n"),
        ]);
        assert_eq!(places(&lints(&tree).unwrap()), ["b/Cargo.toml"]);
    }

    #[test]
    fn a_root_that_does_not_forbid_is_found() {
        let tree = Tree::of(&[
            ("a/Cargo.toml", ""),
            ("a/src/lib.rs", "//! A.\n#![forbid(unsafe_code)]\n"),
            ("a/src/main.rs", "//! A.\n//! #![forbid(unsafe_code)]\n"),
            ("a/src/bin/tool.rs", "//! A.\n"),
            ("a/src/bin/tool/part.rs", "//! A.\n"),
            ("a/src/part.rs", "//! A.\n"),
            ("executor-microvm/Cargo.toml", ""),
            ("executor-microvm/src/lib.rs", "//! A.\n"),
        ]);
        assert_eq!(places(&unsafe_code(&tree).unwrap()), ["a/src/main.rs", "a/src/bin/tool.rs"]);
    }
}
