//! The command line as clap reads it: high-level arguments of every verb, and what `--help` teaches.
//!
//! Every flag has a twin among the environment variables, `WASMATRIX_` and the flag's name in capitals. That is not
//! written at each flag but done for all of them in [`command`], so that none can be forgotten.

mod certs;
mod cluster;
mod instance;
mod serve;
mod verbs;

use std::time::Duration;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use wasmatrix_telemetry::Format as LogFormat;

use crate::value;

pub(crate) use certs::{CertsInit, CertsIssue, CertsRevoke, CertsVerb};
pub(crate) use cluster::{Drain, NodeVerb, ProviderVerb, TokenVerb};
pub(crate) use instance::{Definition, PlacementArgs, REPLICAS_MAX, Restart};
pub(crate) use serve::{Agent, ControlArgs, ControlPlane, Join, NodeArgs, PlaceArgs, Up};
pub(crate) use verbs::{
    Apply, CacheArgs, Completion, Doctor, Events, Get, Grants, Inspect, KvPlace, Logs, Man, Ps, Remove, Run,
    Start, Stop, Validate,
};

/// Where a server listens, and a client asks, unless told otherwise.
pub(crate) const ADDR_DEFAULT: &str = "http://127.0.0.1:7117";

/// The one flag that has no twin in the environment.
const INSECURE: &str = "insecure-plaintext-i-trust-this-network";

/// What `wasmatrix exit-codes` says, and the long help.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  failed, in a way that has no code of its own
    2  the command line, the file or the request breaks a rule
    3  no such file, instance or capability
    4  denied
    5  nobody answers, or not in time
    6  the artifact can't be run
    7  a limit was reached
    8  contradicts what is: the instance still runs, or has another definition

Of `wasmatrix run`: the guest's own exit code, or
  124  the guest ran out of wall time
  125  Wasmatrix failed; the guest is not to blame
  126  the artifact can't be run
  127  no such file
  130  interrupted (143 by SIGTERM); of `wasmatrix node drain` too
  134  the guest trapped
  137  the guest reached a limit other than wall time

Environment:
  Every flag can be given as WASMATRIX_ and its name in capitals: --log-format is WASMATRIX_LOG_FORMAT. But not
  --insecure-plaintext-i-trust-this-network, which has to be written each time.
  NO_COLOR switches colours off. RUST_LOG is read where neither --log nor WASMATRIX_LOG is given.";

/// Runs WebAssembly that you do not fully trust, with exactly what it was granted.
#[derive(Debug, Parser)]
#[command(
    name = "wasmatrix",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = "Start with: wasmatrix run hello.wasm\nExit codes and environment: wasmatrix help exit-codes",
    after_long_help = EXIT_CODES
)]
pub(crate) struct Cli {
    /// What every verb takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What every verb takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Where the Wasmatrix to ask listens
    #[arg(long, global = true, value_name = "URL", default_value = ADDR_DEFAULT)]
    pub addr: String,
    /// Where the certificate lies that is shown to an https:// address [default: certs/admin in the data directory]
    #[arg(long, global = true, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub certs: Option<std::path::PathBuf>,
    /// Speak without encryption or proof of identity beyond this machine. Whoever can reach the network can then run
    /// programs, and read and change all that is said
    #[arg(long, global = true, value_parser = clap::builder::FalseyValueParser::new(), hide_short_help = true)]
    pub insecure_plaintext_i_trust_this_network: bool,
    /// How data is written to standard output
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "table")]
    pub output: OutputFormat,
    /// Longest wait for an answer [default: 30s; 5m for start and apply]
    #[arg(long, global = true, value_name = "TIME", value_parser = value::duration)]
    pub timeout: Option<Duration>,
    /// Say nothing on standard error but errors
    #[arg(short, long, global = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub quiet: bool,
    /// Log more: -v for what is done, -vv for every step
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Which log lines, in the language of RUST_LOG, e.g. info,wasmatrix_agent=debug
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// How a log line looks: auto (text on a terminal, JSON elsewhere), text or json
    #[arg(long, global = true, value_name = "FORMAT", default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,
}

/// How data is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Columns for people
    #[default]
    Table,
    /// More columns
    Wide,
    /// One JSON document; one on each line where data streams
    Json,
    /// YAML documents
    Yaml,
    /// Names alone, one on each line
    Name,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[command(subcommand_value_name = "COMMAND")]
pub(crate) enum Verb {
    /// Run a program here, in the foreground, with its stdio and its exit code
    Run(Run),
    /// Run a Wasmatrix in the foreground: control plane and node in one process
    Up(Up),
    /// Let this machine be a node of a control plane on another one
    Join(Join),
    /// Run a control plane without a node
    ControlPlane(ControlPlane),
    /// Run a node without a control plane
    Agent(Agent),
    /// Start an instance
    Start(Start),
    /// List instances
    #[command(visible_aliases = ["list", "ls"])]
    Ps(Ps),
    /// Show one instance whole
    Get(Get),
    /// Show what an instance said
    Logs(Logs),
    /// Show what happened
    Events(Events),
    /// Stop instances
    Stop(Stop),
    /// Forget instances that have ended
    Rm(Remove),
    /// Let an instance do more, from its next call on
    #[command(after_help = "Example:\n  wasmatrix grant counter kv:read kv:write:settings/ui/*")]
    Grant(Grants),
    /// Let an instance do less, from its next call on
    #[command(after_help = "Example:\n  wasmatrix revoke counter kv:write")]
    Revoke(Grants),
    /// Start the instances of an app.toml that do not exist yet
    Apply(Apply),
    /// Check an app.toml, without a server
    Validate(Validate),
    /// Show nodes, and say which take instances
    #[command(subcommand)]
    Node(NodeVerb),
    /// Make tokens with which machines join
    #[command(subcommand)]
    Token(TokenVerb),
    /// Make and show the certificates of a cluster
    #[command(subcommand)]
    Certs(CertsVerb),
    /// Show, start and stop capability providers
    #[command(subcommand)]
    Provider(ProviderVerb),
    /// Say what an artifact is, what it imports and exports
    Inspect(Inspect),
    /// Say what this host can run, and why not
    Doctor(Doctor),
    /// Write a shell's completion script to standard output
    Completion(Completion),
    /// Write the manual pages to a directory
    Man(Man),
    /// Say which version this is, and the server's if it answers
    #[command(after_help = "Example:\n  wasmatrix version -o json")]
    Version,
    /// Say what the exit codes mean
    #[command(after_help = EXIT_CODES)]
    ExitCodes,
}

/// The whole command line, every flag with its twin among the environment variables.
pub(crate) fn command() -> clap::Command {
    with_env_twins(Cli::command())
}

/// Reads the command line of this process.
///
/// # Errors
/// What clap objects to, or `--help` and `--version`, which it says the same way.
pub(crate) fn parse() -> Result<Cli, clap::Error> {
    parse_from(std::env::args_os())
}

fn parse_from<T: Into<std::ffi::OsString> + Clone>(
    args: impl IntoIterator<Item = T>,
) -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&command().try_get_matches_from(args)?)
}

fn with_env_twins(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| match arg.get_long() {
        // Nobody should give up safety by what an environment left behind.
        Some("help" | "version" | INSECURE) | None => arg,
        Some(long) => {
            let twin = format!("WASMATRIX_{}", long.replace('-', "_").to_uppercase());
            arg.env(twin).hide_env_values(true)
        }
    });
    command.mut_subcommands(with_env_twins)
}

#[cfg(test)]
mod tests;
