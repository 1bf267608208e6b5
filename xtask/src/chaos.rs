//! Runs the chaos test by hand: real processes, killed, frozen and cut off for as long as one likes.

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    tools,
    workspace::{cargo_command, execute},
};

/// How long things go wrong, unless told.
const SECONDS: u64 = 600;

/// `cargo xtask chaos`
#[derive(Debug, Args)]
pub struct Chaos {
    /// For how long things go wrong
    #[arg(long, value_name = "SECONDS", default_value_t = SECONDS)]
    seconds: u64,
    /// The number that a failed run printed: the same things go wrong, at the same times [default: a new one]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// How often, each time with the next seed, or with a new one
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
}

impl Chaos {
    /// Runs it.
    ///
    /// # Errors
    /// A program is missing that it needs, or the test fails.
    pub fn run(&self) -> Result<()> {
        tools::ensure_programs(&[
            ("etcd", "etcd-server"),
            ("protoc", "protobuf-compiler"),
            ("ip", "iproute2"),
            ("tc", "iproute2"),
        ])?;
        if !tools::is_root()? {
            bail!("machines of its own are network namespaces, which are root's to make: run it as root");
        }
        for round in 0..self.rounds {
            let mut test = cargo_command();
            // As CI builds it, so that nothing is built twice.
            test.args(["test", "--workspace", "--features", "wasmatrix/etcd", "--locked", "--test", "chaos"]);
            test.args(["--", "--nocapture", "real_processes"]);
            test.env("WASMATRIX_REQUIRE_NETNS", "1").env("WASMATRIX_CHAOS_SECONDS", self.seconds.to_string());
            if let Some(seed) = self.seed {
                test.env("WASMATRIX_CHAOS_SEED", seed.wrapping_add(round).to_string());
            }
            execute(&mut test)?;
        }
        Ok(())
    }
}
