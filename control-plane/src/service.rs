//! The service that users speak to: validates each request whole, forwards it under a deadline, passes the answer on.

use std::{pin::Pin, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use tonic::{Request, Response, Status, Streaming, transport::Channel};
use wasmatrix_model::{Clock as _, ErrorCode, Failure, Grant, SystemClock, failure::Invalid};
use wasmatrix_wire::{
    GRACE_MAX, MESSAGE_BYTES_MAX,
    failure::to_status,
    start::StartPart,
    v1::{self, agent_client::AgentClient, control_plane_server},
};

/// How long the agent may take for what it knows at once.
const QUICK: Duration = Duration::from_secs(10);
/// How long the agent may take to begin an instance: a large artifact takes minutes to compile.
const START: Duration = Duration::from_secs(900);
/// How long the agent may take beyond the grace that a request gives.
const BEYOND_GRACE: Duration = Duration::from_secs(10);
/// The grace that the agent gives when a request does not say.
const GRACE: Duration = wasmatrix_wire::GRACE_DEFAULT;
/// Most grants in one request.
const GRANTS_MAX: usize = wasmatrix_model::grant::GRANTS_MAX;

/// The control plane of one node.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    agent: AgentClient<Channel>,
}

impl ControlPlane {
    /// A control plane for the agent at the other end of `channel`.
    pub fn new(channel: Channel) -> Self {
        let agent = AgentClient::new(channel)
            .max_decoding_message_size(usize::MAX) // the agent is ours, and pages are bounded by count
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Self { agent }
    }

    /// The gRPC service, to be added to a server.
    pub fn server(self) -> control_plane_server::ControlPlaneServer<Self> {
        control_plane_server::ControlPlaneServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(usize::MAX)
    }

    fn agent(&self) -> AgentClient<Channel> {
        self.agent.clone()
    }
}

fn invalid(field: &str, problem: impl Into<String>) -> Status {
    refused(&Invalid::new(field, problem))
}

fn refused(invalid: &Invalid) -> Status {
    to_status(&Failure::invalid(invalid, SystemClock.now()))
}

fn timely<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// What the agent said, or that it did not say anything in time.
fn answered<T>(answer: Result<T, Status>) -> Result<T, Status> {
    answer.map_err(|status| match status.code() {
        // tonic says Cancelled when a client-side timeout ran out.
        tonic::Code::Cancelled if status.message().contains("Timeout") => {
            let message = "the node did not answer in time; whether it did what was asked is unknown";
            to_status(&Failure::new(ErrorCode::Timeout, message, SystemClock.now()))
        }
        _ => status,
    })
}

fn named(instance: &str) -> Result<(), Status> {
    if instance.is_empty() {
        return Err(invalid("instance", "name an instance, by its name or its id"));
    }
    Ok(())
}

fn granted(grants: &[String]) -> Result<(), Status> {
    if grants.is_empty() || grants.len() > GRANTS_MAX {
        return Err(invalid("grants", format!("name 1 to {GRANTS_MAX}, e.g. kv:read")));
    }
    for (index, text) in grants.iter().enumerate() {
        if let Err(objection) = text.parse::<Grant>() {
            return Err(invalid(&format!("grants[{index}]"), objection.problem));
        }
    }
    Ok(())
}

/// How long the agent may take for a request with that grace. A longer grace than the agent gives is refused here:
/// the deadline of a call that lasts for thousands of years can't be written down.
fn within(field: &str, grace: Option<&prost_types::Duration>) -> Result<Duration, Status> {
    let Some(grace) = grace else { return Ok(GRACE + BEYOND_GRACE) };
    let grace = Duration::try_from(*grace).ok().filter(|grace| *grace <= GRACE_MAX);
    let grace = grace.ok_or_else(|| invalid(field, format!("take 0 to {GRACE_MAX:?}")))?;
    Ok(grace + BEYOND_GRACE)
}

