//! Builds the guests of `examples/`, and runs one.

mod foreign;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    tools::{self, COMPONENT, PREVIEW1},
    workspace::{self, cargo_command, execute, guests_target},
};

/// The example that is built as a preview-1 module too.
const AS_PREVIEW1: &str = "hello";

/// `cargo xtask examples`
#[derive(Debug, Args)]
pub struct Examples {
    /// Which; all that are written in Rust if none is named
    names: Vec<String>,
    /// Those in C, JavaScript and Python too
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

/// `cargo xtask run`
#[derive(Debug, Args)]
pub struct Run {
    /// What the guest may do, e.g. kv:read,kv:write
    #[arg(long = "grant", value_name = "GRANT")]
    grants: Vec<String>,
    /// Which example
    name: String,
    /// The guest's arguments, after `--`
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Examples {
    /// Builds what was asked for and says where it is.
    ///
    /// # Errors
    /// There is no such example, or a build fails.
    pub fn run(&self) -> Result<()> {
        let mut built = rust(&self.names)?;
        if self.all {
            built.extend(foreign::build(&folder()?)?);
        }
        for guest in built {
            println!("{}", guest.display());
        }
        Ok(())
    }
}

impl Run {
    /// Runs the guest. Its exit code is ours.
    ///
    /// # Errors
    /// The guest or `wasmatrix` can't be built or started.
    pub fn run(&self) -> Result<ExitCode> {
        let guests = rust(std::slice::from_ref(&self.name))?;
        let guest = guests.first().context("an example that was built is somewhere")?;
        let mut wasmatrix = Command::new(workspace::release_binary()?);
        wasmatrix.arg("run");
        for grant in &self.grants {
            wasmatrix.args(["--grant", grant]);
        }
        wasmatrix.arg(guest).args(&self.arguments);
        let status = wasmatrix.status().context("can't start wasmatrix")?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
    }
}

/// Where the guests are collected.
///
/// # Errors
/// The folder can't be made.
pub fn folder() -> Result<PathBuf> {
    let folder = workspace::examples().join("wasm");
    fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
    Ok(folder)
}

/// Builds guests written in Rust, all of them if `names` is empty, and collects them. Returns their paths.
///
/// # Errors
/// There is no such guest, or the build fails.
pub fn rust(names: &[String]) -> Result<Vec<PathBuf>> {
    tools::ensure_targets(&[COMPONENT, PREVIEW1])?;
    let known = packages()?;
    if let Some(unknown) = names.iter().find(|name| !known.contains(name.as_str())) {
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        bail!("there is no example `{unknown}` in Rust; there are {known}");
    }
    let wanted = if names.is_empty() { known } else { names.iter().cloned().collect() };

    let folder = folder()?;
    let mut collected = Vec::new();
    compile(COMPONENT, wanted.iter().map(String::as_str))?;
    for name in &wanted {
        collected.push(collect(COMPONENT, name, &folder.join(format!("{name}.wasm")))?);
    }
    if wanted.contains(AS_PREVIEW1) {
        compile(PREVIEW1, [AS_PREVIEW1])?;
        collected.push(collect(PREVIEW1, AS_PREVIEW1, &folder.join(format!("{AS_PREVIEW1}-preview1.wasm")))?);
    }
    Ok(collected)
}

/// Every guest written in Rust: a folder with a package in it.
fn packages() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(workspace::examples()).context("can't read the folder examples/")? {
        let entry = entry?;
        if entry.path().join("Cargo.toml").is_file() {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}

fn compile<'a>(target: &str, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let mut cargo = cargo_command();
    cargo.args(["build", "--release", "--locked", "--target", target, "--target-dir"]).arg(guests_target());
    for name in names {
        cargo.args(["--package", name]);
    }
    // Flags for the host's code, such as those of coverage, mean nothing to a guest's compiler.
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    execute(cargo.current_dir(workspace::examples()))
}

fn collect(target: &str, name: &str, to: &Path) -> Result<PathBuf> {
    let from = guests_target().join(target).join("release").join(format!("{name}.wasm"));
    fs::copy(&from, to).with_context(|| format!("can't copy {} to {}", from.display(), to.display()))?;
    Ok(to.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        run: Run,
    }

    #[test]
    fn what_follows_the_dashes_is_the_guests() {
        let run = Line::try_parse_from(["x", "hello", "--", "--grant", "b c"]).unwrap().run;
        assert_eq!(
            (run.name.as_str(), run.arguments),
            ("hello", vec!["--grant".to_owned(), "b c".to_owned()])
        );
        assert!(run.grants.is_empty());
        let granted = Line::try_parse_from(["x", "--grant", "kv:read,kv:write", "counter"]).unwrap().run;
        assert_eq!((granted.name.as_str(), granted.grants), ("counter", vec!["kv:read,kv:write".to_owned()]));
    }
}
