//! What happened there: the agent's facts, into the record.

use std::{sync::Arc, time::Duration};

use tonic::{Status, Streaming};
use wasmatrix_model::{ErrorCode, Fact};
use wasmatrix_wire::{failure::from_status, v1};

use super::ANSWER_MAX;
use crate::{
    cluster::Cluster,
    nodes::{Link, Node},
    succession,
};

/// How long whoever asks for facts waits for those that a node has not told yet.
const CATCH_UP_MAX: Duration = Duration::from_secs(1);

/// Follows the agent's facts from where they were left, until the stream ends.
pub(super) async fn follow(cluster: &Arc<Cluster>, node: &Arc<Node>, link: &Arc<Link>) {
    let begun = tokio::time::timeout(ANSWER_MAX, watch(cluster, node, link, true)).await;
    let ended = match begun {
        Ok(Ok(facts)) => take_all(cluster, node, facts).await,
        Ok(Err(status)) => Some(status),
        Err(_) => None,
    };
    let Some(status) = ended else { return };
    let failure = from_status(&status, cluster.clock.now());
    // The agent is another run, or keeps no longer what came next.
    if matches!(failure.code, ErrorCode::InvalidRequest | ErrorCode::ResourceExhausted) {
        tracing::warn!(node = %node.id, %failure, "the node's facts are taken from the oldest that it keeps");
        cluster.record.start_over(&node.id);
    }
}

/// Takes in what the agent has recorded so far, so that whoever did something there finds the facts of it.
pub(crate) async fn catch_up(cluster: Arc<Cluster>, node: Arc<Node>, link: Arc<Link>) {
    let told = async {
        if let Ok(facts) = watch(&cluster, &node, &link, false).await {
            take_all(&cluster, &node, facts).await;
        }
    };
    tokio::select! {
        () = link.gone.cancelled() => {}
        _ = tokio::time::timeout(CATCH_UP_MAX, told) => {}
    }
}

async fn watch(
    cluster: &Arc<Cluster>,
    node: &Arc<Node>,
    link: &Arc<Link>,
    follow: bool,
) -> Result<Streaming<v1::WatchFactsResponse>, Status> {
    let resume_token = cluster.record.token(&node.id);
    let request = v1::WatchFactsRequest { follow, resume_token, instance: String::new() };
    Ok(link.agent.clone().watch_facts(request).await?.into_inner())
}

/// Takes in all of a stream. Gives the status with which it ended, if it ended with one.
async fn take_all(
    cluster: &Arc<Cluster>,
    node: &Arc<Node>,
    mut facts: Streaming<v1::WatchFactsResponse>,
) -> Option<Status> {
    loop {
        let message = match facts.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return None,
            Err(status) => return Some(status),
        };
        let Some(fact) = message.fact else { continue };
        match Fact::try_from(fact) {
            Ok(fact) if fact.node == node.id => {
                succession::hear(cluster, &fact.kind);
                cluster.record.take(&node.id, fact, &message.resume_token);
            }
            Ok(fact) => {
                tracing::error!(node = %node.id, of = %fact.node, "a node tells of another node's facts")
            }
            Err(invalid) => {
                tracing::error!(node = %node.id, %invalid, "a node tells a fact in words that mean nothing");
            }
        }
    }
}
