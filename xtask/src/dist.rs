//! What a release is made of.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::workspace::{execute, output_of, release_binary, target};

/// Shells, and where each looks for a completion of that name.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "wasmatrix.bash"),
    ("zsh", "_wasmatrix"),
    ("fish", "wasmatrix.fish"),
    ("elvish", "wasmatrix.elv"),
    ("powershell", "_wasmatrix.ps1"),
];

/// Makes the binary, completions and manual pages in `target/dist`, from nothing. Returns that folder.
///
/// # Errors
/// The build fails, or a file can't be written.
pub fn run() -> Result<PathBuf> {
    let binary = release_binary()?;
    let folder = target()?.join("dist");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("can't empty {}", folder.display()))?;
    }
    let completions = folder.join("completions");
    let manual = folder.join("man/man1");
    for wanted in [&completions, &manual] {
        fs::create_dir_all(wanted).with_context(|| format!("can't make {}", wanted.display()))?;
    }
    copy(&binary, &folder.join("wasmatrix"))?;
    for (shell, file) in COMPLETIONS {
        let script = output_of(Command::new(&binary).args(["completion", shell]))?;
        let path = completions.join(file);
        fs::write(&path, script).with_context(|| format!("can't write {}", path.display()))?;
    }
    execute(Command::new(&binary).arg("man").arg(&manual))?;
    Ok(folder)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("can't copy {} to {}", from.display(), to.display()))?;
    Ok(())
}
