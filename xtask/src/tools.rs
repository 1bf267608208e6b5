//! Programs that a chore needs, and what to install when they are missing.

use std::{env, fs, os::unix::fs::MetadataExt as _, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::workspace::{execute, output_of, root};

/// What the guests are built for.
pub const COMPONENT: &str = "wasm32-wasip2";
/// What a preview-1 module is built for.
pub const PREVIEW1: &str = "wasm32-wasip1";

/// The path of a program, if there is one.
pub fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Makes sure that these programs are there, each with the name of the Debian package that has it. Installs what is
/// missing if that can be done without asking.
///
/// # Errors
/// A program is missing and can't be installed; the message says what to do.
pub fn ensure_programs(programs: &[(&str, &str)]) -> Result<()> {
    let packages = missing(programs);
    if packages.is_empty() {
        return Ok(());
    }
    if may_install()? {
        println!("installing {}", packages.join(" "));
        execute(Command::new("apt-get").args(["update", "-qq"]))?;
        let mut install = Command::new("apt-get");
        install.args(["install", "--yes", "-qq", "--no-install-recommends"]).args(&packages);
        execute(install.env("DEBIAN_FRONTEND", "noninteractive"))?;
    }
    let packages = missing(programs);
    if !packages.is_empty() {
        bail!("not installed here. On Debian: apt-get install {}", packages.join(" "));
    }
    Ok(())
}

fn missing<'a>(programs: &[(&str, &'a str)]) -> Vec<&'a str> {
    programs.iter().filter(|(program, _)| find(program).is_none()).map(|(_, package)| *package).collect()
}

/// Whether this process may do all that there is to do.
///
/// # Errors
/// `/proc` can't be read.
pub fn is_root() -> Result<bool> {
    Ok(fs::metadata("/proc/self").context("can't read /proc/self")?.uid() == 0)
}

/// Whether what is missing may be installed: in CI, as root, on Debian. Nobody's machine is changed behind their back.
///
/// # Errors
/// `/proc` can't be read.
pub fn may_install() -> Result<bool> {
    Ok(is_root()? && env::var_os("CI").is_some_and(|value| value == "true") && find("apt-get").is_some())
}

/// Makes sure that rustc can compile for these targets, through rustup.
///
/// # Errors
/// A target is missing and rustup is, or fails; the message says what to do.
pub fn ensure_targets(targets: &[&str]) -> Result<()> {
    for target in targets {
        if !has_target(target)? {
            println!("adding the compilation target {target}");
            execute(Command::new("rustup").args(["target", "add", target]).current_dir(root())).with_context(|| {
                format!(
                    "the guests need the Rust target {target}, and rustup can't add it. With rustup (https://rustup.rs) \
                     and a network: `rustup target add {target}`. A Rust from elsewhere: install that distribution's \
                     standard library for {target}"
                )
            })?;
        }
    }
    Ok(())
}

/// Whether the compiler in use has a standard library for a target, wherever it came from.
fn has_target(target: &str) -> Result<bool> {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", target]).current_dir(root());
    let folder =
        String::from_utf8(output_of(&mut rustc)?).context("rustc prints a path that is not UTF-8")?;
    Ok(PathBuf::from(folder.trim_end()).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_there_if_its_standard_library_is() {
        // That of the machine is always there; that of this small processor has never been made.
        let host = if cfg!(target_arch = "aarch64") {
            "aarch64-unknown-linux-gnu"
        } else {
            "x86_64-unknown-linux-gnu"
        };
        assert!(has_target(host).unwrap());
        assert!(!has_target("msp430-none-elf").unwrap());
    }

    #[test]
    fn only_what_is_missing_is_asked_for() {
        assert_eq!(missing(&[("sh", "dash"), ("no-such-program-anywhere", "nothing")]), ["nothing"]);
        ensure_programs(&[("sh", "dash")]).unwrap();
    }

    #[test]
    fn a_program_is_found_by_its_name_alone() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-anywhere").is_none());
    }
}
