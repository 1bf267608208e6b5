//! `ps`: the instances as they are, and with `--watch` as they become.
//!
//! Facts say that something has changed; what it has become is asked for. A burst of facts makes one question.

use std::{collections::HashMap, time::Duration};

use serde::Serialize;
use tokio::{sync::mpsc, time::Instant};
use wasmatrix_model::{InstanceId, InstanceStatus, Usage};

use crate::{
    args::{Global, Ps},
    client::{
        Client,
        follow::{Followed, passes},
        streams::FactsWanted,
    },
    error::CliError,
    output::{Document, Printer, human, rows::Placed, stream::Streamed},
};

/// How long facts must have been silent before the list is asked for.
const SILENCE: Duration = Duration::from_millis(50);
/// How long it is waited for that silence.
const SILENCE_WAIT_MAX: Duration = Duration::from_millis(500);
/// How often a terminal is drawn anew although nothing was heard: ages and usage grow.
const REDRAW: Duration = Duration::from_secs(2);
/// Facts that wait to be noticed.
const NOTICES: usize = 64;

/// Lists instances.
pub(crate) async fn ps(args: &Ps, global: &Global, out: &mut Printer) -> Result<(), CliError> {
    let client = Client::connect(global).await?;
    if args.watch {
        return watch(&client, args, global, out).await;
    }
    let instances = client.list(args.node.as_ref()).await?;
    if instances.is_empty() {
        match &args.node {
            None => out.say("there are no instances; start one with `wasmatrix start FILE`"),
            Some(node) => out.say(&format!("there are no instances on node {}", client.node(node).await?.id)),
        }
    }
    show(&client, &instances, out).await
}

/// With the nodes where there are several.
async fn show(client: &Client, instances: &[InstanceStatus], out: &mut Printer) -> Result<(), CliError> {
    if several_nodes(client, instances).await? {
        let placed: Vec<Placed<'_>> = instances.iter().map(Placed).collect();
        out.list(&placed)?;
    } else {
        out.list(instances)?;
    }
    Ok(())
}

async fn several_nodes(client: &Client, instances: &[InstanceStatus]) -> Result<bool, CliError> {
    let mut nodes = instances.iter().map(|instance| &instance.node);
    let first = nodes.next();
    if nodes.any(|node| Some(node) != first) {
        return Ok(true);
    }
    Ok(client.nodes().await?.len() > 1)
}

async fn watch(client: &Client, args: &Ps, global: &Global, out: &mut Printer) -> Result<(), CliError> {
    let followed = Followed::begin(Client::connect(global).await?, FactsWanted::default()).await?;
    let (notice, mut notices) = mpsc::channel(NOTICES);
    tokio::spawn(notify(followed, notice));
    let mut before: Vec<InstanceStatus> = Vec::new();
    loop {
        match client.list(args.node.as_ref()).await {
            Ok(now) if out.draws() => {
                out.clear()?;
                // A list that could be had and nodes that could not: the next drawing has both.
                match show(client, &now, out).await {
                    Err(error) if passes(&error) => {}
                    shown => shown?,
                }
            }
            Ok(now) => {
                for change in changes(&before, &now) {
                    out.next(&change)?;
                }
                before = now;
            }
            // That the connection broke is said by who follows the facts.
            Err(error) if passes(&error) => {}
            Err(error) => return Err(error),
        }
        let patience = if out.draws() { REDRAW } else { Duration::MAX };
        let heard = match tokio::time::timeout(patience, notices.recv()).await {
            Err(_) => continue,
            Ok(heard) => heard,
        };
        let Some(heard) = heard else { return Ok(()) };
        heard?;
        silence(&mut notices).await?;
    }
}

/// Tells that something happened, until nobody listens or it can't be heard any more.
async fn notify(mut followed: Followed, notice: mpsc::Sender<Result<(), CliError>>) {
    loop {
        let heard = followed.next().await.map(|_| ());
        let last = heard.is_err();
        if notice.send(heard).await.is_err() || last {
            return;
        }
    }
}

