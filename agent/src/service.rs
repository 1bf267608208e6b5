//! The agent as a gRPC service: takes messages apart, asks the [`Agent`], puts the answer together. Decides nothing.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server, Uri},
};
use wasmatrix_executor_api::Artifact;
use wasmatrix_facts::Watched;
use wasmatrix_model::{
    Capability, ErrorCode, Failure, Grant, Grants, InstanceName, InstanceSpec, failure::Invalid,
};
use wasmatrix_wire::{
    GRACE_DEFAULT, GRACE_MAX, MESSAGE_BYTES_MAX, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX,
    failure::to_status,
    start::StartPart,
    v1::{self, agent_server},
};

use crate::Agent;

/// Largest artifact taken in, in bytes.
pub const ARTIFACT_BYTES_MAX: usize = 128 << 20;
/// All artifacts together that are being taken in or wait to be compiled, in bytes.
pub const UPLOADS_BYTES_MAX: usize = 4 * ARTIFACT_BYTES_MAX;
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

    fn grace(&self, field: &str, grace: Option<prost_types::Duration>) -> Result<Duration, Status> {
        let Some(grace) = grace else { return Ok(GRACE_DEFAULT) };
        let grace = Duration::try_from(grace).ok().filter(|grace| *grace <= GRACE_MAX);
        grace.ok_or_else(|| self.invalid(&Invalid::new(field, format!("take 0 to {GRACE_MAX:?}"))))
    }

    /// Reads a start request to its end: the spec first, then the artifact, which must be the one of the digest.
    async fn read_start(
        &self,
        mut parts: Streaming<v1::StartInstanceRequest>,
    ) -> Result<(InstanceSpec, Option<Artifact>), Status> {
        let out_of_order = |problem: &str| {
            self.invalid(&Invalid::new("part", format!("{problem}: send the spec first, then chunks")))
        };
        let part = |message| StartPart::try_from(message).map_err(|invalid| self.invalid(&invalid));
        let StartPart::Spec(spec) = part(parts.message().await?.unwrap_or_default())? else {
            return Err(out_of_order("a chunk came before the spec"));
        };
        let mut upload = Upload { bytes: BytesMut::new(), room: None };
        while let Some(message) = parts.message().await? {
            let StartPart::Chunk(chunk) = part(message)? else {
                return Err(out_of_order("a second spec came"));
            };
            upload.take(&chunk, &self.uploads).map_err(|problem| {
                to_status(&Failure::new(ErrorCode::ResourceExhausted, problem, self.agent.now()))
            })?;
        }
        if upload.bytes.is_empty() {
            return Ok((spec.spec, None));
        }
        let artifact = hash(Bytes::from_owner(upload)).await?;
        Ok((spec.spec, Some(artifact)))
    }
}

/// An artifact as it comes in. Takes up room as long as anybody holds its bytes.
struct Upload {
    bytes: BytesMut,
    room: Option<OwnedSemaphorePermit>,
}

impl Upload {
    /// Adds a chunk, or says what stands in the way. Never waits: uploads that each waited for the others to make room
    /// would wait for ever.
    fn take(&mut self, chunk: &[u8], uploads: &Arc<Semaphore>) -> Result<(), String> {
        if self.bytes.len() + chunk.len() > ARTIFACT_BYTES_MAX {
            return Err(format!(
                "the artifact is larger than {ARTIFACT_BYTES_MAX} bytes, the most that is taken"
            ));
        }
        // A chunk is no larger than an artifact, so it can be counted.
        let room = u32::try_from(chunk.len())
            .ok()
            .and_then(|bytes| Arc::clone(uploads).try_acquire_many_owned(bytes).ok())
            .ok_or_else(|| {
                format!(
                    "artifacts of {UPLOADS_BYTES_MAX} bytes, the most at one time, are being taken in already: try \
                     again later"
                )
            })?;
        match &mut self.room {
            Some(taken) => taken.merge(room),
            none => *none = Some(room),
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }
}

impl AsRef<[u8]> for Upload {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Computes the digest off the async threads: an artifact has many megabytes.
async fn hash(bytes: Bytes) -> Result<Artifact, Status> {
    tokio::task::spawn_blocking(move || Artifact::new(bytes))
        .await
        .map_err(|_| Status::internal("the artifact's digest could not be computed"))
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
        let (spec, artifact) = self.read_start(request.into_inner()).await?;
        let status = self.agent.start(spec, artifact).await.map_err(|failure| to_status(&failure))?;
        Ok(Response::new(v1::StartInstanceResponse { instance: Some(status.into()) }))
    }

    async fn stop_instance(
        &self,
        request: Request<v1::StopInstanceRequest>,
    ) -> Answer<v1::StopInstanceResponse> {
        let request = request.into_inner();
        let grace = self.grace("grace", request.grace)?;
        let status =
            self.agent.stop(&request.instance, grace).await.map_err(|failure| to_status(&failure))?;
        Ok(Response::new(v1::StopInstanceResponse { instance: Some(status.into()) }))
    }

    async fn remove_instance(
        &self,
        request: Request<v1::RemoveInstanceRequest>,
    ) -> Answer<v1::RemoveInstanceResponse> {
        self.agent.remove(&request.into_inner().instance).await.map_err(|failure| to_status(&failure))?;
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
        Ok(Response::new(v1::AssignCapabilityResponse { grants: texts(&held) }))
    }

    async fn revoke_capability(
        &self,
        request: Request<v1::RevokeCapabilityRequest>,
    ) -> Answer<v1::RevokeCapabilityResponse> {
        let request = request.into_inner();
        let grants = self.grants(&request.grants)?;
        let held = self.agent.revoke(&request.instance, &grants).map_err(|failure| to_status(&failure))?;
        Ok(Response::new(v1::RevokeCapabilityResponse { grants: texts(&held) }))
    }

