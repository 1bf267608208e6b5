//! What users read: listings, logs, facts.

use std::sync::Arc;

use futures::{Stream, StreamExt as _, TryStreamExt as _, future::join_all, stream};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use wasmatrix_facts::Watched;
use wasmatrix_model::{ErrorCode, Failure, NodeId, ProtocolVersion};
use wasmatrix_wire::{
    MESSAGE_BYTES_MAX, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, encoded_bytes,
    failure::{from_status, to_status},
    older, v1,
};

use super::{Answers, Service};
use crate::{link, route, view::PageToken};

/// Bytes of a listing's page, unless its only instance has more.
const PAGE_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

impl Service {
    /// A page of the instances, as their agents last told.
    pub(super) async fn list(
        &self,
        request: v1::ListInstancesRequest,
        version: ProtocolVersion,
    ) -> Result<v1::ListInstancesResponse, Failure> {
        route::settled(&self.cluster).await;
        let size = match request.page_size as usize {
            0 => PAGE_SIZE_DEFAULT as usize,
            size => size.min(PAGE_SIZE_MAX as usize),
        };
        let node = match request.node.as_str() {
            "" => None,
            node => Some(
                node.parse::<NodeId>().map_err(|invalid| self.cluster.invalid("node", invalid.problem))?,
            ),
        };
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(
                token
                    .parse::<PageToken>()
                    .map_err(|invalid| self.cluster.invalid("page_token", invalid.problem))?,
            ),
        };
        let found = self.cluster.mirror.page(after.as_ref(), size, node.as_ref());
        let (mut instances, mut bytes) = (Vec::new(), 0_usize);
        let mut last = None;
        for status in found.instances {
            let token = PageToken::after(&status);
            let instance = older::instance_for(version, status.into());
            bytes = bytes.saturating_add(encoded_bytes(&instance));
            if bytes > PAGE_BYTES_MAX && !instances.is_empty() {
                let next_page_token = last.as_ref().map(PageToken::to_string).unwrap_or_default();
                return Ok(v1::ListInstancesResponse { instances, next_page_token });
            }
            instances.push(instance);
            last = Some(token);
        }
        let next_page_token = found.next.as_ref().map(PageToken::to_string).unwrap_or_default();
        Ok(v1::ListInstancesResponse { instances, next_page_token })
    }

    /// What an instance said. Ends with an error when its node is lost.
    pub(super) async fn logs(
        &self,
        request: v1::StreamLogsRequest,
    ) -> Result<Answers<v1::StreamLogsResponse>, Status> {
        let found =
            route::find(&self.cluster, &request.instance).await.map_err(|failure| to_status(&failure))?;
        let asked = v1::StreamLogsRequest { instance: found.status.id.to_string(), ..request.clone() };
        let call = async {
            let mut agent = found.link.agent.clone();
            tokio::select! {
                lines = agent.stream_logs(asked) => lines,
                () = found.link.gone.cancelled() => Err(to_status(&self.cluster.failure(
                    ErrorCode::NodeUnavailable,
                    format!("node {} was lost", found.node.id),
                ))),
            }
        };
        let lines = call.await.map_err(|status| self.in_users_words(&request.instance, status))?;
        let failure = self.cluster.failure(
            ErrorCode::NodeUnavailable,
            format!("node {} was lost: it is unknown what the instance said since", found.node.id),
        );
        let broken = self.cluster.failure(
            ErrorCode::NodeUnavailable,
            format!(
                "the connection to node {} broke: it is unknown what the instance said since",
                found.node.id
            ),
        );
        let lines = lines.into_inner().map_err(move |status| unavailable_if_broken(status, &broken));
        Ok(until_gone(lines, found.link.gone.clone(), failure).boxed())
    }

    /// What happened, everywhere.
    pub(super) async fn facts(
        &self,
        request: v1::WatchFactsRequest,
        version: ProtocolVersion,
    ) -> Result<Answers<v1::WatchFactsResponse>, Failure> {
        if !request.follow {
            self.catch_up().await;
        }
        let facts = self.cluster.record.watch(&request.resume_token, request.follow)?;
        let wanted = request.instance;
        let messages = facts.map_err(|failure| to_status(&failure)).try_filter_map(move |watched| {
            let fact = concerns(&watched, &wanted).then(|| Arc::unwrap_or_clone(watched.fact).into());
            let fact = fact.filter(|fact| older::has_word_for(version, fact));
            let message = fact
                .map(|fact| v1::WatchFactsResponse { fact: Some(fact), resume_token: watched.resume_token });
            std::future::ready(Ok(message))
        });
        let ending = self.cluster.ending.clone();
        Ok(messages.take_until(ending.cancelled_owned()).boxed())
    }

    /// Whoever did something finds the facts of it: they are asked for where something was done since the last time.
    async fn catch_up(&self) {
        let touched = self.cluster.nodes.all().into_iter().filter_map(|node| {
            let link = node.link().filter(|link| link.was_touched())?;
            Some(link::catch_up(Arc::clone(&self.cluster), node, link))
        });
        join_all(touched.collect::<Vec<_>>()).await;
    }
}

/// The messages, and the failure if the node is lost before they end.
fn until_gone<T: Send + 'static>(
    messages: impl Stream<Item = Result<T, Status>> + Send,
    gone: CancellationToken,
    failure: Failure,
) -> impl Stream<Item = Result<T, Status>> + Send {
    let told = gone.clone();
    let end = stream::once(async move { told.is_cancelled().then(|| Err(to_status(&failure))) });
    messages.take_until(gone.cancelled_owned()).chain(end.filter_map(std::future::ready))
}

/// `broken`, if it was the connection that failed and not the agent that refused: what the transport calls an error of
/// the protocol is to users a node that is not there.
fn unavailable_if_broken(status: Status, broken: &Failure) -> Status {
    match from_status(&status, broken.at).code {
        ErrorCode::NodeUnavailable => to_status(broken),
        _ => status,
    }
}

/// Whether a fact is of the instance with that name or id; an empty text asks for all.
fn concerns(watched: &Watched, instance: &str) -> bool {
    let of = |subject: &wasmatrix_model::Subject| {
        subject.name.as_str() == instance || subject.id.to_string() == instance
    };
    instance.is_empty() || watched.fact.kind.subject().is_some_and(of)
}
