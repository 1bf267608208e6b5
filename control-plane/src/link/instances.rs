//! What is there: the agent's list of instances and its changes, into the mirror.

use std::sync::Arc;

use tonic::Status;
use wasmatrix_model::{FactKind, InstanceStatus};
use wasmatrix_wire::v1::{self, watch_instances_response::Change};

use super::ANSWER_MAX;
use crate::{
    cluster::Cluster,
    mirror::subject,
    nodes::{Link, Node},
    succession,
    view::{self, Gone},
};

/// Follows the agent's instances from `token` on, which moves on with what is told. Gives why that ended.
pub(super) async fn follow(
    cluster: &Arc<Cluster>,
    node: &Arc<Node>,
    link: &Arc<Link>,
    token: &mut String,
) -> Status {
    let request = v1::WatchInstancesRequest { resume_token: token.clone() };
    let mut agent = link.agent.clone();
    let begun = tokio::time::timeout(ANSWER_MAX, agent.watch_instances(request)).await;
    let mut changes = match begun {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => return status,
        Err(_) => {
            return Status::deadline_exceeded(format!("its agent did not answer within {ANSWER_MAX:?}"));
        }
    };
    loop {
        let message = match changes.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return Status::unavailable("its agent ended the connection"),
            Err(status) => return status,
        };
        // The agent at the end of the connection may be another run by now, which is going to register.
        let Some(through) = place_in(&message.resume_token, link) else {
            token.clear();
            return Status::unavailable("its agent was restarted, and has not registered yet");
        };
        if let Some(change) = message.change {
            take(cluster, node, link, change, through);
        }
        *token = message.resume_token;
    }
}

/// The revision that a token says, if it is of the run that the link is to.
fn place_in(token: &str, link: &Link) -> Option<u64> {
    let (run, revision) = token.split_once('.')?;
    (run.parse() == Ok(link.run)).then(|| revision.parse().ok()).flatten()
}

fn take(cluster: &Arc<Cluster>, node: &Arc<Node>, link: &Arc<Link>, change: Change, through: u64) {
    match change {
        Change::Reset(_) => {
            link.synced.send_replace(false);
            cluster.mirror.reset(&node.id, link.run);
        }
        Change::Instance(instance) => match InstanceStatus::try_from(*instance) {
            Ok(status) => told(cluster, node, link, status),
            Err(invalid) => {
                tracing::error!(node = %node.id, %invalid, "a node tells of an instance in words that mean nothing");
            }
        },
        Change::Removed(id) => {
            if let Ok(id) = id.parse() {
                cluster.mirror.removed(&node.id, link.run, id);
            }
        }
        Change::Synced(_) => {
            let (gone, stale) = cluster.mirror.synced(&node.id, link.run, through);
            for gone in gone.into_iter().filter(|gone| gone.lost) {
                vanished(cluster, node, gone);
            }
            for stale in stale {
                succession::fence(cluster, &stale);
            }
            node.set_problem(link, None);
            link.synced.send_replace(true);
            cluster.mirror.announce();
        }
    }
}

/// An instance is so. What it succeeded must not be, and it must not be if it was succeeded.
fn told(cluster: &Arc<Cluster>, node: &Arc<Node>, link: &Arc<Link>, status: InstanceStatus) {
    let id = status.id;
    cluster.artifacts.noticed(cluster, &status, link);
    let (change, overtaken) = cluster.mirror.told(&node.id, link.run, status);
    match change {
        view::Change::Refused(why) => {
            tracing::error!(node = %node.id, instance = %id, why, "a node tells what can't be")
        }
        view::Change::New | view::Change::Updated | view::Change::Outdated => {}
    }
    for stale in overtaken {
        succession::fence(cluster, &stale);
    }
}

/// An instance that was there is not: its agent was restarted. What an agent removes, it says.
fn vanished(cluster: &Arc<Cluster>, node: &Arc<Node>, gone: Gone) {
    let Gone { status, succeeded, .. } = gone;
    if let Some(generation) = succeeded {
        tracing::info!(instance = %status.spec.name, id = %status.id, generation, "a stale copy ended with its agent");
    }
    let reason = "its agent was restarted, and no longer has it".to_owned();
    cluster.mirror.remember_why(&status, &format!("it was on node {}: {reason}", node.id));
    cluster.record.record(FactKind::InstanceLost {
        instance: subject(&status),
        node: node.id.clone(),
        reason,
    });
    if succeeded.is_none() && succession::deserves(&status) {
        succession::begin(cluster, Arc::new(status), succession::Cause::AgentRestarted);
    }
}
