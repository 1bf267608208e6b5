//! Runs programs that others built on both executors, and compares what came of them: the table of
//! `docs/compatibility.md`, again.
//!
//! ```text
//! target/compatibility/npm/NAME-VERSION     packages, as their registries give them out; kept between runs
//!                     /wheels/NAME-VERSION
//!                     /go/PROGRAM.wasm      what is compiled here
//!                     /cache                code that the in-process executor compiled
//! ```
//!
//! A case passes if both executors wrote the same to standard output, ended with the same code, and that is the code,
//! with the words, that the table of [`programs`] has.

mod packages;
mod programs;
mod suite;

use std::{
    fmt,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use self::programs::{Case, PROGRAMS, Program};
use crate::workspace::{self, shown, target};

/// Both, by the names that `--executor` takes.
const EXECUTORS: [&str; 2] = ["wasmtime", "microvm"];
/// Longest run, as `--wall-time` takes it: the slowest that is right takes about half of it.
const WALL_TIME_MAX: &str = "150s";

/// `cargo xtask compatibility`
#[derive(Debug, Args)]
pub struct Compatibility {
    /// Only programs with this in their name; all if none is given
    names: Vec<String>,
    /// The `wasmatrix` to run them with [default: a released one, built now]
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// A checkout of WebAssembly/wasi-testsuite, branch prod/testsuite-base, to be run too
    #[arg(long, value_name = "DIR")]
    suite: Option<PathBuf>,
}

impl Compatibility {
    /// Fetches what is missing, runs everything, and says what came of it.
    ///
    /// # Errors
    /// A package can't be had, or a program does something else than it should.
    pub fn run(&self) -> Result<()> {
        let folder = target()?.join("compatibility");
        let binary = match &self.with {
            Some(binary) => {
                binary.canonicalize().with_context(|| format!("there is no {}", binary.display()))?
            }
            None => workspace::release_binary()?,
        };
        let runner = Runner { binary, cache: folder.join("cache") };
        let wanted = |program: &&Program| {
            self.names.is_empty() || self.names.iter().any(|name| program.name.contains(name))
        };
        let mut failures = 0;
        for program in PROGRAMS.iter().filter(wanted) {
            let file = packages::obtain(program, &folder)
                .with_context(|| format!("{} can't be had", program.name))?;
            println!("{} ({:.1} MB)", program.name, file.metadata()?.len() as f64 / 1e6);
            for case in program.cases {
                failures += u32::from(!runner.try_case(&file, case)?);
            }
        }
        if let Some(checkout) = &self.suite {
            failures += suite::run(&runner, checkout)?;
        }
        if failures > 0 {
            bail!("{failures} came out otherwise than they should");
        }
        Ok(())
    }
}

/// What runs programs.
struct Runner {
    binary: PathBuf,
    cache: PathBuf,
}

/// What came of a run.
struct Outcome {
    code: i32,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    took: Duration,
}

impl Outcome {
    fn says(&self, words: &str) -> bool {
        [&self.stdout, &self.stderr].into_iter().any(|text| String::from_utf8_lossy(text).contains(words))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, stdout, took, .. } = self;
        write!(f, "{code}, {} bytes, {:.1} s", stdout.len(), took.as_secs_f64())
    }
}

impl Runner {
    /// Runs a case on both executors, says what came of it, and whether that is as it should be.
    fn try_case(&self, file: &Path, case: &Case) -> Result<bool> {
        let run = |executor| self.go(executor, file, &[], case.args, case.stdin.as_bytes());
        let outcomes = [run(EXECUTORS[0])?, run(EXECUTORS[1])?];
        let [first, second] = &outcomes;
        let alike = first.code == second.code && first.stdout == second.stdout;
        let right = outcomes.iter().all(|outcome| outcome.code == case.code && outcome.says(case.says));
        let verdict = match (alike, right) {
            (true, true) => "ok    ",
            (true, false) => "WRONG ",
            (false, _) => "DIFFER",
        };
        println!("  {verdict} {:<52} {first}; {second}", shortened(case.name));
        if !(alike && right) {
            for (executor, outcome) in EXECUTORS.iter().zip(&outcomes) {
                println!(
                    "         {executor} said: {}",
                    shortened(&String::from_utf8_lossy(&outcome.stderr))
                );
            }
        }
        Ok(alike && right)
    }

    /// Runs a file on one executor.
    fn go(
        &self,
        executor: &str,
        file: &Path,
        environment: &[(String, String)],
        args: &[impl AsRef<str>],
        stdin: &[u8],
    ) -> Result<Outcome> {
        let mut command = Command::new(&self.binary);
        command.args(["run", "--executor", executor, "--wall-time", WALL_TIME_MAX, "--cache-dir"]);
        command.arg(&self.cache);
        for (name, value) in environment {
            command.arg("--env").arg(format!("{name}={value}"));
        }
        command.arg(file).args(args.iter().map(AsRef::as_ref));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = command.spawn().with_context(|| format!("can't start `{}`", shown(&command)))?;
        let mut input = child.stdin.take().context("it was started with a pipe")?;
        let bytes = stdin.to_vec();
        let writer = thread::spawn(move || {
            // Who ends before it has read everything is no fault of ours.
            let _closed = input.write_all(&bytes);
        });
        let output =
            child.wait_with_output().with_context(|| format!("can't wait for `{}`", shown(&command)))?;
        let took = begun.elapsed();
        if writer.join().is_err() {
            bail!("standard input could not be written");
        }
        let code = output.status.code().with_context(|| format!("`{}` was killed", shown(&command)))?;
        Ok(Outcome { code, stdout: output.stdout, stderr: output.stderr, took })
    }
}

/// The first line, as much of it as is good to read.
fn shortened(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(160).collect()
}
