//! Empties a node: no new instances, and what runs there is moved or stopped, one by one, each told as it goes.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, Stream, StreamExt as _, future::ready, stream};
use tokio::sync::oneshot;
use tonic::Status;
use wasmatrix_model::{InstanceStatus, OnNodeLoss};
use wasmatrix_wire::{
    failure::to_status,
    v1::{self, drain_node_response::Outcome},
};

use crate::{
    cluster::Cluster,
    cordon,
    nodes::Node,
    route::{self, AgentChannel},
    start, succession,
};

/// Instances that are on their way at one time.
const AT_ONCE: usize = 4;

/// What became of one instance.
struct Went {
    instance: v1::InstanceStatus,
    outcome: Outcome,
    message: String,
}

/// Cordons a node and ends what runs there. Each instance has `limit` to stop.
pub(crate) fn drain(
    cluster: &Arc<Cluster>,
    node: Arc<Node>,
    grace: Option<prost_types::Duration>,
    limit: Duration,
    by: &str,
) -> impl Stream<Item = Result<v1::DrainNodeResponse, Status>> + Send + use<> {
    cordon::decide(cluster, &node, true, by);
    let there: Vec<_> = cluster.mirror.of_node(&node.id).into_iter().filter(lives).map(Arc::new).collect();
    let mut remaining = u32::try_from(there.len()).unwrap_or(u32::MAX);
    let cluster = Arc::clone(cluster);
    let going = stream::iter(there).map(move |status| {
        // A task of its own: whoever watches may go away, and must not leave an instance half moved.
        let (tell, told) = oneshot::channel();
        let moving = Arc::clone(&cluster);
        cluster.spawn(async move {
            let went = go(&moving, status, grace, limit).await;
            let _ = tell.send(went); // nobody watches any more
        });
        told
    });
    going.buffer_unordered(AT_ONCE).filter_map(|went| ready(went.ok())).map(move |went: Went| {
        remaining = remaining.saturating_sub(1);
        Ok(v1::DrainNodeResponse {
            instance: Some(went.instance),
            outcome: went.outcome.into(),
            message: went.message,
            remaining,
        })
    })
}

fn lives(status: &InstanceStatus) -> bool {
    status.phase.is_live() || status.next_restart_at.is_some()
}

async fn go(
    cluster: &Arc<Cluster>,
    status: Arc<InstanceStatus>,
    grace: Option<prost_types::Duration>,
    limit: Duration,
) -> Went {
    let as_it_was = || v1::InstanceStatus::from(InstanceStatus::clone(&status));
    let moves = status.spec.placement.on_node_loss == OnNodeLoss::RestartElsewhere;
    // Not stopped before it is clear that it can go on elsewhere.
    if moves {
        let elsewhere = start::place(cluster, &status.spec, std::slice::from_ref(&status.node));
        if let Err(failure) = elsewhere {
            let message = format!("it was left running: {failure}");
            return Went { instance: as_it_was(), outcome: Outcome::Failed, message };
        }
    }
    let stopped = match stop(cluster, &status, grace, limit).await {
        Ok(stopped) => stopped,
        Err(error) => {
            let message = format!("it could not be stopped: {}", error.message());
            return Went { instance: as_it_was(), outcome: Outcome::Failed, message };
        }
    };
    if !moves {
        return Went { instance: stopped, outcome: Outcome::Stopped, message: String::new() };
    }
    match replace(cluster, &status).await {
        Ok(successor) => Went { instance: successor.into(), outcome: Outcome::Moved, message: String::new() },
        Err(why) => {
            let message = format!("it was stopped, and could not be started elsewhere: {why}");
            Went { instance: stopped, outcome: Outcome::Failed, message }
        }
    }
}

async fn stop(
    cluster: &Arc<Cluster>,
    status: &Arc<InstanceStatus>,
    grace: Option<prost_types::Duration>,
    limit: Duration,
) -> Result<v1::InstanceStatus, Status> {
    let found = route::at(cluster, Arc::clone(status)).map_err(|failure| to_status(&failure))?;
    found.link.touch();
    let request = v1::StopInstanceRequest { instance: status.id.to_string(), grace };
    let call = |mut agent: AgentChannel, request| async move { agent.stop_instance(request).await }.boxed();
    let answer = route::within(cluster, &found.node, &found.link, limit, call, request).await?;
    route::answered(cluster, &found.link, answer.instance.clone());
    answer.instance.ok_or_else(|| Status::internal("the agent answered without the instance"))
}

/// Starts the successor of an instance that was stopped for it, and has the old one forgotten.
async fn replace(cluster: &Arc<Cluster>, status: &Arc<InstanceStatus>) -> Result<InstanceStatus, String> {
    let Some(_hold) = cluster.starts.hold(&status.spec.name) else {
        return Err("another instance of its name is being started".to_owned());
    };
    if !cluster.successions.claim(status.id) {
        return Err("its successor is being started already".to_owned());
    }
    let successor = match succession::successor(cluster, status).await {
        Ok(successor) => successor,
        Err(why) => {
            succession::failed(cluster, status, &why);
            return Err(why);
        }
    };
    if let Err(error) = route::remove(cluster, status).await {
        // The node will tell of it, and be told to end it.
        tracing::warn!(instance = %status.spec.name, error = error.message(), "a moved instance is still listed where it was");
    }
    succession::moved(cluster, status, &successor);
    Ok(successor)
}
