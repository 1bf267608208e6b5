//! What each call must pass before the service sees it: who asks, and in which version of the protocol.

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use futures::{
    TryFutureExt as _,
    future::{Either, MapOk},
};
use tonic::{body::Body, codegen::http, metadata::MetadataMap, server::NamedService};
use tower::Service;
use wasmatrix_identity::{Access, Denied, Lasting, Peer};
use wasmatrix_model::{ErrorCode, FactKind, Failure};
use wasmatrix_wire::{failure::to_status, protocol, v1::agent_server::AgentServer};

use crate::{Agent, rate::PerMinute, service::AgentService};

/// Refusals that become facts, and are logged, in a minute.
const REFUSAL_FACTS_PER_MINUTE: u32 = 60;
/// Most of a refused call's path that is recorded, in characters.
const PATH_CHARS_MAX: usize = 120;

/// The agent's service behind its guard.
#[derive(Clone)]
pub(super) struct Guarded {
    agent: Agent,
    service: AgentServer<AgentService>,
    refusals: Arc<Mutex<PerMinute>>,
}

impl Guarded {
    pub(super) fn new(agent: Agent) -> Self {
        let refusals = Arc::new(Mutex::new(PerMinute::new(REFUSAL_FACTS_PER_MINUTE)));
        Self { service: AgentService::server(agent.clone()), agent, refusals }
    }

    fn check(&self, request: &http::Request<Body>) -> Result<(), Box<Failure>> {
        self.check_peer(request)?;
        let mut metadata = http::HeaderMap::new();
        if let Some(version) = request.headers().get(protocol::HEADER) {
            metadata.insert(protocol::HEADER, version.clone());
        }
        protocol::check(&MetadataMap::from_headers(metadata), self.agent.now())
    }

    /// A peer that had to prove who it is must be the control plane; one on a connection in plain text, or in this
    /// process, had not.
    fn check_peer(&self, request: &http::Request<Body>) -> Result<(), Box<Failure>> {
        let Some(peer) = request.extensions().get::<Peer>().filter(|peer| peer.encrypted) else {
            return Ok(());
        };
        peer.check(Access::CONTROL_PLANE, self.agent.now()).map_err(|denied| {
            let reason = denied.to_string();
            self.record(peer, request.uri().path(), &reason);
            Box::new(self.agent.failure(ErrorCode::PermissionDenied, reason))
        })
    }

    /// What becomes of an answer on its way out: it ends when the certificate of whom it is for does.
    fn last(&self, request: &http::Request<Body>) -> Limit {
        let Some(peer) = request.extensions().get::<Peer>().filter(|peer| peer.identity.is_some()) else {
            return Box::new(|answer| answer);
        };
        let (peer, guard) = (peer.clone(), self.clone());
        let path = request.uri().path().to_owned();
        Box::new(move |answer| {
            let who = peer.clone();
            let told = move |denied: Denied| {
                let reason = denied.to_string();
                guard.record(&who, &path, &reason);
                to_status(&guard.agent.failure(ErrorCode::PermissionDenied, reason))
            };
            answer.map(|body| Body::new(Lasting::new(body, peer, told)))
        })
    }

    fn record(&self, peer: &Peer, path: &str, reason: &str) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.ask(Instant::now()) {
            tracing::warn!(%peer, path, reason, "a call was refused");
            self.agent.0.facts.record(FactKind::AccessRefused {
                peer: peer.to_string(),
                method: path.chars().take(PATH_CHARS_MAX).collect(),
                reason: reason.to_owned(),
            });
        }
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("agent", &self.agent).finish_non_exhaustive()
    }
}

impl NamedService for Guarded {
    const NAME: &'static str = <AgentServer<AgentService> as NamedService>::NAME;
}

type Answer = Result<http::Response<Body>, Infallible>;
/// What is done to an answer before it is given.
type Limit = Box<dyn FnOnce(http::Response<Body>) -> http::Response<Body> + Send>;

impl Service<http::Request<Body>> for Guarded {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Either<
        MapOk<<AgentServer<AgentService> as Service<http::Request<Body>>>::Future, Limit>,
        Ready<Answer>,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<http::Request<Body>>::poll_ready(&mut self.service, cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match self.check(&request) {
            Ok(()) => {
                let limit = self.last(&request);
                Either::Left(self.service.call(request).map_ok(limit))
            }
            Err(failure) => Either::Right(ready(Ok(to_status(&failure).into_http()))),
        }
    }
}