/// Waits until nothing was heard for a moment, so that a burst of facts is one question; not for ever.
async fn silence(notices: &mut mpsc::Receiver<Result<(), CliError>>) -> Result<(), CliError> {
    let end = Instant::now() + SILENCE_WAIT_MAX;
    while Instant::now() < end {
        match tokio::time::timeout(SILENCE, notices.recv()).await {
            Err(_) | Ok(None) => return Ok(()),
            Ok(Some(heard)) => heard?,
        }
    }
    Ok(())
}

/// How an instance is another than it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum What {
    /// It is listed and was not.
    Listed,
    /// It is not as it was.
    Changed,
    /// It is not listed any more.
    Removed,
}

impl What {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Listed => "listed",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

/// A change of the list.
#[derive(Debug, Serialize)]
struct Change {
    change: What,
    /// As it is now; if it was removed, as it was.
    instance: InstanceStatus,
}

impl Document for Change {
    const KIND: &'static str = "InstanceChange";

    fn name(&self) -> String {
        self.instance.spec.name.to_string()
    }
}

impl Streamed for Change {
    fn line(&self, wide: bool) -> String {
        let instance = &self.instance;
        let phase = if self.change == What::Removed { "-" } else { instance.phase.as_str() };
        let end = match (&instance.unknown, &instance.last_exit) {
            (Some(unknown), _) => unknown.reason.clone(),
            (None, Some(exit)) => human::exit(&exit.cause),
            (None, None) => String::new(),
        };
        let (name, node) = (&instance.spec.name, &instance.node);
        let mut line = format!("{:<8} {name:<20} {phase:<9} {node:<12} {end}", self.change.as_str());
        if wide {
            line = format!("{} {} {}", line.trim_end(), instance.id, instance.generation);
        }
        line.trim_end().to_owned()
    }
}

/// What is another in `now` than in `before`; how much an instance used is no change.
fn changes(before: &[InstanceStatus], now: &[InstanceStatus]) -> Vec<Change> {
    let mut old: HashMap<InstanceId, &InstanceStatus> =
        before.iter().map(|instance| (instance.id, instance)).collect();
    let mut changes = Vec::new();
    for instance in now {
        let change = match old.remove(&instance.id) {
            None => What::Listed,
            Some(old) if essence(old) != essence(instance) => What::Changed,
            Some(_) => continue,
        };
        changes.push(Change { change, instance: instance.clone() });
    }
    let gone = before.iter().filter(|instance| old.contains_key(&instance.id));
    changes.extend(gone.map(|instance| Change { change: What::Removed, instance: instance.clone() }));
    changes
}

fn essence(instance: &InstanceStatus) -> InstanceStatus {
    InstanceStatus { usage: Usage::default(), revision: 0, ..instance.clone() }
}

#[cfg(test)]
mod tests {
    use wasmatrix_model::Phase;

    use super::*;
    use crate::output::samples;

    #[test]
    fn a_change_is_told_once_and_use_is_none() {
        let a = samples::instance("a");
        let b = InstanceStatus { id: InstanceId::generate(), ..samples::instance("b") };
        let told = |before: &[InstanceStatus], now: &[InstanceStatus]| -> Vec<(What, String)> {
            changes(before, now).into_iter().map(|change| (change.change, change.name())).collect()
        };
        assert_eq!(told(&[], std::slice::from_ref(&a)), [(What::Listed, "a".to_owned())]);
        let mut used = a.clone();
        used.usage.memory_bytes += 1;
        used.revision += 1;
        assert_eq!(told(&[a.clone(), b.clone()], &[used, b.clone()]), []);
        let mut ended = a.clone();
        ended.phase = Phase::Stopped;
        assert_eq!(
            told(&[a.clone(), b.clone()], &[ended]),
            [(What::Changed, "a".to_owned()), (What::Removed, "b".to_owned())]
        );
        // Another of the same name is another.
        let mut successor = a.clone();
        successor.id = InstanceId::generate();
        assert_eq!(
            told(&[a], &[successor]),
            [(What::Listed, "a".to_owned()), (What::Removed, "a".to_owned())]
        );
    }
}
