//! A simulated node as the real gRPC service `Agent`: takes messages apart, asks the [`Machine`], puts answers together.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::BytesMut;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tonic::{Request, Response, Status, Streaming, service::interceptor::InterceptedService};
use wasmatrix_model::{
    Capability, Digest, Failure, Grant, Grants, InstanceId, InstanceName, LogRecord, failure::Invalid,
};
use wasmatrix_wire::{
    CHUNK_BYTES_MAX, GRACE_MAX, MESSAGE_BYTES_MAX, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, StartPart, StartRequest,
    failure::to_status,
    protocol::checked,
    v1::{self, agent_server, watch_instances_response as watched},
};

use crate::{
    machine::{Machine, Told, has_begun},
    node::Mischief,
};

/// Most changes, facts or lines told at a time.
const BATCH: usize = 256;

/// The service of one run of a node.
#[derive(Clone, Debug)]
pub struct SimAgent {
    machine: Arc<Machine>,
    address: Arc<str>,
    mischief: Arc<Mischief>,
}

/// [`checked`], as a type that can be written down.
pub(crate) type Check = fn(Request<()>) -> Result<Request<()>, Status>;

impl SimAgent {
    /// The service, to be added to a server.
    pub(crate) fn server(
        machine: Arc<Machine>,
        address: &str,
        mischief: Arc<Mischief>,
    ) -> InterceptedService<agent_server::AgentServer<Self>, Check> {
        let service = Self { machine, address: address.into(), mischief };
        let server = agent_server::AgentServer::new(service)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(usize::MAX);
        InterceptedService::new(server, checked as Check)
    }

