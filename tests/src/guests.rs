//! The example guests as files, built when a test first asks for one.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Names a folder of guests that are built already, e.g. `examples/wasm` after `cargo xtask examples`.
const PREBUILT: &str = "WASMATRIX_GUESTS_DIR";
const COMPONENT: &str = "wasm32-wasip2";
const PREVIEW1: &str = "wasm32-wasip1";

/// The path of an example's `.wasm`: `hello`, `probe` and so on, and `hello-preview1`, the same program as a
/// preview-1 module.
///
/// # Panics
/// If there is no such example, or it can't be built; the message says what to run.
pub fn guest(name: &str) -> PathBuf {
    static BUILT: OnceLock<Folders> = OnceLock::new();
    let path = BUILT.get_or_init(Folders::ready).path(name);
    assert!(
        path.is_file(),
        "there is no guest `{name}`: {} is missing (see examples/Cargo.toml)",
        path.display()
    );
    path
}

/// A guest that `cargo xtask examples --all` builds where the tools for its language are installed: `hello-c`,
/// `hello-javascript`, `hello-python`. `None`: it has not been built here, and a test should say that it skips.
pub fn optional_guest(name: &str) -> Option<PathBuf> {
    let folder = prebuilt().unwrap_or_else(|| examples().join("wasm"));
    Some(folder.join(format!("{name}.wasm"))).filter(|path| path.is_file())
}

/// Where the guests are.
#[derive(Debug)]
enum Folders {
    /// All in one.
    Prebuilt(PathBuf),
    /// Cargo's target directory: one for each target below it.
    Built(PathBuf),
}

impl Folders {
    fn ready() -> Self {
        if let Some(folder) = prebuilt() {
            return Self::Prebuilt(folder);
        }
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| examples().join("target"), guests_below);
        build(&target, &["--target", COMPONENT, "--workspace"]);
        build(&target, &["--target", PREVIEW1, "--package", "hello"]);
        Self::Built(target)
    }

    fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Prebuilt(folder) => folder.join(format!("{name}.wasm")),
            Self::Built(target) => {
                let (name, triple) = match name.strip_suffix("-preview1") {
                    Some(name) => (name, PREVIEW1),
                    None => (name, COMPONENT),
                };
                target.join(triple).join("release").join(format!("{name}.wasm"))
            }
        }
    }
}

/// A relative target directory is relative to where cargo was called, and tests are run elsewhere: the workspace is
/// where people call it.
fn guests_below(target: std::ffi::OsString) -> PathBuf {
    workspace().join(target).join("guests")
}

fn prebuilt() -> Option<PathBuf> {
    env::var_os(PREBUILT).filter(|folder| !folder.is_empty()).map(|folder| workspace().join(folder))
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the workspace's folder")
}

fn examples() -> PathBuf {
    workspace().join("examples")
}

/// Builds some guests. Another process that does the same waits on cargo's own lock.
fn build(target: &Path, what: &[&str]) {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--locked", "--target-dir"])
        .arg(target)
        .args(what)
        .current_dir(examples())
        // Flags for the host's code, such as those of coverage, mean nothing to a guest's compiler.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .output()
        .expect("cargo, which runs this test, can be started again");
    assert!(
        output.status.success(),
        "the guests can't be built. `cargo xtask examples` installs what they need and shows the whole story; \
         {PREBUILT} names a folder of built ones. Cargo says:\n{}",
        String::from_utf8_lossy(&output.stderr),
    );
}
