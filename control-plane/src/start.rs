//! A start, from a user's request to the instance that came of it: the name is reserved, a node is picked, the artifact
//! streams through.
//!
//! ```text
//! first part ─► is it known by its key? ──yes──► that instance
//!                 │ no
//!                 ▼
//!              reserve name and key ─► place ─► attempt ─┬─ taken ───────► answer
//!                                        ▲               ├─ refused ─────► answer
//!                                        └─ not taken ◄──┤
//!                                                        └─ uncertain ───► answer; the name stays reserved until the
//!                                                                          node tells whether it took it
//! ```
//!
//! The work is a task of its own: a client that goes away leaves nothing half known.

mod attempt;
mod reserve;
mod source;

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use tonic::{Status, Streaming};
use wasmatrix_model::{
    ErrorCode, ExitCause, Failure, InstanceSpec, InstanceStatus, NodeId, Phase, failure::Invalid,
};
use wasmatrix_wire::{
    failure::{from_status, to_status},
    start::{StartPart, StartRequest},
    v1,
};

pub(crate) use attempt::{Attempt, Place, attempt};
pub(crate) use reserve::{Outcome, Starts};
pub(crate) use source::Source;

use crate::{cluster::Cluster, placement, route};
use reserve::Reservation;

/// How long a client may take to say what it wants to start.
const FIRST_PART_MAX: Duration = Duration::from_secs(10);
/// How long an instance that is starting may take to begin: a large artifact takes minutes to compile.
pub(crate) const START_MAX: Duration = Duration::from_secs(900);
/// Nodes that are tried for one start, if those before certainly did not take it.
const NODES_TRIED_MAX: usize = 3;
/// How often a node that did not answer a start is asked whether it took it.
const RESOLVE_EVERY: Duration = Duration::from_secs(1);

/// Starts an instance as a user asks.
///
/// # Errors
/// The request breaks a rule, the name is taken, no node fits, or the start failed.
pub(crate) async fn start(
    cluster: &Arc<Cluster>,
    mut parts: Streaming<v1::StartInstanceRequest>,
) -> Result<v1::InstanceStatus, Status> {
    let first = tokio::time::timeout(FIRST_PART_MAX, parts.message()).await.map_err(|_| {
        let message = format!("nothing came of the start request within {FIRST_PART_MAX:?}");
        to_status(&cluster.failure(ErrorCode::Timeout, message))
    })??;
    let first = first.unwrap_or_default();
    let request = read(cluster, first.clone()).map_err(|failure| to_status(&failure))?;
    if cluster.mirror.holder(&request.spec.name).is_none() {
        route::settled(cluster).await;
    }
    let outcome = loop {
        match reserve(cluster, &request).await.map_err(|failure| to_status(&failure))? {
            Claim::Listed(status) => {
                return began(cluster, &status).await.map_err(|failure| to_status(&failure));
            }
            Claim::UnderWay(outcome) if outcome.clone().broke_off().await => tokio::task::yield_now().await,
            Claim::UnderWay(outcome) => break outcome,
            Claim::Ours(reservation) => {
                let outcome = reservation.outcome();
                let source = Source::through(first, parts, &request, &cluster.artifacts);
                cluster.spawn(carry_out(Arc::clone(cluster), request, source, reservation));
                break outcome;
            }
        }
    };
    outcome.wait().await.unwrap_or_else(|| {
        let message = "the control plane is ending; whether the instance was started is unknown";
        Err(to_status(&cluster.failure(ErrorCode::NodeUnavailable, message)))
    })
}

fn read(cluster: &Cluster, first: v1::StartInstanceRequest) -> Result<StartRequest, Failure> {
    let refused = |invalid: Invalid| Failure::invalid(&invalid, cluster.clock.now());
    match StartPart::try_from(first).map_err(refused)? {
        StartPart::Spec(request) if request.assignment.is_some() => {
            Err(cluster.invalid("assignment", "is the control plane's to make: leave it out"))
        }
        StartPart::Spec(request) => {
            request.spec.validate().map_err(|invalid| refused(invalid.within("spec")))?;
            Ok(*request)
        }
        StartPart::Chunk(_) => {
            Err(cluster.invalid("part", "send the spec first, then the artifact in chunks"))
        }
    }
}

/// Whose the start is.
enum Claim {
    /// It was made before: that is the instance.
    Listed(Arc<InstanceStatus>),
    /// It is being made for another request with the same key.
    UnderWay(Outcome),
    /// Ours to make.
    Ours(Reservation),
}

async fn reserve(cluster: &Arc<Cluster>, request: &StartRequest) -> Result<Claim, Failure> {
    let mut made_way = false;
    loop {
        let reservation = match cluster.starts.reserve(request, cluster)? {
            reserve::Reserved::Ours(reservation) => reservation,
            reserve::Reserved::UnderWay(outcome) => return Ok(Claim::UnderWay(outcome)),
        };
        // Looked at under the reservation: nobody else can be listing that name from now on.
        if let Some(listed) = request.idempotency_key.as_deref().and_then(|key| cluster.mirror.by_key(key)) {
            if listed.spec == request.spec {
                return Ok(Claim::Listed(listed));
            }
            return Err(reserve::other_spec(cluster, &listed.spec.name));
        }
        let Some(holder) = cluster.mirror.holder(&request.spec.name) else {
            return Ok(Claim::Ours(reservation));
        };
        drop(reservation);
        // An instance that never ran is in nobody's way: whoever mends what was wrong starts it again by the same name.
        let never_ran = holder.started_at.is_none()
            && holder.next_restart_at.is_none()
            && matches!(holder.phase, Phase::Stopped | Phase::Crashed);
        if !never_ran || made_way {
            return Err(taken(cluster, &holder));
        }
        made_way = true;
        route::remove(cluster, &holder).await.map_err(|status| from_status(&status, cluster.clock.now()))?;
    }
}

