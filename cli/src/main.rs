//! `wasmatrix`: the one binary. Reads the command line, starts the log and the runtime, does the verb, and says how
//! it went by an exit code.
//!
//! | module | what it does |
//! |---|---|
//! | [`args`], [`value`] | the command line, and text into values |
//! | [`manifest`] | `app.toml` |
//! | [`verbs`] | which verb is done where |
//! | [`run`] | a program in the foreground |
//! | [`serve`] | control plane and node, in one process or in two |
//! | [`client`] | the control plane's API as plain calls |
//! | [`certs`] | where certificates lie, and how a cluster's are made |
//! | [`output`] | data on standard output, messages on standard error |
//! | [`error`] | what can go wrong, what the user is told, and the exit codes |

#![forbid(unsafe_code)]

mod args;
mod artifact;
mod certs;
mod client;
mod dirs;
mod error;
mod manifest;
mod output;
mod run;
mod serve;
mod value;
mod verbs;

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use crate::{
    args::{Cli, Global, Verb},
    error::{CliError, Exit, Report},
};

fn main() -> ExitCode {
    let cli = match args::parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print(); // with standard error gone there is nobody to tell
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8));
        }
    };
    let code_of =
        if matches!(cli.verb, Verb::Run(_)) { run::code_of } else { |error: &CliError| error.exit() as u8 };
    let code = match execute(cli) {
        Ok(code) => code,
        Err(error) if error.is_broken_pipe() => Exit::Ok as u8,
        Err(error) => {
            complain(&error);
            code_of(&error)
        }
    };
    ExitCode::from(code)
}

fn execute(cli: Cli) -> Result<u8, CliError> {
    let serves = matches!(cli.verb, Verb::Up(_) | Verb::Join(_) | Verb::ControlPlane(_) | Verb::Agent(_));
    let _log = start_log(&cli.global, serves)?;
    let mut runtime = match cli.verb {
        _ if serves => tokio::runtime::Builder::new_multi_thread(),
        Verb::Run(_) | Verb::Doctor(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = runtime
        .enable_all()
        .build()
        .map_err(|error| CliError::Host { message: format!("no threads to work with: {error}") })?;
    let outcome = runtime.block_on(verbs::perform(cli));
    // A thread that waits for standard input must not keep the process.
    runtime.shutdown_background();
    outcome
}

fn start_log(global: &Global, serving: bool) -> Result<wasmatrix_telemetry::Guard, CliError> {
    let by_verbosity = match (global.verbose, serving) {
        (0, false) => "error",
        (0, true) => {
            "warn,wasmatrix=info,wasmatrix_agent=info,wasmatrix_control_plane=info,wasmatrix_identity=info,\
             wasmatrix_facts=info"
        }
        (1, false) => "warn,wasmatrix=info,wasmatrix_agent=info",
        (1, true) => "info,wasmatrix=debug,wasmatrix_agent=debug,wasmatrix_control_plane=debug",
        (2.., _) => "debug",
    };
    let filter =
        global.log.clone().or_else(|| std::env::var("RUST_LOG").ok().filter(|filter| !filter.is_empty()));
    let config = wasmatrix_telemetry::Config {
        format: global.log_format,
        filter: filter.unwrap_or_else(|| by_verbosity.to_owned()),
        colour: colour(),
    };
    wasmatrix_telemetry::init(&config).map_err(|error| CliError::usage(error::chain(&error)))
}

fn colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn complain(error: &CliError) {
    if let CliError::Unreachable { reason, .. } = error {
        tracing::info!(%reason, "the transport's own words");
    }
    let _ = writeln!(std::io::stderr(), "{}", Report { error, of: None, colour: colour() });
}
