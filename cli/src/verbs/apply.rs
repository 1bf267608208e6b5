//! `apply` and `validate`. Applying is a convenience for several starts, once: it changes nothing that exists, and
//! keeps no wish for later.

use futures::StreamExt as _;
use serde::Serialize;
use wasmatrix_model::{ErrorCode, InstanceSpec, InstanceStatus, Timestamp};

use super::{instances::say_error_of, start::STARTS_AT_A_TIME};
use crate::{
    args::{Apply, Global, Validate},
    client::{Client, START_TIMEOUT},
    error::{CliError, Exit},
    manifest::{self, Entry},
    output::{Column, Document, Printer, Row},
};

/// What became of one instance of the file.
#[derive(Debug, Serialize)]
struct Applied {
    name: String,
    outcome: Outcome,
    /// Its phase, or what went wrong.
    detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    /// It was not there and has been started.
    Created,
    /// It is there, as defined.
    Unchanged,
    /// It is there with another definition, and was left alone.
    Conflict,
    /// It could not be started.
    Failed,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Unchanged => "unchanged",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
        }
    }
}

impl Document for Applied {
    const KIND: &'static str = "Applied";

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Row for Applied {
    const COLUMNS: &'static [Column] = &[Column::new("NAME"), Column::new("OUTCOME"), Column::new("DETAIL")];

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![self.name.clone(), self.outcome.as_str().to_owned(), self.detail.clone()]
    }
}

/// Starts the instances of the file that do not exist yet, and says of each what became of it.
pub(crate) async fn apply(args: &Apply, global: &Global, out: &mut Printer) -> Result<(), CliError> {
    let entries = manifest::load(&args.file)?;
    let client = Client::connect_within(global, START_TIMEOUT).await?;
    let all = entries.len();
    let mut applied = Vec::with_capacity(all);
    let mut first = None;
    let outcomes = entries
        .into_iter()
        .map(|entry| async { (entry.spec.name.to_string(), apply_one(&client, entry).await) });
    let mut outcomes = futures::stream::iter(outcomes).buffered(STARTS_AT_A_TIME);
    while let Some((name, outcome)) = outcomes.next().await {
        let (outcome, detail, exit) = match outcome {
            Ok((outcome, detail)) => {
                (outcome, detail, (outcome == Outcome::Conflict).then_some(Exit::Conflict))
            }
            Err(error @ (CliError::Unreachable { .. } | CliError::Broken { .. })) => return Err(error),
            Err(error) => {
                say_error_of(&name, &error);
                (Outcome::Failed, error.to_string(), Some(error.exit()))
            }
        };
        first = first.or(exit);
        applied.push(Applied { name, outcome, detail });
    }
    out.list(&applied)?;
    let Some(first) = first else { return Ok(()) };
    let bad = |applied: &&Applied| matches!(applied.outcome, Outcome::Conflict | Outcome::Failed);
    Err(CliError::Several { failed: applied.iter().filter(bad).count(), all, first })
}

async fn apply_one(client: &Client, entry: Entry) -> Result<(Outcome, String), CliError> {
    match client.get(entry.spec.name.as_str()).await {
        Ok(existing) => {
            let different = differences(&entry.spec, &existing.spec);
            if different.is_empty() {
                return Ok((Outcome::Unchanged, phase(&existing)));
            }
            let detail = format!("differs in {}: stop and remove it first", different.join(", "));
            Ok((Outcome::Conflict, detail))
        }
        Err(CliError::Refused(failure)) if failure.code == ErrorCode::InstanceNotFound => {
            let started = client.start(entry.spec, entry.artifact.bytes).await?;
            Ok((Outcome::Created, phase(&started)))
        }
        Err(error) => Err(error),
    }
}

fn phase(instance: &InstanceStatus) -> String {
    match &instance.last_exit {
        Some(exit) if !instance.phase.is_live() => format!("{}: {}", instance.phase, exit.cause),
        Some(_) | None => instance.phase.to_string(),
    }
}

/// The fields in which two specs differ.
fn differences(wanted: &InstanceSpec, existing: &InstanceSpec) -> Vec<&'static str> {
    let fields = [
        ("file", wanted.digest == existing.digest),
        ("executor", wanted.executor == existing.executor),
        ("args", wanted.args == existing.args),
        ("env", wanted.env == existing.env),
        ("config", wanted.config == existing.config),
        ("grants", wanted.grants == existing.grants),
        ("limits", wanted.limits == existing.limits),
        ("restart", wanted.restart == existing.restart),
        ("placement", wanted.placement == existing.placement),
    ];
    fields.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}

impl Document for InstanceSpec {
    const KIND: &'static str = "InstanceSpec";

    fn name(&self) -> String {
        self.name.to_string()
    }
}

impl Row for InstanceSpec {
    const COLUMNS: &'static [Column] = &[
        Column::new("NAME"),
        Column::new("EXECUTOR"),
        Column::new("RESTART"),
        Column::new("GRANTS"),
        Column::new("ARTIFACT"),
    ];

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let grants: Vec<String> = self.grants.iter().map(ToString::to_string).collect();
        vec![
            self.name.to_string(),
            self.executor.to_string(),
            self.restart.mode.to_string(),
            if grants.is_empty() { "-".to_owned() } else { grants.join(",") },
            self.digest.hex().chars().take(12).collect(),
        ]
    }
}

/// Checks the file and shows what it defines.
pub(crate) fn validate(args: &Validate, out: &mut Printer) -> Result<(), CliError> {
    let specs: Vec<InstanceSpec> = manifest::load(&args.file)?.into_iter().map(|entry| entry.spec).collect();
    out.say(&format!("{} is good", args.file.display()));
    out.list(&specs)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use wasmatrix_model::{Digest, ExecutorKind, RestartMode};

    use super::*;

    #[test]
    fn every_field_that_differs_is_named() {
        let plain = InstanceSpec::new("a".parse().unwrap(), Digest::of(b"1"));
        assert!(differences(&plain, &plain).is_empty());
        let mut other = InstanceSpec::new("a".parse().unwrap(), Digest::of(b"2"));
        other.executor = ExecutorKind::Microvm;
        other.args.push("x".to_owned());
        other.env.insert("A".to_owned(), "1".to_owned());
        other.config.insert("A".to_owned(), "1".to_owned());
        other.grants.assign("kv:read".parse().unwrap()).unwrap();
        other.limits.handles_max = 16;
        other.restart.mode = RestartMode::Always;
        other.placement.node = Some("b".parse().unwrap());
        let all = ["file", "executor", "args", "env", "config", "grants", "limits", "restart", "placement"];
        assert_eq!(differences(&plain, &other), all);
    }
}
