//! From a request to the agent that can do it: which node has the instance, and an answer in time, whatever becomes of
//! the node meanwhile.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use tonic::{Request, Response, Status, service::interceptor::InterceptedService, transport::Channel};
use wasmatrix_model::{ErrorCode, Failure, InstanceStatus, NodeId, NodePhase};
use wasmatrix_wire::{
    failure::{from_status, to_status},
    v1::{self, agent_client::AgentClient},
};

use crate::{
    cluster::Cluster,
    nodes::{Link, Node},
    view,
};

/// How long an agent may take for what it knows at once.
const QUICK: Duration = Duration::from_secs(10);
/// The same, of a node that has not been heard for a while.
const QUICK_OF_SUSPECT: Duration = Duration::from_millis(800);
/// How long whoever asks for an instance that is not known waits for a node that has just come back.
const YOUNG_LINK_MAX: Duration = Duration::from_secs(2);

/// Instances of one name that an error lists.
const SEVERAL_NAMED_MAX: usize = 5;

/// The way to an agent.
pub(crate) type AgentChannel = AgentClient<InterceptedService<Channel, Stamp>>;
/// Names our version of the protocol in each call.
pub(crate) type Stamp = fn(Request<()>) -> Result<Request<()>, Status>;
/// A call of an agent that is under way.
pub(crate) type Call<T> = BoxFuture<'static, Result<Response<T>, Status>>;

/// An instance, and how to ask its agent.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) status: Arc<InstanceStatus>,
    pub(crate) node: Arc<Node>,
    pub(crate) link: Arc<Link>,
}

/// Waits until what is not known here may be taken not to exist.
pub(crate) async fn settled(cluster: &Cluster) {
    let _ = cluster.settled.subscribe().wait_for(|settled| *settled).await; // the sender lives as long as we do
}

/// The instance of that name or id, as last told.
///
/// # Errors
/// There is none, and if it was lost, why.
pub(crate) async fn look_up(cluster: &Cluster, instance: &str) -> Result<Arc<InstanceStatus>, Failure> {
    if instance.is_empty() {
        return Err(cluster.invalid("instance", "name an instance, by its name or its id"));
    }
    if let Some(found) = known(cluster, instance) {
        return found;
    }
    settled(cluster).await;
    let links = cluster.nodes.all().into_iter().filter_map(|node| node.link());
    let young: Vec<_> = links.filter(|link| !*link.synced.borrow()).collect();
    let all_told = async {
        for link in young {
            let mut synced = link.synced.subscribe();
            let _ = synced.wait_for(|synced| *synced).await; // a link that is gone tells no more
        }
    };
    let _ = tokio::time::timeout(YOUNG_LINK_MAX, all_told).await; // who is still silent can't be waited for
    known(cluster, instance).unwrap_or_else(|| Err(not_found(cluster, instance)))
}

/// What a name or id stands for. `None`: nothing that is known.
fn known(cluster: &Cluster, instance: &str) -> Option<Result<Arc<InstanceStatus>, Failure>> {
    match cluster.mirror.find(instance) {
        view::Found::None => None,
        view::Found::One(status) => Some(Ok(Arc::from(status))),
        view::Found::Several(several) => {
            let which = several.iter().map(|one| format!("{} on node {}", one.id, one.node));
            let which: Vec<_> = which.take(SEVERAL_NAMED_MAX).collect();
            let problem = format!(
                "{} instances are called `{instance}`, started while this control plane did not know of each other's \
                 nodes: name one by its id ({})",
                several.len(),
                which.join(", ")
            );
            Some(Err(cluster.invalid("instance", problem)))
        }
    }
}

/// Why there is no such instance.
pub(crate) fn not_found(cluster: &Cluster, instance: &str) -> Failure {
    let shown: String = instance.chars().take(80).collect();
    let message = match cluster.mirror.why_gone(instance) {
        Some(why) => format!("no instance is called `{shown}` any more: {why}"),
        None => format!("no instance is called `{shown}`"),
    };
    cluster.failure(ErrorCode::InstanceNotFound, message).with("instance", shown)
}

/// The instance of that name or id, and how to ask its agent.
///
/// # Errors
/// There is none, or its node is lost.
pub(crate) async fn find(cluster: &Cluster, instance: &str) -> Result<Found, Failure> {
    let status = look_up(cluster, instance).await?;
    at(cluster, status)
}

/// How to ask an instance's agent.
///
/// # Errors
/// Its node is lost.
pub(crate) fn at(cluster: &Cluster, status: Arc<InstanceStatus>) -> Result<Found, Failure> {
    let (node, link) =
        node(cluster, &status.node).map_err(|failure| failure.with("instance", status.spec.name.as_str()))?;
    Ok(Found { status, node, link })
}

