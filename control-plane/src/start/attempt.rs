//! One start on one node: sent, and judged by what came back.

use std::sync::Arc;

use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};
use wasmatrix_model::{ErrorCode, Failure};
use wasmatrix_wire::{failure::from_status, v1};

use super::{START_MAX, Source};
use crate::{
    cluster::Cluster,
    nodes::{Link, Node},
    placing::Reserved,
    route,
};

/// Where an instance is to be. It counts there until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) node: Arc<Node>,
    pub(crate) link: Arc<Link>,
    pub(super) _counts: Reserved,
}

/// What came of a start on a node.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// It is listed there and has begun.
    Taken(Box<v1::InstanceStatus>),
    /// The node said no, or that it failed.
    Refused(Failure),
    /// The node certainly never had the whole request.
    NotTaken(Failure),
    /// Nobody can tell.
    Uncertain(Failure),
}

impl Attempt {
    pub(super) fn failure(self) -> Option<Failure> {
        match self {
            Self::Taken(_) => None,
            Self::Refused(failure) | Self::NotTaken(failure) | Self::Uncertain(failure) => Some(failure),
        }
    }
}

/// Starts an instance at that place.
pub(crate) async fn attempt(cluster: &Arc<Cluster>, place: &Place, source: &Source) -> Attempt {
    let Place { node, link, .. } = place;
    let read = CancellationToken::new();
    let mut request = Request::new(source.parts(read.clone()));
    request.set_timeout(START_MAX);
    link.touch();
    let mut agent = link.agent.clone();
    let answer = tokio::select! {
        biased;
        answer = agent.start_instance(request) => answer,
        () = source.broken() => {
            let message = "the start request broke off before all of the artifact had come";
            let failure = cluster.failure(ErrorCode::InvalidRequest, message);
            return Attempt::NotTaken(failure.with(super::reserve::BROKE_OFF, "true"));
        }
        () = link.gone.cancelled() => {
            let message = format!("node {} was lost while it was starting the instance; {UNKNOWN}", node.id);
            return Attempt::Uncertain(cluster.failure(ErrorCode::NodeUnavailable, message));
        }
    };
    match answer {
        Ok(answer) => {
            let Some(instance) = answer.into_inner().instance else {
                let message = format!("node {} answered without the instance; {UNKNOWN}", node.id);
                return Attempt::Uncertain(cluster.failure(ErrorCode::Internal, message));
            };
            route::answered(cluster, link, Some(instance.clone()));
            Attempt::Taken(Box::new(instance))
        }
        Err(status) => judge(cluster, place, &status, read.is_cancelled()).await,
    }
}

const UNKNOWN: &str =
    "whether it took it is unknown: ask again with the same idempotency key, or see whether it is listed";

async fn judge(cluster: &Arc<Cluster>, place: &Place, status: &Status, read: bool) -> Attempt {
    let Place { node, link, .. } = place;
    let failure = from_status(status, cluster.clock.now());
    if route::is_said(status) {
        // It failed, but is listed: whoever is told of that must find it.
        if let Some(id) = failure.details.get("instance_id") {
            let request = v1::GetInstanceRequest { instance: id.clone() };
            let get = |mut agent: route::AgentChannel, request| {
                async move { agent.get_instance(request).await }.boxed()
            };
            if let Ok(answer) = route::quickly(cluster, node, link, get, request).await {
                route::answered(cluster, link, answer.instance);
            }
        }
        return Attempt::Refused(failure);
    }
    let message = |tail: &str| format!("node {} can't be reached: {}{tail}", node.id, status.message());
    if read {
        let message = message(&format!("; {UNKNOWN}"));
        Attempt::Uncertain(cluster.failure(failure.code, message).with("node", node.id.as_str()))
    } else {
        let failure = cluster.failure(ErrorCode::NodeUnavailable, message("")).with("node", node.id.as_str());
        Attempt::NotTaken(failure)
    }
}
