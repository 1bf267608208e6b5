//! Builds the guest's image, from source, for every build of the executor.
//!
//! The guest is a workspace of its own (see its `Cargo.toml`), so this is a cargo within cargo. Nothing that the outer
//! build was told about flags, targets or wrappers may reach the inner one: the image would come out different.

use std::{env, error::Error, fs, path::PathBuf, process::Command};

/// Flags that make the image freestanding: fixed addresses, frame pointers for backtraces through its own code.
const RUSTFLAGS: &[&str] =
    &["-Crelocation-model=static", "-Cforce-frame-pointers=yes", "-Ctarget-feature=+crt-static"];
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// What an outer cargo or its user sets for the outer build alone.
const OUTER: &[&str] = &[
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_MAKEFLAGS",
    "MAKEFLAGS",
];

fn main() -> Result<(), Box<dyn Error>> {
    let crate_directory = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let guest = crate_directory.join("guest");
    for input in ["src", "wit", "memfd", "Cargo.toml", "Cargo.lock", "build.rs", "linker.ld", "../abi"] {
        println!("cargo:rerun-if-changed={}", guest.join(input).display());
    }
    let target_directory = out.join("guest");
    // A fuzz target runs no machine, and need not wait for an image.
    if env::var_os("CARGO_CFG_FUZZING").is_some() {
        return Ok(fs::write(out.join("guest.elf"), [])?);
    }
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo
        .args(["build", "--release", "--locked", "--target", TARGET, "--target-dir"])
        .arg(&target_directory)
        .current_dir(&guest)
        .env("RUSTFLAGS", RUSTFLAGS.join(" "));
    for name in OUTER.iter().filter(|name| **name != "RUSTFLAGS") {
        cargo.env_remove(name);
    }
    // A lint run of the outer build would turn the inner one into a lint run too.
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CLIPPY_")
            || name.to_string_lossy().starts_with("CARGO_PROFILE_")
        {
            cargo.env_remove(name);
        }
    }
    if !cargo.status()?.success() {
        return Err("the guest's image could not be built; its errors are above".into());
    }
    fs::copy(target_directory.join(TARGET).join("release/wasmatrix-microvm-guest"), out.join("guest.elf"))?;
    Ok(())
}