/// The next part of a start request. An artifact that breaks off must not look like one that ended, so then there is
/// no next part, ever: the agent waits, until this call and with it the forwarded one are gone.
async fn unbroken(
    mut parts: Streaming<v1::StartInstanceRequest>,
) -> Option<(v1::StartInstanceRequest, Streaming<v1::StartInstanceRequest>)> {
    match parts.message().await {
        Ok(part) => part.map(|part| (part, parts)),
        Err(_) => std::future::pending().await,
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl control_plane_server::ControlPlane for ControlPlane {
    async fn start_instance(
        &self,
        request: Request<Streaming<v1::StartInstanceRequest>>,
    ) -> Answer<v1::StartInstanceResponse> {
        let mut parts = request.into_inner();
        let first = parts.message().await?.unwrap_or_default();
        // Refused here, before megabytes of artifact have travelled.
        match StartPart::try_from(first.clone()).map_err(|objection| refused(&objection))? {
            StartPart::Spec(_) => {}
            StartPart::Chunk(_) => {
                return Err(invalid("part", "send the spec first, then the artifact in chunks"));
            }
        }
        let rest = stream::unfold(parts, unbroken);
        let forwarded = timely(stream::iter([first]).chain(rest), START);
        answered(self.agent().start_instance(forwarded).await)
    }

    async fn stop_instance(
        &self,
        request: Request<v1::StopInstanceRequest>,
    ) -> Answer<v1::StopInstanceResponse> {
        let request = request.into_inner();
        named(&request.instance)?;
        let limit = within("grace", request.grace.as_ref())?;
        answered(self.agent().stop_instance(timely(request, limit)).await)
    }

    async fn remove_instance(
        &self,
        request: Request<v1::RemoveInstanceRequest>,
    ) -> Answer<v1::RemoveInstanceResponse> {
        let request = request.into_inner();
        named(&request.instance)?;
        answered(self.agent().remove_instance(timely(request, QUICK)).await)
    }

    async fn get_instance(
        &self,
        request: Request<v1::GetInstanceRequest>,
    ) -> Answer<v1::GetInstanceResponse> {
        let request = request.into_inner();
        named(&request.instance)?;
        answered(self.agent().get_instance(timely(request, QUICK)).await)
    }

    async fn list_instances(
        &self,
        request: Request<v1::ListInstancesRequest>,
    ) -> Answer<v1::ListInstancesResponse> {
        answered(self.agent().list_instances(timely(request.into_inner(), QUICK)).await)
    }

    async fn assign_capability(
        &self,
        request: Request<v1::AssignCapabilityRequest>,
    ) -> Answer<v1::AssignCapabilityResponse> {
        let request = request.into_inner();
        named(&request.instance)?;
        granted(&request.grants)?;
        answered(self.agent().assign_capability(timely(request, QUICK)).await)
    }

    async fn revoke_capability(
        &self,
        request: Request<v1::RevokeCapabilityRequest>,
    ) -> Answer<v1::RevokeCapabilityResponse> {
        let request = request.into_inner();
        named(&request.instance)?;
        granted(&request.grants)?;
        answered(self.agent().revoke_capability(timely(request, QUICK)).await)
    }

    type StreamLogsStream = Answers<v1::StreamLogsResponse>;

    async fn stream_logs(&self, request: Request<v1::StreamLogsRequest>) -> Answer<Self::StreamLogsStream> {
        let request = request.into_inner();
        named(&request.instance)?;
        let lines = self.agent().stream_logs(request).await?;
        Ok(Response::new(lines.into_inner().boxed()))
    }

    type WatchFactsStream = Answers<v1::WatchFactsResponse>;

    async fn watch_facts(&self, request: Request<v1::WatchFactsRequest>) -> Answer<Self::WatchFactsStream> {
        let facts = self.agent().watch_facts(request.into_inner()).await?;
        Ok(Response::new(facts.into_inner().boxed()))
    }

    async fn list_nodes(&self, _: Request<v1::ListNodesRequest>) -> Answer<v1::ListNodesResponse> {
        let request = timely(v1::DescribeNodeRequest {}, QUICK);
        let node = answered(self.agent().describe_node(request).await)?.into_inner().node;
        Ok(Response::new(v1::ListNodesResponse { nodes: node.into_iter().collect() }))
    }

    async fn cordon_node(&self, _: Request<v1::CordonNodeRequest>) -> Answer<v1::CordonNodeResponse> {
        Err(Status::unimplemented("this control plane has one node"))
    }

    type DrainNodeStream = Answers<v1::DrainNodeResponse>;

    async fn drain_node(&self, _: Request<v1::DrainNodeRequest>) -> Answer<Self::DrainNodeStream> {
        Err(Status::unimplemented("this control plane has one node"))
    }

    async fn forget_node(&self, _: Request<v1::ForgetNodeRequest>) -> Answer<v1::ForgetNodeResponse> {
        Err(Status::unimplemented("this control plane has one node"))
    }

    async fn create_join_token(
        &self,
        _: Request<v1::CreateJoinTokenRequest>,
    ) -> Answer<v1::CreateJoinTokenResponse> {
        Err(Status::unimplemented("this control plane has one node"))
    }

    async fn start_provider(
        &self,
        request: Request<v1::StartProviderRequest>,
    ) -> Answer<v1::StartProviderResponse> {
        answered(self.agent().start_provider(timely(request.into_inner(), QUICK)).await)
    }

    async fn stop_provider(
        &self,
        request: Request<v1::StopProviderRequest>,
    ) -> Answer<v1::StopProviderResponse> {
        let request = request.into_inner();
        let limit = within("drain", request.drain.as_ref())?;
        answered(self.agent().stop_provider(timely(request, limit)).await)
    }
}
