//! The agent as a gRPC service: takes messages apart, asks the [`Agent`], puts the answer together. Decides nothing.
//!
//! | module | what it does |
//! |---|---|
//! | here | each method |
//! | `upload` | reads a start request in parts |
//! | `deadline` | ends what takes longer than the request allows |

mod deadline;
mod upload;

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};
use wasmatrix_facts::Watched;
use wasmatrix_model::{
    Capability, Digest, Failure, Grant, Grants, InstanceId, InstanceName, failure::Invalid,
};
use wasmatrix_wire::{
    CHUNK_BYTES_MAX, GRACE_DEFAULT, GRACE_MAX, MESSAGE_BYTES_MAX, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX,
    failure::to_status,
    v1::{self, agent_server, watch_instances_response as watched},
};

pub use crate::server::in_process;
use crate::{
    Agent,
    changes::{Change, Changed},
};
use deadline::Deadline;
pub use upload::{ARTIFACT_BYTES_MAX, UPLOADS_BYTES_MAX};

/// Bytes of a listing's page, unless its only instance has more.
const PAGE_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

/// The gRPC service of one agent.
#[derive(Clone, Debug)]
pub struct AgentService {
    agent: Agent,
    /// A permit for each byte of an artifact that may still be taken in.
    uploads: Arc<Semaphore>,
}

impl AgentService {
    /// The service of `agent`, to be added to a server.
    pub fn server(agent: Agent) -> agent_server::AgentServer<Self> {
        agent_server::AgentServer::new(Self { agent, uploads: Arc::new(Semaphore::new(UPLOADS_BYTES_MAX)) })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(usize::MAX)
    }

    fn invalid(&self, invalid: &Invalid) -> Status {
        to_status(&Failure::invalid(invalid, self.agent.now()))
    }

    fn parse<T: std::str::FromStr<Err = Invalid>>(&self, field: &str, text: &str) -> Result<T, Status> {
        text.parse().map_err(|invalid: Invalid| self.invalid(&Invalid::new(field, invalid.problem)))
    }

    fn grants(&self, texts: &[String]) -> Result<Vec<Grant>, Status> {
        if texts.is_empty() {
            return Err(self.invalid(&Invalid::new("grants", "name at least one, e.g. kv:read")));
        }
        texts.iter().enumerate().map(|(index, text)| self.parse(&format!("grants[{index}]"), text)).collect()
    }

    /// The instance whose grants were just changed, unless it was removed in that moment.
    fn holder(&self, instance: &str) -> Option<v1::InstanceStatus> {
        self.agent.get(instance).ok().map(Into::into)
    }

    fn grace(&self, field: &str, grace: Option<prost_types::Duration>) -> Result<Duration, Status> {
        let Some(grace) = grace else { return Ok(GRACE_DEFAULT) };
        let grace = Duration::try_from(grace).ok().filter(|grace| *grace <= GRACE_MAX);
        grace.ok_or_else(|| self.invalid(&Invalid::new(field, format!("take 0 to {GRACE_MAX:?}"))))
    }
}