    fn invalid(&self, invalid: &Invalid) -> Status {
        to_status(&Failure::invalid(invalid, self.machine.now()))
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

    fn grace(&self, field: &str, grace: Option<prost_types::Duration>) -> Result<(), Status> {
        let legal = |grace| Duration::try_from(grace).is_ok_and(|grace| grace <= GRACE_MAX);
        if grace.is_none_or(legal) {
            return Ok(());
        }
        Err(self.invalid(&Invalid::new(field, format!("take 0 to {GRACE_MAX:?}"))))
    }

    async fn read_start(
        &self,
        mut parts: Streaming<v1::StartInstanceRequest>,
    ) -> Result<(StartRequest, Option<bytes::Bytes>), Status> {
        let out_of_order = || self.invalid(&Invalid::new("part", "send the spec first, then chunks"));
        let part = |message| StartPart::try_from(message).map_err(|invalid| self.invalid(&invalid));
        let StartPart::Spec(request) = part(parts.message().await?.unwrap_or_default())? else {
            return Err(out_of_order());
        };
        let mut artifact = BytesMut::new();
        while let Some(message) = parts.message().await? {
            let StartPart::Chunk(chunk) = part(message)? else { return Err(out_of_order()) };
            artifact.extend_from_slice(&chunk);
        }
        Ok((*request, Some(artifact.freeze()).filter(|bytes| !bytes.is_empty())))
    }

    /// The answer, unless it is to be lost on the way.
    async fn answer<T>(&self, answer: Result<T, Failure>) -> Answer<T> {
        self.mischief.before_an_answer().await;
        answer.map(Response::new).map_err(|failure| to_status(&failure))
    }
}

fn texts(grants: &Grants) -> Vec<String> {
    grants.iter().map(ToString::to_string).collect()
}

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl agent_server::Agent for SimAgent {
    async fn start_instance(
        &self,
        request: Request<Streaming<v1::StartInstanceRequest>>,
    ) -> Answer<v1::StartInstanceResponse> {
        let (start, artifact) = self.read_start(request.into_inner()).await?;
        let begun = async {
            let id = self.machine.start(start, artifact)?;
            let status = self.machine.until(id, has_begun).await?;
            self.machine.explain_failed_start(&status)?;
            Ok(v1::StartInstanceResponse { instance: Some(status.into()) })
        };
        self.answer(begun.await).await
    }

    async fn stop_instance(
        &self,
        request: Request<v1::StopInstanceRequest>,
    ) -> Answer<v1::StopInstanceResponse> {
        let request = request.into_inner();
        self.grace("grace", request.grace)?;
        let ended = async {
            let id = self.machine.stop(&request.instance)?;
            let status = self.machine.until(id, |status| !status.phase.is_live()).await?;
            Ok(v1::StopInstanceResponse { instance: Some(status.into()) })
        };
        self.answer(ended.await).await
    }

    async fn remove_instance(
        &self,
        request: Request<v1::RemoveInstanceRequest>,
    ) -> Answer<v1::RemoveInstanceResponse> {
        let removed = self.machine.remove(&request.into_inner().instance);
        self.answer(removed.map(|()| v1::RemoveInstanceResponse {})).await
    }

    async fn get_instance(
        &self,
        request: Request<v1::GetInstanceRequest>,
    ) -> Answer<v1::GetInstanceResponse> {
        let status = self.machine.get(&request.into_inner().instance);
        self.answer(status.map(|status| v1::GetInstanceResponse { instance: Some(status.into()) })).await
    }

    async fn list_instances(
        &self,
        request: Request<v1::ListInstancesRequest>,
    ) -> Answer<v1::ListInstancesResponse> {
        let request = request.into_inner();
        let size = match request.page_size {
            0 => PAGE_SIZE_DEFAULT,
            size => size.min(PAGE_SIZE_MAX),
        };
        let after: Option<InstanceName> = match request.page_token.as_str() {
            "" => None,
            token => Some(self.parse("page_token", token)?),
        };
        let statuses = self.machine.list(after.as_ref(), size as usize);
        let is_full = statuses.len() == size as usize;
        let last = statuses.last().filter(|_| is_full).map(|status| status.spec.name.to_string());
        let instances = statuses.into_iter().map(Into::into).collect();
        let page = v1::ListInstancesResponse { instances, next_page_token: last.unwrap_or_default() };
        self.answer(Ok(page)).await
    }

    async fn assign_capability(
        &self,
        request: Request<v1::AssignCapabilityRequest>,
    ) -> Answer<v1::AssignCapabilityResponse> {
        let request = request.into_inner();
        let held = self.machine.assign(&request.instance, &self.grants(&request.grants)?);
        let instance = self.machine.get(&request.instance).ok().map(Into::into);
        let answer = held.map(|held| v1::AssignCapabilityResponse { grants: texts(&held), instance });
        self.answer(answer).await
    }

    async fn revoke_capability(
        &self,
        request: Request<v1::RevokeCapabilityRequest>,
    ) -> Answer<v1::RevokeCapabilityResponse> {
        let request = request.into_inner();
        let held = self.machine.revoke(&request.instance, &self.grants(&request.grants)?);
        let instance = self.machine.get(&request.instance).ok().map(Into::into);
        let answer = held.map(|held| v1::RevokeCapabilityResponse { grants: texts(&held), instance });
        self.answer(answer).await
    }

    type StreamLogsStream = Answers<v1::StreamLogsResponse>;

    async fn stream_logs(&self, request: Request<v1::StreamLogsRequest>) -> Answer<Self::StreamLogsStream> {
        let v1::StreamLogsRequest { instance, follow, tail, after_seq } = request.into_inner();
        let log = self.machine.log(&instance).map_err(|failure| to_status(&failure))?;
        let from_tail = tail.map_or(0, |tail| log.newest().saturating_sub(tail.into()));
        let after = after_seq.max(from_tail);
        let newest = log.subscribe();
        let lines = stream::unfold((log, newest, after), move |(log, mut newest, after)| async move {
            loop {
                newest.borrow_and_update();
                match log.after(after.max(log.before_oldest()), BATCH) {
                    Ok((lines, last)) if !lines.is_empty() => return Some((lines, (log, newest, last))),
                    Ok(_) if !follow => return None,
                    Ok(_) => newest.changed().await.ok()?,
                    Err(_) => {}
                }
            }
        });
        let message = |line: Arc<LogRecord>| {
            Ok(v1::StreamLogsResponse { record: Some(Arc::unwrap_or_clone(line).into()) })
        };
        Ok(Response::new(lines.flat_map(stream::iter).map(message).boxed()))
    }

    type WatchFactsStream = Answers<v1::WatchFactsResponse>;

    async fn watch_facts(&self, request: Request<v1::WatchFactsRequest>) -> Answer<Self::WatchFactsStream> {
        let v1::WatchFactsRequest { follow, resume_token, instance } = request.into_inner();
        let facts = self.machine.facts.watch(&resume_token, follow).map_err(|failure| to_status(&failure))?;
        let messages = facts.map_err(|failure| to_status(&failure)).try_filter_map(move |watched| {
            let is_it = |subject: &wasmatrix_model::Subject| {
                subject.name.as_str() == instance || subject.id.to_string() == instance
            };
            let concerns = instance.is_empty() || watched.fact.kind.subject().is_some_and(is_it);
            let message = concerns.then(|| v1::WatchFactsResponse {
                fact: Some(Arc::unwrap_or_clone(watched.fact).into()),
                resume_token: watched.resume_token,
            });
            std::future::ready(Ok(message))
        });
        Ok(Response::new(messages.boxed()))
    }

    async fn describe_node(&self, _: Request<v1::DescribeNodeRequest>) -> Answer<v1::DescribeNodeResponse> {
        let node = Some(self.machine.describe(&self.address).into());
        self.answer(Ok(v1::DescribeNodeResponse { node })).await
    }

    type WatchInstancesStream = Answers<v1::WatchInstancesResponse>;

    async fn watch_instances(
        &self,
        request: Request<v1::WatchInstancesRequest>,
    ) -> Answer<Self::WatchInstancesStream> {
        let token = request.into_inner().resume_token;
        Ok(Response::new(instances(Arc::clone(&self.machine), &token).map(Ok).boxed()))
    }

    type FetchArtifactStream = Answers<v1::FetchArtifactResponse>;

    async fn fetch_artifact(
        &self,
        request: Request<v1::FetchArtifactRequest>,
    ) -> Answer<Self::FetchArtifactStream> {
        let digest: Digest = self.parse("digest", &request.into_inner().digest)?;
        let mut artifact = self.machine.artifact(digest).map_err(|failure| to_status(&failure))?;
        let chunks = std::iter::from_fn(move || {
            let chunk = artifact.split_to(artifact.len().min(CHUNK_BYTES_MAX));
            (!chunk.is_empty()).then_some(Ok(v1::FetchArtifactResponse { chunk }))
        });
        Ok(Response::new(stream::iter(chunks).boxed()))
    }

    async fn fence_instance(
        &self,
        request: Request<v1::FenceInstanceRequest>,
    ) -> Answer<v1::FenceInstanceResponse> {
        let request = request.into_inner();
        let id: InstanceId = self.parse("instance", &request.instance)?;
        let twin = match request.twin.as_str() {
            "" => None,
            twin => Some(self.parse("twin", twin)?),
        };
        let fenced = self.machine.fence(id, request.generation, twin);
        self.answer(fenced.map(|()| v1::FenceInstanceResponse {})).await
    }

    async fn cordon_node(&self, request: Request<v1::CordonNodeRequest>) -> Answer<v1::CordonNodeResponse> {
        self.machine.cordon(request.into_inner().cordoned);
        let node = Some(self.machine.describe(&self.address).into());
        self.answer(Ok(v1::CordonNodeResponse { node })).await
    }

    async fn start_provider(
        &self,
        request: Request<v1::StartProviderRequest>,
    ) -> Answer<v1::StartProviderResponse> {
        let capability: Capability = self.parse("capability", &request.into_inner().capability)?;
        let turned = self.machine.turn_provider(capability, true);
        self.answer(turned.map(|status| v1::StartProviderResponse { provider: Some(status.into()) })).await
    }

    async fn stop_provider(
        &self,
        request: Request<v1::StopProviderRequest>,
    ) -> Answer<v1::StopProviderResponse> {
        let request = request.into_inner();
        let capability: Capability = self.parse("capability", &request.capability)?;
        self.grace("drain", request.drain)?;
        let turned = self.machine.turn_provider(capability, false);
        self.answer(turned.map(|status| v1::StopProviderResponse { provider: Some(status.into()) })).await
    }
}

/// What there is, and then what changes.
fn instances(
    machine: Arc<Machine>,
    token: &str,
) -> impl Stream<Item = v1::WatchInstancesResponse> + Send + use<> {
    struct Watcher {
        machine: Arc<Machine>,
        newest: tokio::sync::watch::Receiver<u64>,
        after: Option<u64>,
        synced: bool,
    }
    let run = machine.facts.run();
    let after = token.split_once('.').filter(|(of, _)| of.parse() == Ok(run));
    let after = after.and_then(|(_, revision)| revision.parse().ok());
    let watcher = Watcher { newest: machine.revised(), machine, after, synced: false };
    let batches = stream::unfold(watcher, move |mut watcher| async move {
        use watched::Change;
        loop {
            watcher.newest.borrow_and_update();
            let news = watcher.machine.news(watcher.after, BATCH);
            let mut batch = Vec::new();
            if news.is_reset {
                batch.push((0, Change::Reset(watched::Reset {})));
                watcher.synced = false;
            }
            watcher.after = Some(match news.changes.last() {
                Some((last, _)) => *last,
                None => news.revision,
            });
            let is_all = news.changes.len() < BATCH;
            batch.extend(news.changes.into_iter().map(|(revision, told)| match told {
                Told::Is(status) => (revision, Change::Instance(Box::new((*status).into()))),
                Told::Gone(id) => (revision, Change::Removed(id.to_string())),
            }));
            if is_all && !watcher.synced {
                watcher.synced = true;
                batch.push((watcher.after.unwrap_or(0), Change::Synced(watched::Synced {})));
            }
            if !batch.is_empty() {
                return Some((batch, watcher));
            }
            watcher.newest.changed().await.ok()?;
        }
    });
    batches.flat_map(stream::iter).map(move |(revision, change)| v1::WatchInstancesResponse {
        change: Some(change),
        resume_token: format!("{run}.{revision}"),
    })
}