/// A node that can be asked.
///
/// # Errors
/// It is not known, or lost.
pub(crate) fn node(cluster: &Cluster, id: &NodeId) -> Result<(Arc<Node>, Arc<Link>), Failure> {
    let Some(node) = cluster.nodes.get(id) else {
        let message = format!("no node is called {id}: `wasmatrix node ls` shows those that are known");
        return Err(cluster.failure(ErrorCode::InvalidRequest, message).with("node", id.as_str()));
    };
    match node.link() {
        Some(link) => Ok((node, link)),
        None => {
            let reason = node.lock().reason.clone().unwrap_or_else(|| "it is not connected".to_owned());
            let message = format!("node {id} can't be asked: {reason}");
            Err(cluster.failure(ErrorCode::NodeUnavailable, message).with("node", id.as_str()))
        }
    }
}

/// How long an agent may take for what it knows at once.
pub(crate) fn patience(phase: NodePhase) -> Duration {
    if phase == NodePhase::Ready { QUICK } else { QUICK_OF_SUSPECT }
}

/// Asks an agent what it knows at once.
///
/// # Errors
/// What the agent said, or that it could not be asked.
pub(crate) async fn quickly<M, T>(
    cluster: &Cluster,
    node: &Node,
    link: &Link,
    call: fn(AgentChannel, Request<M>) -> Call<T>,
    message: M,
) -> Result<T, Status> {
    let limit = patience(node.lock().phase);
    within(cluster, node, link, limit, call, message).await
}

/// Asks an agent, which may take `limit`; nobody waits for one that is lost meanwhile.
///
/// # Errors
/// What the agent said, or that it could not be asked.
pub(crate) async fn within<M, T>(
    cluster: &Cluster,
    node: &Node,
    link: &Link,
    limit: Duration,
    call: fn(AgentChannel, Request<M>) -> Call<T>,
    message: M,
) -> Result<T, Status> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    let unavailable = |why: &str| {
        let message = format!("node {} {why}", node.id);
        let failure = cluster.failure(ErrorCode::NodeUnavailable, message).with("node", node.id.as_str());
        to_status(&failure)
    };
    let answer = tokio::select! {
        biased;
        answer = tokio::time::timeout(limit, call(link.agent.clone(), request)) => answer,
        () = link.gone.cancelled() => {
            return Err(unavailable("was lost before it answered; whether it did what was asked is unknown"));
        }
    };
    match answer {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) if is_said(&status) => Err(status),
        Ok(Err(status)) => {
            let failure = from_status(&status, cluster.clock.now());
            if failure.code == ErrorCode::Timeout {
                return Err(late(cluster, node, limit));
            }
            Err(unavailable(&format!("can't be reached: {}", status.message())))
        }
        Err(_) => Err(late(cluster, node, limit)),
    }
}

fn late(cluster: &Cluster, node: &Node, limit: Duration) -> Status {
    let heard = node.lock().phase == NodePhase::Ready;
    let (code, why) = if heard {
        (ErrorCode::Timeout, "did not answer")
    } else {
        (ErrorCode::NodeUnavailable, "has not been heard for a while, and did not answer")
    };
    let message =
        format!("node {} {why} within {limit:?}; whether it did what was asked is unknown", node.id);
    to_status(&cluster.failure(code, message).with("node", node.id.as_str()))
}

/// Whether the agent itself said that, and not the connection to it.
pub(crate) fn is_said(status: &Status) -> bool {
    !status.details().is_empty()
}

/// An agent answered: what it said of an instance is known from now on.
pub(crate) fn answered(cluster: &Cluster, link: &Link, instance: Option<v1::InstanceStatus>) {
    if let Some(Ok(status)) = instance.map(InstanceStatus::try_from) {
        cluster.mirror.answered(link.run, status);
    }
}

/// Asks the agent how an instance is, and remembers it.
///
/// # Errors
/// It is not there any more, or its agent can't be asked.
pub(crate) async fn get(cluster: &Cluster, found: &Found) -> Result<v1::InstanceStatus, Status> {
    let request = v1::GetInstanceRequest { instance: found.status.id.to_string() };
    let call = |mut agent: AgentChannel, request| async move { agent.get_instance(request).await }.boxed();
    let answer = quickly(cluster, &found.node, &found.link, call, request).await?;
    let instance =
        answer.instance.ok_or_else(|| Status::internal("the agent answered without the instance"))?;
    answered(cluster, &found.link, Some(instance.clone()));
    Ok(instance)
}

/// Has an agent forget an instance.
///
/// # Errors
/// It may still run, or its agent can't be asked.
pub(crate) async fn remove(cluster: &Cluster, status: &Arc<InstanceStatus>) -> Result<(), Status> {
    let found = at(cluster, Arc::clone(status)).map_err(|failure| to_status(&failure))?;
    let request = v1::RemoveInstanceRequest { instance: status.id.to_string() };
    let call = |mut agent: AgentChannel, request| async move { agent.remove_instance(request).await }.boxed();
    found.link.touch();
    quickly(cluster, &found.node, &found.link, call, request).await?;
    cluster.mirror.removed(&status.node, found.link.run, status.id);
    Ok(())
}
