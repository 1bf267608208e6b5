//! What each call must pass before the service sees it: the protocol's version, and whoever may ask this node at all.

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::Either;
use tonic::{body::Body, codegen::http, metadata::MetadataMap, server::NamedService};
use tower::Service;
use wasmatrix_model::Failure;
use wasmatrix_wire::{failure::to_status, protocol, v1::agent_server::AgentServer};

use crate::{Agent, service::AgentService};

/// Decides whether a call may pass, from what the connection left in the extensions of its request and from its path
/// (`/wasmatrix.v1.Agent/...`).
pub type Admit = Arc<dyn Fn(&http::Extensions, &str) -> Result<(), Box<Failure>> + Send + Sync>;

/// Lets everybody in: for a pipe within this process, and for plain text on loopback.
pub fn anyone() -> Admit {
    Arc::new(|_, _| Ok(()))
}

/// The agent's service behind its guard.
#[derive(Clone)]
pub(super) struct Guarded {
    agent: Agent,
    service: AgentServer<AgentService>,
    admit: Admit,
}

impl Guarded {
    pub(super) fn new(agent: Agent, admit: Admit) -> Self {
        Self { service: AgentService::server(agent.clone()), agent, admit }
    }

    fn check(&self, request: &http::Request<Body>) -> Result<(), Box<Failure>> {
        (self.admit)(request.extensions(), request.uri().path())?;
        let protocol = request.headers().get(protocol::HEADER).cloned();
        let mut metadata = http::HeaderMap::new();
        metadata.extend(protocol.map(|value| (http::HeaderName::from_static(protocol::HEADER), value)));
        protocol::check(&MetadataMap::from_headers(metadata), self.agent.now())
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

impl Service<http::Request<Body>> for Guarded {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Either<<AgentServer<AgentService> as Service<http::Request<Body>>>::Future, Ready<Answer>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<http::Request<Body>>::poll_ready(&mut self.service, cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match self.check(&request) {
            Ok(()) => Either::Left(self.service.call(request)),
            Err(failure) => Either::Right(ready(Ok(to_status(&failure).into_http()))),
        }
    }
}
