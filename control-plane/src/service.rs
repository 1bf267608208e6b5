//! The service that users speak to: validates each request whole, and hands it to who can do it.

mod nodes;
mod reading;

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{FutureExt as _, Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};
use wasmatrix_identity::Peer;
use wasmatrix_model::{Capability, ErrorCode, Failure, Grant, NodeId, ProtocolVersion};
use wasmatrix_wire::{
    GRACE_DEFAULT, GRACE_MAX, MESSAGE_BYTES_MAX, failure::to_status, older, protocol, v1,
    v1::control_plane_server,
};

use crate::{
    cluster::Cluster,
    drain,
    route::{self, AgentChannel, Found},
    start,
};

/// How long the agent may take beyond the grace that a request gives.
const BEYOND_GRACE: Duration = Duration::from_secs(10);
/// Most grants in one request.
const GRANTS_MAX: usize = wasmatrix_model::grant::GRANTS_MAX;

/// See the module's head.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    cluster: Arc<Cluster>,
}

impl Service {
    pub(crate) fn server(cluster: Arc<Cluster>) -> control_plane_server::ControlPlaneServer<Self> {
        control_plane_server::ControlPlaneServer::new(Self { cluster })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(usize::MAX)
    }

    fn refuse(&self, field: &str, problem: impl Into<String>) -> Status {
        to_status(&self.cluster.invalid(field, problem))
    }

    fn granted(&self, grants: &[String]) -> Result<(), Status> {
        if grants.is_empty() || grants.len() > GRANTS_MAX {
            return Err(self.refuse("grants", format!("name 1 to {GRANTS_MAX}, e.g. kv:read")));
        }
        for (index, text) in grants.iter().enumerate() {
            if let Err(objection) = text.parse::<Grant>() {
                return Err(self.refuse(&format!("grants[{index}]"), objection.problem));
            }
        }
        Ok(())
    }

    /// How long the agent may take for a request with that grace. A longer grace than the agent gives is refused here:
    /// the deadline of a call that lasts for thousands of years can't be written down.
    fn patience(&self, field: &str, grace: Option<&prost_types::Duration>) -> Result<Duration, Status> {
        let Some(grace) = grace else { return Ok(GRACE_DEFAULT + BEYOND_GRACE) };
        let grace = Duration::try_from(*grace).ok().filter(|grace| *grace <= GRACE_MAX);
        let grace = grace.ok_or_else(|| self.refuse(field, format!("take 0 to {GRACE_MAX:?}")))?;
        Ok(grace + BEYOND_GRACE)
    }

    /// The instance that a request names, to be changed. While its successor is being started, whoever changed it would
    /// change the copy that is about to be ended, though its node is back.
    async fn find(&self, instance: &str) -> Result<Found, Status> {
        let found = route::find(&self.cluster, instance).await.map_err(|failure| to_status(&failure))?;
        if self.cluster.successions.is_under_way(found.status.id) {
            let name = &found.status.spec.name;
            let message = format!(
                "a successor of `{name}` is being started, because node {} was lost or is drained: ask again when it \
                 has begun",
                found.status.node
            );
            let failure = self.cluster.failure(ErrorCode::NodeUnavailable, message);
            return Err(to_status(&failure.with("instance", name.as_str())));
        }
        found.link.touch();
        Ok(found)
    }

    fn node_id(&self, id: &str) -> Result<NodeId, Status> {
        id.parse().map_err(|invalid: wasmatrix_model::failure::Invalid| self.refuse("node", invalid.problem))
    }

    /// The node whose provider is meant: the one that is named, or the only one.
    fn provider_node(&self, node: &str) -> Result<NodeId, Status> {
        if !node.is_empty() {
            return self.node_id(node);
        }
        let all = self.cluster.nodes.all();
        match all.as_slice() {
            [only] => Ok(only.id.clone()),
            _ => Err(self.refuse("node", format!("there are {} nodes: say which, with --node", all.len()))),
        }
    }

    /// What an agent said of an instance that it does not have is told in the words of who asked.
    fn in_users_words(&self, asked: &str, status: Status) -> Status {
        if status.code() == tonic::Code::NotFound && route::is_said(&status) && is_about_instance(&status) {
            return to_status(&route::not_found(&self.cluster, asked));
        }
        status
    }