fn texts(grants: &Grants) -> Vec<String> {
    grants.iter().map(ToString::to_string).collect()
}

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl agent_server::Agent for AgentService {
    async fn start_instance(
        &self,
        request: Request<Streaming<v1::StartInstanceRequest>>,
    ) -> Answer<v1::StartInstanceResponse> {
        let deadline = Deadline::of(request.metadata());
        let (start, artifact) = self.read_start(request.into_inner()).await?;
        let status = deadline.bound(&self.agent, self.agent.start(start, artifact)).await?;
        Ok(Response::new(v1::StartInstanceResponse { instance: Some(status.into()) }))
    }

    async fn stop_instance(
        &self,
        request: Request<v1::StopInstanceRequest>,
    ) -> Answer<v1::StopInstanceResponse> {
        let deadline = Deadline::of(request.metadata());
        let request = request.into_inner();
        let grace = self.grace("grace", request.grace)?;
        let status = deadline.bound(&self.agent, self.agent.stop(&request.instance, grace)).await?;
        Ok(Response::new(v1::StopInstanceResponse { instance: Some(status.into()) }))
    }

    async fn remove_instance(
        &self,
        request: Request<v1::RemoveInstanceRequest>,
    ) -> Answer<v1::RemoveInstanceResponse> {
        let deadline = Deadline::of(request.metadata());
        deadline.bound(&self.agent, self.agent.remove(&request.into_inner().instance)).await?;
        Ok(Response::new(v1::RemoveInstanceResponse {}))
    }

    async fn get_instance(
        &self,
        request: Request<v1::GetInstanceRequest>,
    ) -> Answer<v1::GetInstanceResponse> {
        let status = self.agent.get(&request.into_inner().instance).map_err(|failure| to_status(&failure))?;
        Ok(Response::new(v1::GetInstanceResponse { instance: Some(status.into()) }))
    }

    async fn list_instances(
        &self,
        request: Request<v1::ListInstancesRequest>,
    ) -> Answer<v1::ListInstancesResponse> {
        let request = request.into_inner();
        let size = match request.page_size as usize {
            0 => PAGE_SIZE_DEFAULT as usize,
            size => size.min(PAGE_SIZE_MAX as usize),
        };
        let after: Option<InstanceName> = match request.page_token.as_str() {
            "" => None,
            token => Some(self.parse("page_token", token)?),
        };
        let (mut instances, mut bytes, mut last) = (Vec::new(), 0_usize, String::new());
        for status in self.agent.statuses(after.as_ref(), size + 1) {
            let name = status.spec.name.to_string();
            let instance = v1::InstanceStatus::from(status);
            bytes = bytes.saturating_add(wasmatrix_wire::encoded_bytes(&instance));
            if instances.len() == size || (bytes > PAGE_BYTES_MAX && !instances.is_empty()) {
                return Ok(Response::new(v1::ListInstancesResponse { instances, next_page_token: last }));
            }
            instances.push(instance);
            last = name;
        }
        Ok(Response::new(v1::ListInstancesResponse { instances, next_page_token: String::new() }))
    }

    async fn assign_capability(
        &self,
        request: Request<v1::AssignCapabilityRequest>,
    ) -> Answer<v1::AssignCapabilityResponse> {
        let request = request.into_inner();
        let grants = self.grants(&request.grants)?;
        let held = self.agent.assign(&request.instance, &grants).map_err(|failure| to_status(&failure))?;
        let instance = self.holder(&request.instance);
        Ok(Response::new(v1::AssignCapabilityResponse { grants: texts(&held), instance }))
    }

    async fn revoke_capability(
        &self,
        request: Request<v1::RevokeCapabilityRequest>,
    ) -> Answer<v1::RevokeCapabilityResponse> {
        let request = request.into_inner();
        let grants = self.grants(&request.grants)?;
        let held = self.agent.revoke(&request.instance, &grants).map_err(|failure| to_status(&failure))?;
        let instance = self.holder(&request.instance);
        Ok(Response::new(v1::RevokeCapabilityResponse { grants: texts(&held), instance }))
    }

    type StreamLogsStream = Answers<v1::StreamLogsResponse>;

    async fn stream_logs(&self, request: Request<v1::StreamLogsRequest>) -> Answer<Self::StreamLogsStream> {
        let deadline = Deadline::of(request.metadata());
        let request = request.into_inner();
        let records = self
            .agent
            .logs(&request.instance, request.after_seq, request.tail, request.follow)
            .map_err(|failure| to_status(&failure))?;
        let messages = records
            .map(|record| Ok(v1::StreamLogsResponse { record: Some(Arc::unwrap_or_clone(record).into()) }));
        Ok(Response::new(deadline.bound_stream(&self.agent, messages)))
    }

    type WatchFactsStream = Answers<v1::WatchFactsResponse>;

    async fn watch_facts(&self, request: Request<v1::WatchFactsRequest>) -> Answer<Self::WatchFactsStream> {
        let deadline = Deadline::of(request.metadata());
        let request = request.into_inner();
        let facts =
            self.agent.facts(&request.resume_token, request.follow).map_err(|failure| to_status(&failure))?;
        let wanted = request.instance;
        let messages = facts.map_err(|failure| to_status(&failure)).try_filter_map(move |watched| {
            let message = concerns(&watched, &wanted).then(|| v1::WatchFactsResponse {
                fact: Some(Arc::unwrap_or_clone(watched.fact).into()),
                resume_token: watched.resume_token,
            });
            std::future::ready(Ok(message))
        });
        Ok(Response::new(deadline.bound_stream(&self.agent, messages)))
    }

    async fn describe_node(&self, _: Request<v1::DescribeNodeRequest>) -> Answer<v1::DescribeNodeResponse> {
        Ok(Response::new(v1::DescribeNodeResponse { node: Some(self.agent.describe().into()) }))
    }

    type WatchInstancesStream = Answers<v1::WatchInstancesResponse>;

    async fn watch_instances(
        &self,
        request: Request<v1::WatchInstancesRequest>,
    ) -> Answer<Self::WatchInstancesStream> {
        let deadline = Deadline::of(request.metadata());
        let changes = self.agent.watch(&request.into_inner().resume_token);
        let messages = changes.map(|changed| Ok(change_to_v1(changed)));
        Ok(Response::new(deadline.bound_stream(&self.agent, messages)))
    }

    type FetchArtifactStream = Answers<v1::FetchArtifactResponse>;

    async fn fetch_artifact(
        &self,
        request: Request<v1::FetchArtifactRequest>,
    ) -> Answer<Self::FetchArtifactStream> {
        let deadline = Deadline::of(request.metadata());
        let digest: Digest = self.parse("digest", &request.into_inner().digest)?;
        let mut rest = self.agent.artifact(digest).map_err(|failure| to_status(&failure))?.bytes;
        let chunks = std::iter::from_fn(move || {
            let chunk = rest.split_to(rest.len().min(CHUNK_BYTES_MAX));
            (!chunk.is_empty()).then_some(Ok(v1::FetchArtifactResponse { chunk }))
        });
        Ok(Response::new(deadline.bound_stream(&self.agent, stream::iter(chunks))))
    }

    async fn fence_instance(
        &self,
        request: Request<v1::FenceInstanceRequest>,
    ) -> Answer<v1::FenceInstanceResponse> {
        let deadline = Deadline::of(request.metadata());
        let request = request.into_inner();
        let id: InstanceId = self.parse("instance", &request.instance)?;
        let twin = match request.twin.as_str() {
            "" => None,
            twin => Some(self.parse("twin", twin)?),
        };
        deadline.bound(&self.agent, self.agent.fence(id, request.generation, twin)).await?;
        Ok(Response::new(v1::FenceInstanceResponse {}))
    }

    async fn cordon_node(&self, request: Request<v1::CordonNodeRequest>) -> Answer<v1::CordonNodeResponse> {
        let request = request.into_inner();
        let own = self.agent.describe().id;
        if !request.node.is_empty() && request.node != own.as_str() {
            return Err(self.invalid(&Invalid::new("node", format!("this is the agent of node {own}"))));
        }
        let node = self.agent.cordon(request.cordoned);
        Ok(Response::new(v1::CordonNodeResponse { node: Some(node.into()) }))
    }

    async fn start_provider(
        &self,
        request: Request<v1::StartProviderRequest>,
    ) -> Answer<v1::StartProviderResponse> {
        let deadline = Deadline::of(request.metadata());
        let capability: Capability = self.parse("capability", &request.into_inner().capability)?;
        let status = deadline.bound(&self.agent, self.agent.start_provider(capability)).await?;
        Ok(Response::new(v1::StartProviderResponse { provider: Some(status.into()) }))
    }

    async fn stop_provider(
        &self,
        request: Request<v1::StopProviderRequest>,
    ) -> Answer<v1::StopProviderResponse> {
        let deadline = Deadline::of(request.metadata());
        let request = request.into_inner();
        let capability: Capability = self.parse("capability", &request.capability)?;
        let drain = self.grace("drain", request.drain)?;
        let status = deadline.bound(&self.agent, self.agent.stop_provider(capability, drain)).await?;
        Ok(Response::new(v1::StopProviderResponse { provider: Some(status.into()) }))
    }
}

fn change_to_v1(changed: Changed) -> v1::WatchInstancesResponse {
    let change = match changed.change {
        Change::Reset => watched::Change::Reset(watched::Reset {}),
        Change::Instance(status) => watched::Change::Instance(Box::new((*status).into())),
        Change::Removed(id) => watched::Change::Removed(id.to_string()),
        Change::Synced => watched::Change::Synced(watched::Synced {}),
    };
    v1::WatchInstancesResponse { change: Some(change), resume_token: changed.resume_token }
}

/// Whether a fact is of the instance with that name or id; an empty text asks for all.
fn concerns(watched: &Watched, instance: &str) -> bool {
    let of = |subject: &wasmatrix_model::Subject| {
        subject.name.as_str() == instance || subject.id.to_string() == instance
    };
    instance.is_empty() || watched.fact.kind.subject().is_some_and(of)
}