    type StreamLogsStream = Answers<v1::StreamLogsResponse>;

    async fn stream_logs(&self, request: Request<v1::StreamLogsRequest>) -> Answer<Self::StreamLogsStream> {
        let request = request.into_inner();
        let records = self
            .agent
            .logs(&request.instance, request.after_seq, request.tail, request.follow)
            .map_err(|failure| to_status(&failure))?;
        let messages = records
            .map(|record| Ok(v1::StreamLogsResponse { record: Some(Arc::unwrap_or_clone(record).into()) }));
        Ok(Response::new(messages.boxed()))
    }

    type WatchFactsStream = Answers<v1::WatchFactsResponse>;

    async fn watch_facts(&self, request: Request<v1::WatchFactsRequest>) -> Answer<Self::WatchFactsStream> {
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
        Ok(Response::new(messages.boxed()))
    }

    async fn describe_node(&self, _: Request<v1::DescribeNodeRequest>) -> Answer<v1::DescribeNodeResponse> {
        Ok(Response::new(v1::DescribeNodeResponse { node: Some(self.agent.describe().into()) }))
    }

    type WatchInstancesStream = Answers<v1::WatchInstancesResponse>;

    async fn watch_instances(
        &self,
        _: Request<v1::WatchInstancesRequest>,
    ) -> Answer<Self::WatchInstancesStream> {
        Err(Status::unimplemented("this agent serves one control plane, in its own process"))
    }

    type FetchArtifactStream = Answers<v1::FetchArtifactResponse>;

    async fn fetch_artifact(
        &self,
        _: Request<v1::FetchArtifactRequest>,
    ) -> Answer<Self::FetchArtifactStream> {
        Err(Status::unimplemented("this agent serves one control plane, in its own process"))
    }

    async fn fence_instance(
        &self,
        _: Request<v1::FenceInstanceRequest>,
    ) -> Answer<v1::FenceInstanceResponse> {
        Err(Status::unimplemented("this agent serves one control plane, in its own process"))
    }

    async fn start_provider(
        &self,
        request: Request<v1::StartProviderRequest>,
    ) -> Answer<v1::StartProviderResponse> {
        let capability: Capability = self.parse("capability", &request.into_inner().capability)?;
        let status = self.agent.start_provider(capability).await.map_err(|failure| to_status(&failure))?;
        Ok(Response::new(v1::StartProviderResponse { provider: Some(status.into()) }))
    }

    async fn stop_provider(
        &self,
        request: Request<v1::StopProviderRequest>,
    ) -> Answer<v1::StopProviderResponse> {
        let request = request.into_inner();
        let capability: Capability = self.parse("capability", &request.capability)?;
        let drain = self.grace("drain", request.drain)?;
        let status =
            self.agent.stop_provider(capability, drain).await.map_err(|failure| to_status(&failure))?;
        Ok(Response::new(v1::StopProviderResponse { provider: Some(status.into()) }))
    }
}

/// Whether a fact is of the instance with that name or id; an empty text asks for all.
fn concerns(watched: &Watched, instance: &str) -> bool {
    let of = |subject: &wasmatrix_model::Subject| {
        subject.name.as_str() == instance || subject.id.to_string() == instance
    };
    instance.is_empty() || watched.fact.kind.subject().is_some_and(of)
}

/// Bytes in flight between the two ends of [`in_process`].
const PIPE_BYTES: usize = 1 << 20;
/// Connections that wait to be accepted.
const BACKLOG: usize = 16;

/// Serves the agent within this process and gives a channel to it: the same gRPC that goes between machines, over a
/// pipe in memory, so that no port is opened that others could find. The service ends with the channel.
///
/// # Errors
/// The service could not be started.
pub fn in_process(agent: Agent) -> Result<Channel, tonic::transport::Error> {
    let (connections, accepted) = tokio::sync::mpsc::channel(BACKLOG);
    let incoming = tokio_stream::wrappers::ReceiverStream::new(accepted);
    tokio::spawn(async move {
        let served = Server::builder()
            .add_service(AgentService::server(agent))
            .serve_with_incoming(incoming.map(Ok::<_, std::convert::Infallible>))
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "the agent's service ended");
        }
    });
    let connector = tower::service_fn(move |_: Uri| {
        let connections = connections.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
            connections
                .send(theirs)
                .await
                .map_err(|_| std::io::Error::other("the agent's service has ended"))?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(ours))
        }
    });
    Ok(Endpoint::try_from("http://agent.invalid")?.connect_with_connector_lazy(connector))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_share_one_room_until_their_bytes_are_gone() {
        let uploads = Arc::new(Semaphore::new(10));
        let upload = || Upload { bytes: BytesMut::new(), room: None };
        let (mut first, mut second) = (upload(), upload());
        assert_eq!(first.take(b"abc", &uploads), Ok(()));
        assert_eq!(first.take(b"def", &uploads), Ok(()));
        assert!(second.take(b"12345", &uploads).unwrap_err().contains("try again later"));
        let bytes = Bytes::from_owner(first);
        let slice = bytes.slice(1..3);
        drop(bytes);
        assert!(second.take(b"12345", &uploads).is_err(), "somebody still holds a part of the first");
        drop(slice);
        assert_eq!(second.take(b"1234567890", &uploads), Ok(()));
    }

    #[test]
    fn an_artifact_has_an_end() {
        let uploads = Arc::new(Semaphore::new(UPLOADS_BYTES_MAX));
        let mut upload = Upload { bytes: BytesMut::zeroed(ARTIFACT_BYTES_MAX), room: None };
        assert!(upload.take(b"x", &uploads).unwrap_err().contains("larger than"));
    }
}
