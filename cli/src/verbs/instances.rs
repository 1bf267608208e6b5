//! `get`, `stop`, `rm`, `grant` and `revoke`.

use std::time::Duration;

use wasmatrix_model::{ErrorCode, Grants as GrantSet, Phase};

use crate::{
    args::{Get, Global, Grants, Remove, Stop},
    client::Client,
    error::{CliError, Report},
    output::{Printer, rows::describe_instance},
};

/// Shows one instance whole.
pub(crate) async fn get(args: &Get, global: &Global, out: &mut Printer) -> Result<(), CliError> {
    let instance = Client::connect(global).await?.get(&args.name).await?;
    out.one(&instance, describe_instance)?;
    Ok(())
}

/// Stops instances, each whatever becomes of the others, and shows those that have ended.
pub(crate) async fn stop(args: &Stop, global: &Global, out: &mut Printer) -> Result<(), CliError> {
    let client = Client::connect(global).await?;
    let mut ended = Vec::new();
    let outcome = for_each(&args.names, async |name| {
        ended.push(client.stop(name, args.grace).await?);
        Ok(())
    })
    .await;
    if !ended.is_empty() {
        out.list(&ended)?;
    }
    outcome
}

/// Forgets instances, each whatever becomes of the others.
pub(crate) async fn remove(args: &Remove, global: &Global, out: &mut Printer) -> Result<(), CliError> {
    let client = Client::connect(global).await?;
    for_each(&args.names, async |name| {
        if args.force {
            client.stop(name, Duration::ZERO).await?;
        }
        let removed = client.remove(name).await;
        if let Err(CliError::Refused(failure)) = &removed
            && failure.code == ErrorCode::RestartPolicyViolation
            && !args.force
        {
            let failure =
                failure.clone().with("hint", format!("`wasmatrix rm --force {name}` stops it first"));
            return Err(CliError::Refused(failure));
        }
        removed?;
        out.say(&format!("removed {name}"));
        Ok(())
    })
    .await
}

/// Lets an instance do more.
pub(crate) async fn grant(args: &Grants, global: &Global, out: &mut Printer) -> Result<(), CliError> {
    let client = Client::connect(global).await?;
    let in_force = client.grant(&args.name, &args.grants).await?;
    show_grants(&client, args, &in_force, out).await
}

/// Lets an instance do less.
pub(crate) async fn revoke(args: &Grants, global: &Global, out: &mut Printer) -> Result<(), CliError> {
    let client = Client::connect(global).await?;
    let in_force = client.revoke(&args.name, &args.grants).await?;
    show_grants(&client, args, &in_force, out).await
}

async fn show_grants(
    client: &Client,
    args: &Grants,
    in_force: &GrantSet,
    out: &mut Printer,
) -> Result<(), CliError> {
    let list: Vec<String> = in_force.iter().map(ToString::to_string).collect();
    let list = if list.is_empty() { "nothing".to_owned() } else { list.join(", ") };
    let instance = client.get(&args.name).await?;
    let when = if instance.phase == Phase::Running { ", from its next call on" } else { "" };
    out.say(&format!("{} may now: {list}{when}", instance.spec.name));
    Ok(())
}

/// Does the same for several names. One failure is the failure; of several among many each is told as it happens.
async fn for_each(
    names: &[String],
    mut each: impl AsyncFnMut(&str) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut failed = 0;
    let mut first = None;
    for name in names {
        let Err(error) = each(name).await else { continue };
        if let [_] = names {
            return Err(error);
        }
        failed += 1;
        first = first.or(Some(error.exit()));
        say_error(&error);
    }
    match first {
        None => Ok(()),
        Some(first) => Err(CliError::Several { failed, all: names.len(), first }),
    }
}

/// Tells an error that does not end the verb.
pub(crate) fn say_error(error: &CliError) {
    tell_error(Report { error, of: None, colour: false });
}

/// The same of one thing among several.
pub(crate) fn say_error_of(name: &str, error: &CliError) {
    tell_error(Report { error, of: Some(name), colour: false });
}

fn tell_error(report: Report<'_>) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{report}");
}