    /// The grants of an instance were changed: a listing shows it, and should its node be lost in the next moment, its
    /// successor holds what was acknowledged. An agent of protocol 1.0 does not say how the instance is now.
    async fn changed(&self, found: &Found, instance: Option<v1::InstanceStatus>) {
        match instance {
            Some(instance) => route::answered(&self.cluster, &found.link, Some(instance)),
            None => drop(route::get(&self.cluster, found).await), // the stream will tell
        }
    }
}

fn is_about_instance(status: &Status) -> bool {
    use wasmatrix_model::Clock as _;
    let failure = wasmatrix_wire::failure::from_status(status, wasmatrix_model::SystemClock.now());
    failure.code == ErrorCode::InstanceNotFound
}

/// Who asks, for a fact.
fn who<T>(request: &Request<T>) -> String {
    match Peer::of(request).and_then(|peer| peer.identity.as_ref()) {
        Some(identity) => identity.to_string(),
        None => "somebody on this machine".to_owned(),
    }
}

/// The version of the protocol that a client speaks. That it is one of ours was checked at the door.
fn spoken<T>(request: &Request<T>) -> ProtocolVersion {
    protocol::spoken(request.metadata())
}

fn refused(failure: Failure) -> Status {
    to_status(&failure)
}

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl control_plane_server::ControlPlane for Service {
    async fn start_instance(
        &self,
        request: Request<Streaming<v1::StartInstanceRequest>>,
    ) -> Answer<v1::StartInstanceResponse> {
        let instance = start::start(&self.cluster, request.into_inner()).await?;
        Ok(Response::new(v1::StartInstanceResponse { instance: Some(instance) }))
    }

    async fn stop_instance(
        &self,
        request: Request<v1::StopInstanceRequest>,
    ) -> Answer<v1::StopInstanceResponse> {
        let request = request.into_inner();
        let limit = self.patience("grace", request.grace.as_ref())?;
        let found = self.find(&request.instance).await?;
        let stop = v1::StopInstanceRequest { instance: found.status.id.to_string(), ..request.clone() };
        let call = |mut agent: AgentChannel, stop| async move { agent.stop_instance(stop).await }.boxed();
        let stopped = route::within(&self.cluster, &found.node, &found.link, limit, call, stop).await;
        let answer = stopped.map_err(|status| self.in_users_words(&request.instance, status))?;
        route::answered(&self.cluster, &found.link, answer.instance.clone());
        Ok(Response::new(answer))
    }

    async fn remove_instance(
        &self,
        request: Request<v1::RemoveInstanceRequest>,
    ) -> Answer<v1::RemoveInstanceResponse> {
        let asked = request.into_inner().instance;
        let found = self.find(&asked).await?;
        route::remove(&self.cluster, &found.status)
            .await
            .map_err(|status| self.in_users_words(&asked, status))?;
        Ok(Response::new(v1::RemoveInstanceResponse {}))
    }

    async fn get_instance(
        &self,
        request: Request<v1::GetInstanceRequest>,
    ) -> Answer<v1::GetInstanceResponse> {
        let version = spoken(&request);
        let asked = request.into_inner().instance;
        let status = route::look_up(&self.cluster, &asked).await.map_err(refused)?;
        // Of what is unknown, nobody can tell more than that.
        if let Some(unknown) = &status.unknown {
            if !older::knows_unknown(version) {
                let (name, reason, last) = (&status.spec.name, &unknown.reason, unknown.last_phase);
                let message = format!("nobody can tell how {name} is: {reason}; it was last seen {last}");
                return Err(refused(self.cluster.failure(ErrorCode::NodeUnavailable, message)));
            }
            let instance = wasmatrix_model::InstanceStatus::clone(&status).into();
            return Ok(Response::new(v1::GetInstanceResponse { instance: Some(instance) }));
        }
        let found = route::at(&self.cluster, status).map_err(refused)?;
        let instance =
            route::get(&self.cluster, &found).await.map_err(|status| self.in_users_words(&asked, status))?;
        Ok(Response::new(v1::GetInstanceResponse { instance: Some(instance) }))
    }

    async fn list_instances(
        &self,
        request: Request<v1::ListInstancesRequest>,
    ) -> Answer<v1::ListInstancesResponse> {
        let version = spoken(&request);
        self.list(request.into_inner(), version).await.map(Response::new).map_err(refused)
    }

    async fn assign_capability(
        &self,
        request: Request<v1::AssignCapabilityRequest>,
    ) -> Answer<v1::AssignCapabilityResponse> {
        let request = request.into_inner();
        self.granted(&request.grants)?;
        let found = self.find(&request.instance).await?;
        let assign =
            v1::AssignCapabilityRequest { instance: found.status.id.to_string(), grants: request.grants };
        let call =
            |mut agent: AgentChannel, assign| async move { agent.assign_capability(assign).await }.boxed();
        let assigned = route::quickly(&self.cluster, &found.node, &found.link, call, assign).await;
        let answer = assigned.map_err(|status| self.in_users_words(&request.instance, status))?;
        self.changed(&found, answer.instance.clone()).await;
        Ok(Response::new(answer))
    }

    async fn revoke_capability(
        &self,
        request: Request<v1::RevokeCapabilityRequest>,
    ) -> Answer<v1::RevokeCapabilityResponse> {
        let request = request.into_inner();
        self.granted(&request.grants)?;
        let found = self.find(&request.instance).await?;
        let revoke =
            v1::RevokeCapabilityRequest { instance: found.status.id.to_string(), grants: request.grants };
        let call =
            |mut agent: AgentChannel, revoke| async move { agent.revoke_capability(revoke).await }.boxed();
        let revoked = route::quickly(&self.cluster, &found.node, &found.link, call, revoke).await;
        let answer = revoked.map_err(|status| self.in_users_words(&request.instance, status))?;
        self.changed(&found, answer.instance.clone()).await;
        Ok(Response::new(answer))
    }

    type StreamLogsStream = Answers<v1::StreamLogsResponse>;

    async fn stream_logs(&self, request: Request<v1::StreamLogsRequest>) -> Answer<Self::StreamLogsStream> {
        self.logs(request.into_inner()).await.map(Response::new)
    }

    type WatchFactsStream = Answers<v1::WatchFactsResponse>;

    async fn watch_facts(&self, request: Request<v1::WatchFactsRequest>) -> Answer<Self::WatchFactsStream> {
        let version = spoken(&request);
        self.facts(request.into_inner(), version).await.map(Response::new).map_err(refused)
    }

    async fn list_nodes(&self, _: Request<v1::ListNodesRequest>) -> Answer<v1::ListNodesResponse> {
        Ok(Response::new(self.nodes().await))
    }

    async fn cordon_node(&self, request: Request<v1::CordonNodeRequest>) -> Answer<v1::CordonNodeResponse> {
        let by = who(&request);
        self.cordon(request.into_inner(), &by).await.map(Response::new)
    }

    type DrainNodeStream = Answers<v1::DrainNodeResponse>;

    async fn drain_node(&self, request: Request<v1::DrainNodeRequest>) -> Answer<Self::DrainNodeStream> {
        let by = who(&request);
        let request = request.into_inner();
        let limit = self.patience("grace", request.grace.as_ref())?;
        let node = self.known_node(&request.node)?;
        Ok(Response::new(drain::drain(&self.cluster, node, request.grace, limit, &by).boxed()))
    }

    async fn forget_node(&self, request: Request<v1::ForgetNodeRequest>) -> Answer<v1::ForgetNodeResponse> {
        let by = who(&request);
        let node = self.known_node(&request.into_inner().node)?;
        self.cluster.forget(&node, &by).map_err(refused)?;
        Ok(Response::new(v1::ForgetNodeResponse {}))
    }

    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Answer<v1::CreateJoinTokenResponse> {
        self.join_token(request.into_inner()).map(Response::new)
    }

    async fn start_provider(
        &self,
        request: Request<v1::StartProviderRequest>,
    ) -> Answer<v1::StartProviderResponse> {
        let request = request.into_inner();
        self.capability(&request.capability)?;
        let (node, link) = self.provider_link(&request.node)?;
        let call =
            |mut agent: AgentChannel, request| async move { agent.start_provider(request).await }.boxed();
        Ok(Response::new(route::quickly(&self.cluster, &node, &link, call, request).await?))
    }

    async fn stop_provider(
        &self,
        request: Request<v1::StopProviderRequest>,
    ) -> Answer<v1::StopProviderResponse> {
        let request = request.into_inner();
        let limit = self.patience("drain", request.drain.as_ref())?;
        self.capability(&request.capability)?;
        let (node, link) = self.provider_link(&request.node)?;
        let call =
            |mut agent: AgentChannel, request| async move { agent.stop_provider(request).await }.boxed();
        Ok(Response::new(route::within(&self.cluster, &node, &link, limit, call, request).await?))
    }
}

impl Service {
    fn capability(&self, text: &str) -> Result<Capability, Status> {
        text.parse()
            .map_err(|invalid: wasmatrix_model::failure::Invalid| self.refuse("capability", invalid.problem))
    }
}
