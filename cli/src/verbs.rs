//! Which verb is done where.
//!
//! | module | verbs |
//! |---|---|
//! | [`start`], [`ps`] | those |
//! | [`instances`] | `get`, `stop`, `rm`, `grant`, `revoke` |
//! | [`streams`] | `logs`, `events` |
//! | [`apply`] | `apply`, `validate` |
//! | [`nodes`] | `node`, `token` |
//! | [`certs`] | `certs` |
//! | [`providers`] | `provider`, `version` |
//! | [`doctor`] | `doctor` |
//! | [`inspect`] | `inspect` |
//! | [`shell`] | `completion`, `man`, `exit-codes` |
//!
//! `run` and the verbs that serve are larger and have modules of their own beside this one.

mod apply;
mod certs;
mod doctor;
mod inspect;
mod instances;
mod nodes;
mod providers;
mod ps;
mod shell;
mod start;
mod streams;

use crate::{
    args::{Cli, Verb},
    error::{CliError, Exit},
    output::Printer,
    run, serve,
};

/// Does what the command line asks for, and gives the exit code.
///
/// # Errors
/// It could not be done; the error knows its exit code.
pub(crate) async fn perform(cli: Cli) -> Result<u8, CliError> {
    let global = &cli.global;
    let out = &mut Printer::new(global.output, global.quiet);
    match cli.verb {
        Verb::Run(args) => return run::run(args, global).await,
        Verb::Up(args) => return serve::up::up(args, global).await,
        Verb::ControlPlane(args) => return serve::control::control_plane(args, global).await,
        Verb::Agent(args) => return serve::agent::agent(args, global).await,
        Verb::Join(args) => return serve::join::join(args, global).await,
        Verb::Start(args) => start::start(args, global, out).await?,
        Verb::Ps(args) => ps::ps(&args, global, out).await?,
        Verb::Get(args) => instances::get(&args, global, out).await?,
        Verb::Stop(args) => instances::stop(&args, global, out).await?,
        Verb::Rm(args) => instances::remove(&args, global, out).await?,
        Verb::Grant(args) => instances::grant(&args, global, out).await?,
        Verb::Revoke(args) => instances::revoke(&args, global, out).await?,
        Verb::Logs(args) => streams::logs(&args, global, out).await?,
        Verb::Events(args) => streams::events(&args, global, out).await?,
        Verb::Apply(args) => apply::apply(&args, global, out).await?,
        Verb::Validate(args) => apply::validate(&args, out)?,
        Verb::Node(verb) => return nodes::node(&verb, global, out).await,
        Verb::Token(verb) => nodes::token(&verb, global, out).await?,
        Verb::Certs(verb) => certs::certs(&verb, out)?,
        Verb::Provider(verb) => providers::provider(&verb, global, out).await?,
        Verb::Version => providers::version(global, out).await?,
        Verb::Doctor(args) => return doctor::doctor(&args, global, out).await.map(|exit| exit as u8),
        Verb::Inspect(args) => inspect::inspect(&args, out)?,
        Verb::Completion(args) => shell::completion(&args)?,
        Verb::ExitCodes => shell::exit_codes()?,
        Verb::Man(args) => shell::man(&args, out)?,
    }
    Ok(Exit::Ok as u8)
}