fn taken(cluster: &Cluster, holder: &InstanceStatus) -> Failure {
    let name = &holder.spec.name;
    let how = match &holder.unknown {
        Some(unknown) => format!("; how it is nobody knows: {}", unknown.reason),
        None => String::new(),
    };
    let problem = format!(
        "an instance `{name}` is listed already, on node {}{how}: remove it first, or take another name",
        holder.node
    );
    cluster.invalid("name", problem).with("instance", name.as_str()).with("node", holder.node.as_str())
}

/// Tries nodes until one has answered, and tells what came of it.
async fn carry_out(cluster: Arc<Cluster>, request: StartRequest, source: Source, reservation: Reservation) {
    let mut tried = Vec::new();
    let outcome = loop {
        let place = match place(&cluster, &request.spec, &tried) {
            Ok(place) => place,
            Err(failure) => break Err(failure),
        };
        match attempt(&cluster, &place, &source).await {
            Attempt::Taken(instance) => break Ok(instance),
            Attempt::Refused(failure) => match with_bytes_from_here(&cluster, &request, &failure) {
                Some(source) => match attempt(&cluster, &place, &source).await {
                    Attempt::Taken(instance) => break Ok(instance),
                    other => break Err(other.failure().unwrap_or(failure)),
                },
                None => break Err(failure),
            },
            Attempt::NotTaken(failure) if tried.len() + 1 < NODES_TRIED_MAX && source.can_begin_anew() => {
                tracing::info!(node = %place.node.id, %failure, "the start is tried elsewhere");
                tried.push(place.node.id.clone());
            }
            Attempt::NotTaken(failure) => break Err(failure),
            Attempt::Uncertain(failure) => {
                reservation.tell(Err(failure));
                return resolve(&cluster, &place, &request.spec, reservation).await;
            }
        }
    };
    if let (Ok(_), Some(bytes)) = (&outcome, source.kept()) {
        cluster.artifacts.keep(request.spec.digest, bytes);
    }
    reservation.tell(outcome.map(|instance| *instance));
}

/// The node lacks the artifact and the client did not send it, but it is here.
fn with_bytes_from_here(cluster: &Cluster, request: &StartRequest, failure: &Failure) -> Option<Source> {
    let missing = failure.details.get("artifact").is_some_and(|artifact| artifact == "missing");
    let bytes = missing.then(|| cluster.artifacts.get(request.spec.digest)).flatten()?;
    Some(Source::of(request, Some(bytes)))
}

/// Keeps the name until it is known whether the node took it: while it can't be asked, nobody else may have it.
async fn resolve(cluster: &Arc<Cluster>, place: &Place, spec: &InstanceSpec, reservation: Reservation) {
    let run = place.link.run;
    loop {
        let link = {
            let state = place.node.lock();
            if state.forgotten {
                break;
            }
            state.link.clone()
        };
        if let Some(link) = link {
            // Another run of the agent has nothing of what was sent to the one before.
            if link.run != run {
                break;
            }
            let request = v1::GetInstanceRequest { instance: spec.name.to_string() };
            let get = |mut agent: route::AgentChannel, request| {
                async move { agent.get_instance(request).await }.boxed()
            };
            match route::quickly(cluster, &place.node, &link, get, request).await {
                Ok(answer) => {
                    route::answered(cluster, &link, answer.instance);
                    break;
                }
                Err(status) if status.code() == tonic::Code::NotFound => break,
                Err(_) => {}
            }
        }
        tokio::time::sleep(RESOLVE_EVERY).await;
    }
    drop(reservation);
}

/// Picks the node and counts the instance there, until the place is dropped.
///
/// # Errors
/// No node fits: why each does not.
pub(crate) fn place(cluster: &Arc<Cluster>, spec: &InstanceSpec, avoid: &[NodeId]) -> Result<Place, Failure> {
    let reserved = cluster
        .mirror
        .place(&placement::Request { spec, avoid })
        .map_err(|unplaceable| cluster.failure(unplaceable.code(), unplaceable.to_string()))?;
    let picked = reserved.node();
    let lost = || cluster.failure(ErrorCode::NodeUnavailable, format!("node {picked} was just lost"));
    let node = cluster.nodes.get(picked).ok_or_else(lost)?;
    let link = node.link().ok_or_else(lost)?;
    Ok(Place { node, link, _counts: reserved })
}

/// The answer to a start that was made before: as it began, once it has.
async fn began(cluster: &Arc<Cluster>, listed: &Arc<InstanceStatus>) -> Result<v1::InstanceStatus, Failure> {
    let mut changes = cluster.mirror.changes();
    let begun = async {
        loop {
            changes.borrow_and_update();
            let gone = || {
                let message = format!("`{}` was removed before its start was done", listed.spec.name);
                cluster.failure(ErrorCode::InstanceNotFound, message)
            };
            let status = cluster.mirror.get(listed.id).ok_or_else(gone)?;
            if !matches!(status.phase, Phase::Pending | Phase::Starting) {
                return Ok(status);
            }
            changes.changed().await.map_err(|_| gone())?;
        }
    };
    let status = tokio::time::timeout(START_MAX, begun).await.map_err(|_| {
        let message = format!("`{}` was still starting after {START_MAX:?}", listed.spec.name);
        cluster.failure(ErrorCode::Timeout, message)
    })??;
    if let Some(ExitCause::StartFailed { code, message }) = status.last_exit.as_ref().map(|exit| &exit.cause)
    {
        return Err(cluster
            .failure(*code, message.clone())
            .with("instance", status.spec.name.as_str())
            .with("instance_id", status.id.to_string()));
    }
    Ok(status.into())
}
