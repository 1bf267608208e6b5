//! Builds the guest's image, from source, for every build of the executor.
//!
//! The guest is a workspace of its own (see its `Cargo.toml`), so this is a cargo within cargo. Nothing that the outer
//! build was told about flags, targets or wrappers may reach the inner one: the image would come out different.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

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

fn main() {
    let crate_directory = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    let guest = crate_directory.join("guest");
    for input in ["src", "wit", "memfd", "Cargo.toml", "Cargo.lock", "build.rs", "linker.ld", "../abi"] {
        println!("cargo:rerun-if-changed={}", guest.join(input).display());
    }
    let target_directory = out.join("guest");
    let mut cargo = Command::new(variable("CARGO"));
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
        if name.to_string_lossy().starts_with("CLIPPY_") || name.to_string_lossy().starts_with("CARGO_PROFILE_") {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status().expect("cargo runs this, so cargo can be run");
    assert!(status.success(), "the guest's image could not be built; its errors are above");
    install(&target_directory.join(TARGET).join("release/wasmatrix-microvm-guest"), &out.join("guest.elf"));
}

fn install(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap_or_else(|error| panic!("{} could not be copied: {error}", from.display()));
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
