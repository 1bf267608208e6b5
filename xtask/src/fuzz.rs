//! Runs the fuzz targets of `executor-microvm/fuzz`, with the compiler that builds everything else.
//!
//! cargo-fuzz asks for a nightly compiler because of the address sanitizer, of which safe code has little use. What
//! guides a fuzzer is a pass of LLVM that every rustc has, and libFuzzer, which `libfuzzer-sys` builds.
//!
//! ```text
//! target/fuzz/seeds/NAME     what the target itself begins from, written anew each time
//!            /corpus/NAME    what was found to reach more code; kept between runs
//!            /findings/NAME  inputs that failed
//! ```

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    tools,
    workspace::{cargo_command, execute, output_of, root, shown, target},
};

/// The targets, in `fuzz_targets/`.
const TARGETS: &[&str] = &["hypercalls", "names"];
/// How long each is run, unless told.
const SECONDS: u64 = 60;
/// Counts of what is executed, where, and which values are compared; and `cfg(fuzzing)`, as cargo-fuzz sets it.
const RUSTFLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// An input that takes longer, in seconds, or more memory, in MiB, is a finding.
const INPUT_SECONDS_MAX: u64 = 10;
const MEMORY_MIB_MAX: u64 = 2048;
/// Longest input that is made up, in bytes.
const INPUT_BYTES_MAX: u64 = 8192;

/// `cargo xtask fuzz`
#[derive(Debug, Args)]
pub struct Fuzz {
    /// Which target; all of them, one after the other, if none is named
    target: Option<String>,
    /// How long each is run
    #[arg(long, value_name = "SECONDS", default_value_t = SECONDS)]
    seconds: u64,
    /// Handed on to libFuzzer; with files instead of a corpus, each is tried once
    #[arg(last = true, requires = "target")]
    arguments: Vec<String>,
}

impl Fuzz {
    /// Every target for so long.
    pub const fn all(seconds: u64) -> Self {
        Self { target: None, seconds, arguments: Vec::new() }
    }

    /// Whether this machine has what [`Fuzz::run`] needs.
    pub fn is_possible() -> bool {
        cfg!(all(target_os = "linux", target_arch = "x86_64")) && tools::find("c++").is_some()
    }

    /// Builds the targets and runs what was asked for.
    ///
    /// # Errors
    /// A target finds something, or can't be built or run; the message says where the input is.
    pub fn run(&self) -> Result<()> {
        if !Self::is_possible() {
            bail!("fuzzing needs Linux on x86-64 and a C++ compiler (Debian: apt-get install g++)");
        }
        let chosen: Vec<&str> = match &self.target {
            None => TARGETS.to_vec(),
            Some(name) if TARGETS.contains(&name.as_str()) => vec![name],
            Some(other) => bail!("there is no target `{other}`; there are {}", TARGETS.join(", ")),
        };
        let folder = target()?.join("fuzz");
        let built = build(&folder)?;
        for name in chosen {
            self.run_target(name, &built.join(name), &folder)?;
        }
        Ok(())
    }

    fn run_target(&self, name: &str, program: &Path, folder: &Path) -> Result<()> {
        let [seeds, corpus, findings] =
            ["seeds", "corpus", "findings"].map(|kind| folder.join(kind).join(name));
        if seeds.exists() {
            fs::remove_dir_all(&seeds).with_context(|| format!("can't empty {}", seeds.display()))?;
        }
        for wanted in [&seeds, &corpus, &findings] {
            fs::create_dir_all(wanted).with_context(|| format!("can't make {}", wanted.display()))?;
        }
        let mut fuzzer = Command::new(program);
        fuzzer.current_dir(root()).env("WASMATRIX_FUZZ_SEEDS", &seeds);
        fuzzer.args(["-verbosity=0", "-print_final_stats=1"]);
        fuzzer.arg(format!("-max_total_time={}", self.seconds));
        fuzzer.arg(format!("-timeout={INPUT_SECONDS_MAX}")).arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"));
        fuzzer.arg(format!("-max_len={INPUT_BYTES_MAX}"));
        fuzzer.arg(format!("-artifact_prefix={}/", findings.display())).args(&self.arguments);
        if !self.arguments.iter().any(|argument| !argument.starts_with('-')) {
            println!("fuzzing {name} for {} s", self.seconds);
            fuzzer.args([&corpus, &seeds]);
        }
        without_dictionary(&mut fuzzer).with_context(|| {
            format!(
                "the fuzz target {name} found something: the input is in {}, and `cargo xtask fuzz {name} -- FILE` \
                 tries it again",
                findings.display()
            )
        })
    }
}

/// Runs a fuzzer, and repeats what it says but the words that it found out, which nobody can read.
fn without_dictionary(fuzzer: &mut Command) -> Result<()> {
    let shown = shown(fuzzer);
    let mut running =
        fuzzer.stderr(Stdio::piped()).spawn().with_context(|| format!("can't start `{shown}`"))?;
    let said = running.stderr.take().context("it was started with a pipe")?;
    let mut in_dictionary = false;
    for line in BufReader::new(said).split(b'\n') {
        let line = line.context("can't read what the fuzzer says")?;
        let line = String::from_utf8_lossy(&line);
        in_dictionary |= line.starts_with("###### Recommended dictionary");
        if !in_dictionary {
            eprintln!("{line}");
        }
        in_dictionary &= !line.starts_with("###### End of recommended dictionary");
    }
    let status = running.wait().with_context(|| format!("can't wait for `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Builds all targets and says where they are. The lock file is brought up to date if a crate of ours has changed its
/// dependencies since.
fn build(folder: &Path) -> Result<PathBuf> {
    let mut rustc = Command::new("rustc");
    let version = String::from_utf8(output_of(rustc.arg("-vV").current_dir(root()))?)?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not say what it compiles for")?;
    let mut cargo = cargo_command();
    // Named, so that build scripts and macros are built without instrumentation.
    cargo.args(["build", "--release", "--target", host, "--target-dir"]).arg(folder);
    execute(cargo.current_dir(root().join("executor-microvm/fuzz")).env("RUSTFLAGS", RUSTFLAGS.join(" ")))?;
    Ok(folder.join(host).join("release"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_targets_are_those_in_the_folder() {
        let mut there: Vec<String> = fs::read_dir(root().join("executor-microvm/fuzz/fuzz_targets"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .filter(|name| name != "seeds")
            .collect();
        there.sort();
        assert_eq!(there, TARGETS);
    }
}
