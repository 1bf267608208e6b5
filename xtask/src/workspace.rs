//! Where things are, and how cargo is called.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// The workspace's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the workspace's folder")
}

/// The folder of the guests, a workspace of its own.
pub fn examples() -> PathBuf {
    root().join("examples")
}

/// The cargo that runs this, to be called in the workspace's folder.
pub fn cargo_command() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Calls cargo in the workspace's folder, with its output on ours.
///
/// # Errors
/// Cargo can't be started, or fails.
pub fn cargo(arguments: &[&str], more: &[impl AsRef<OsStr>]) -> Result<()> {
    execute(cargo_command().args(arguments).args(more))
}

/// Runs a program to its end, with its output on ours.
///
/// # Errors
/// It can't be started, or fails; the message shows the command.
pub fn execute(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("can't start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// What a program prints to standard output.
///
/// # Errors
/// It can't be started, or fails; the message shows the command.
pub fn output_of(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("can't start `{}`", shown(command)))?;
    if !output.status.success() {
        bail!("`{}` failed ({})", shown(command), output.status);
    }
    Ok(output.stdout)
}

/// A command as one would type it.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.collect::<Vec<_>>().join(OsStr::new(" ")).to_string_lossy().into_owned()
}

/// What cargo knows of the workspace, without its dependencies' dependencies.
///
/// # Errors
/// Cargo fails, or answers in a form that we don't know.
pub fn metadata() -> Result<Value> {
    let mut command = cargo_command();
    command.args(["metadata", "--no-deps", "--format-version", "1"]);
    serde_json::from_slice(&output_of(&mut command)?)
        .context("cargo metadata answers in a form that is not JSON")
}

/// Where cargo puts what it builds.
///
/// # Errors
/// Cargo doesn't say.
pub fn target() -> Result<PathBuf> {
    let metadata = metadata()?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(target.into())
}

/// Where the guests are built: apart from the host's code, so that neither waits on the other's lock.
pub fn guests_target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(target) => root().join(target).join("guests"),
        None => examples().join("target"),
    }
}

/// The released `wasmatrix`, built if need be.
///
/// # Errors
/// The build fails.
pub fn release_binary() -> Result<PathBuf> {
    cargo(&["build", "--release", "--locked", "--package", "wasmatrix"], &[] as &[OsString])?;
    Ok(target()?.join("release/wasmatrix"))
}
