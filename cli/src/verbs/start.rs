//! `start`: one instance, or several replicas of it at a time.

use futures::StreamExt as _;
use wasmatrix_model::{InstanceSpec, InstanceStatus};

use super::instances::say_error_of;
use crate::{
    args::{Global, Start},
    artifact,
    client::{Client, START_TIMEOUT},
    error::CliError,
    output::{Printer, human, rows::Placed},
    value,
};

/// Most starts under way at a time.
pub(crate) const STARTS_AT_A_TIME: usize = 16;

/// Starts an instance, or replicas of it, and shows them.
pub(crate) async fn start(args: Start, global: &Global, out: &mut Printer) -> Result<(), CliError> {
    let artifact = artifact::read(&args.file)?;
    let mut spec = args.definition.spec(args.default_name(), artifact.digest, args.args)?;
    spec.restart = args.restart.policy();
    spec.placement = args.placement.placement()?;
    spec.validate()?;
    let replicas = value::replicas(&spec, args.placement.replicas)?;
    let client = Client::connect_within(global, START_TIMEOUT).await?;
    if args.placement.replicas.is_some() {
        return start_all(&client, replicas, artifact.bytes, out).await;
    }
    let instance = client.start(spec, artifact.bytes).await?;
    let name = &instance.spec.name;
    match (&instance.last_exit, instance.phase) {
        (Some(exit), phase) if !phase.is_live() => {
            out.say(&format!("{name} has run and ended: {}", human::exit(&exit.cause)));
        }
        _ => out.say(&format!("{name} is {}; follow it with `wasmatrix logs -f {name}`", instance.phase)),
    }
    out.row(&instance)?;
    Ok(())
}

/// Starts each whatever becomes of the others, says of each what became of it, and shows those that were started.
async fn start_all(
    client: &Client,
    replicas: Vec<InstanceSpec>,
    artifact: bytes::Bytes,
    out: &mut Printer,
) -> Result<(), CliError> {
    let all = replicas.len();
    let starts = replicas.into_iter().enumerate().map(|(index, spec)| {
        let artifact = artifact.clone();
        async move { (index, spec.name.clone(), client.start(spec, artifact).await) }
    });
    let mut starts = futures::stream::iter(starts).buffer_unordered(STARTS_AT_A_TIME);
    let mut started: Vec<(usize, InstanceStatus)> = Vec::with_capacity(all);
    let mut first = None;
    while let Some((index, name, outcome)) = starts.next().await {
        match outcome {
            Ok(instance) => {
                out.say(&format!("{name} is {} on node {}", instance.phase, instance.node));
                started.push((index, instance));
            }
            Err(error) => {
                first = first.or(Some(error.exit()));
                say_error_of(name.as_str(), &error);
            }
        }
    }
    started.sort_by_key(|(index, _)| *index);
    let shown: Vec<Placed<'_>> = started.iter().map(|(_, instance)| Placed(instance)).collect();
    if !shown.is_empty() {
        out.list(&shown)?;
    }
    match first {
        None => Ok(()),
        Some(first) => Err(CliError::Several { failed: all - started.len(), all, first }),
    }
}
