//! Guests in other languages, built by their languages' own tools, as far as those are installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{
    tools::find,
    workspace::{self, execute},
};

/// Builds a guest at a path, if its tools are there.
type Build = fn(&Path) -> Result<Built>;

const BUILDS: &[(&str, Build)] =
    &[("hello-c", c), ("hello-javascript", javascript), ("hello-python", python)];

/// Builds what can be built here, into `folder`, and says what was skipped and what to install.
///
/// # Errors
/// A tool is there and fails.
pub(super) fn build(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut guests = Vec::new();
    for (name, build) in BUILDS {
        let guest = folder.join(format!("{name}.wasm"));
        match build(&guest)? {
            Built::Done => guests.push(guest),
            Built::Skipped { install } => println!("skipped {name}: to build it, install {install}"),
        }
    }
    Ok(guests)
}

/// What came of a build that did not fail.
enum Built {
    Done,
    Skipped { install: &'static str },
}

/// A preview-1 module. Debian's clang finds Debian's C library for WebAssembly by itself.
fn c(guest: &Path) -> Result<Built> {
    let clang = ["clang-19", "clang-16", "clang-14", "clang"].into_iter().find_map(find);
    let library = Path::new("/usr/lib/wasm32-wasi/libc.a").is_file();
    let (Some(clang), true) = (clang, library) else {
        return Ok(Built::Skipped {
            install: "clang-19, lld-19, wasi-libc and libclang-rt-19-dev-wasm32 (packages of Debian and Ubuntu)",
        });
    };
    let source = workspace::examples().join("c/hello.c");
    execute(
        Command::new(clang)
            .args(["--target=wasm32-wasi", "-Os", "-Wl,--strip-debug"])
            .arg(source)
            .arg("-o")
            .arg(guest),
    )?;
    Ok(Built::Done)
}

/// componentize-js, as the lock file pins it.
fn javascript(guest: &Path) -> Result<Built> {
    let folder = workspace::examples().join("javascript");
    let (Some(npm), Some(_)) = (find("npm"), find("node")) else {
        return Ok(Built::Skipped { install: "Node.js 20 or newer, with npm" });
    };
    execute(
        Command::new(&npm).args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&folder),
    )?;
    execute(Command::new(npm).args(["run", "--silent", "build", "--", "-o"]).arg(guest).current_dir(folder))?;
    Ok(Built::Done)
}

/// componentize-py, in a virtual environment in the target folder.
fn python(guest: &Path) -> Result<Built> {
    let Some(python) = find("python3") else {
        return Ok(Built::Skipped { install: "Python 3.10 or newer, with venv" });
    };
    let folder = workspace::examples().join("python");
    let environment = workspace::guests_target().join("python");
    if !environment.join("bin/pip").is_file() {
        fs::create_dir_all(&environment)?;
        execute(Command::new(python).args(["-m", "venv"]).arg(&environment))?;
    }
    let pip = environment.join("bin/pip");
    execute(
        Command::new(pip)
            .args(["install", "--quiet", "--requirement", "requirements.txt"])
            .current_dir(&folder),
    )?;
    let componentize = environment.join("bin/componentize-py");
    execute(
        Command::new(componentize)
            .args(["--wit-path", "../wit", "--world", "hello", "componentize", "app", "-o"])
            .arg(guest)
            .current_dir(folder),
    )?;
    Ok(Built::Done)
}
