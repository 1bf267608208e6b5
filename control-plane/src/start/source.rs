//! Where the parts of a start request come from: from the client as they are sent on, or from memory.
//!
//! What comes from a client is read only when a node asks for it, so nothing is lost on a node that could not be
//! reached. It is kept on its way only if the instance may be restarted elsewhere, and there is room.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};
use tokio::sync::Mutex as AsyncMutex;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use wasmatrix_model::OnNodeLoss;
use wasmatrix_wire::{
    start::{StartPart, StartRequest, start_parts},
    v1,
};

use crate::artifacts::{Artifacts, Passing};

/// How long a client may take for the next chunk of an artifact.
const CHUNK_MAX: Duration = Duration::from_secs(60);

/// See the module's head.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Memory { request: Box<StartRequest>, artifact: Bytes },
    Client(Arc<Client>),
}

/// A request that is being sent.
#[derive(Debug)]
pub(crate) struct Client {
    first: v1::StartInstanceRequest,
    rest: AsyncMutex<Streaming<v1::StartInstanceRequest>>,
    progress: Mutex<Progress>,
    /// The client sends no more, though it should.
    broken: CancellationToken,
}

/// The parts of a request, in order. A type of its own, because the compiler can't see through a boxed one that a call
/// made with it can be sent between threads.
pub(super) struct Parts(Pin<Box<dyn Stream<Item = v1::StartInstanceRequest> + Send>>);

#[derive(Debug)]
struct Progress {
    /// Something of the artifact was read, and sent to a node.
    begun: bool,
    /// All that was read, if it is to be kept.
    kept: Option<(BytesMut, Passing)>,
    whole: bool,
}

impl Source {
    /// Parts that are all here.
    pub(crate) fn of(request: &StartRequest, artifact: Option<Bytes>) -> Self {
        Self::Memory { request: Box::new(request.clone()), artifact: artifact.unwrap_or_default() }
    }

    /// Parts that a client sends.
    pub(super) fn through(
        first: v1::StartInstanceRequest,
        rest: Streaming<v1::StartInstanceRequest>,
        request: &StartRequest,
        artifacts: &Artifacts,
    ) -> Self {
        let keep = request.spec.placement.on_node_loss == OnNodeLoss::RestartElsewhere;
        let kept = keep.then(|| artifacts.pass()).flatten().map(|passing| (BytesMut::new(), passing));
        Self::Client(Arc::new(Client {
            first,
            rest: AsyncMutex::new(rest),
            progress: Mutex::new(Progress { begun: false, kept, whole: false }),
            broken: CancellationToken::new(),
        }))
    }

    /// Whether another node can be told all of it.
    pub(super) fn can_begin_anew(&self) -> bool {
        match self {
            Self::Memory { .. } => true,
            Self::Client(client) => !client.progress().begun && !client.broken.is_cancelled(),
        }
    }

    /// The artifact, if all of it was read and kept.
    pub(super) fn kept(&self) -> Option<Bytes> {
        let Self::Client(client) = self else { return None };
        let mut progress = client.progress();
        let whole = progress.whole;
        let (bytes, _) = progress.kept.take().filter(|(bytes, _)| whole && !bytes.is_empty())?;
        Some(bytes.freeze())
    }

    /// Ready when the client will send no more, though it should.
    pub(super) async fn broken(&self) {
        match self {
            Self::Memory { .. } => std::future::pending().await,
            Self::Client(client) => client.broken.cancelled().await,
        }
    }

    /// The parts, in order. `read` is cancelled as soon as the first is asked for.
    pub(super) fn parts(&self, read: CancellationToken) -> Parts {
        Parts(match self {
            Self::Memory { request, artifact } => {
                let parts = start_parts(StartRequest::clone(request), artifact.clone());
                Box::pin(stream::iter(parts.inspect(move |_| read.cancel())))
            }
            Self::Client(client) => {
                let first = client.first.clone();
                let client = Arc::clone(client);
                Box::pin(stream::unfold(Some((client, Some(first))), move |state| {
                    let read = read.clone();
                    async move {
                        let (client, first) = state?;
                        read.cancel();
                        match first {
                            Some(first) => Some((first, Some((client, None)))),
                            None => client.next().await.map(|part| (part, Some((client, None)))),
                        }
                    }
                }))
            }
        })
    }
}

impl Stream for Parts {
    type Item = v1::StartInstanceRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl Client {
    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next part. An artifact that breaks off must not look like one that ended, so then there is no next part,
    /// ever: whoever sends it on hears that it is broken, and gives the call up.
    async fn next(&self) -> Option<v1::StartInstanceRequest> {
        let mut rest = self.rest.lock().await;
        match tokio::time::timeout(CHUNK_MAX, rest.message()).await {
            Ok(Ok(part)) => {
                let mut progress = self.progress();
                match &part {
                    None => progress.whole = true,
                    Some(part) => progress.take(part),
                }
                part
            }
            Ok(Err(_)) | Err(_) => {
                self.broken.cancel();
                std::future::pending().await
            }
        }
    }
}

impl Progress {
    fn take(&mut self, part: &v1::StartInstanceRequest) {
        self.begun = true;
        let Some((bytes, passing)) = &mut self.kept else { return };
        // What is no chunk the node will refuse.
        let Ok(StartPart::Chunk(chunk)) = StartPart::try_from(part.clone()) else { return };
        if passing.take(chunk.len()) {
            bytes.extend_from_slice(&chunk);
        } else {
            self.kept = None;
        }
    }
}
