//! Who may ask what: the roles that each method needs, and what is done with those who lack them.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    TryFutureExt as _,
    future::{Either, MapOk},
};
use tokio::{sync::broadcast::error::RecvError, time::Instant};
use tonic::{body::Body, codegen::http, metadata::MetadataMap};
use tower::{Layer, Service};
use wasmatrix_identity::{Access, Lasting, Peer, Refusals as RefusedHandshakes, Refused};
use wasmatrix_model::{ErrorCode, FactKind, Failure};
use wasmatrix_wire::{failure::to_status, protocol};

use crate::{
    allowance::{Allowance, Rate},
    cluster::Cluster,
};

/// Refusals that become facts.
const REFUSALS: Rate = Rate { burst: 20, every: Duration::from_secs(1) };

/// Who may call that method, by its path. `None`: nobody; there is no such method, or none that is known here.
pub fn needed(path: &str) -> Option<Access> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    match service {
        "wasmatrix.v1.ControlPlane" => of_control_plane(method),
        "wasmatrix.v1.Nodes" => Some(Access::NODE),
        "wasmatrix.v1.Enrollment" | "grpc.health.v1.Health" => Some(Access::ANYONE),
        "grpc.reflection.v1.ServerReflection" => Some(Access::MEMBER),
        _ => None,
    }
}

fn of_control_plane(method: &str) -> Option<Access> {
    match method {
        "GetInstance" | "ListInstances" | "StreamLogs" | "WatchFacts" | "ListNodes" => Some(Access::VIEWER),
        "StartInstance" | "StopInstance" | "RemoveInstance" | "AssignCapability" | "RevokeCapability"
        | "StartProvider" | "StopProvider" => Some(Access::OPERATOR),
        "CordonNode" | "DrainNode" | "ForgetNode" | "CreateJoinToken" => Some(Access::ADMIN),
        _ => None,
    }
}

/// Logs that somebody was refused, and records it, at a rate that a stranger can't raise.
pub(crate) fn refused(cluster: &Cluster, peer: Option<&Peer>, method: &str, reason: &str) {
    if !cluster.refusals.admit(Instant::now()) {
        return;
    }
    let peer = peer.map_or_else(|| "somebody in this process".to_owned(), ToString::to_string);
    tracing::warn!(peer, method, reason, "a request was refused");
    let (method, reason) = (method.to_owned(), reason.to_owned());
    cluster.record.record(FactKind::AccessRefused { peer, method, reason });
}

/// What a refused handshake is recorded as.
const HANDSHAKE: &str = "TLS handshake";

/// Records handshakes that are refused for the certificate that was shown, for as long as there are any; each is logged
/// where it is refused. Of others there is the log alone: whoever knocks without a certificate may be lost.
pub(crate) async fn record_handshakes(cluster: Arc<Cluster>, refusals: RefusedHandshakes) {
    let mut told = refusals.told();
    drop(refusals);
    loop {
        match told.recv().await {
            Ok(Refused { peer, reason, by_certificate: true }) if cluster.refusals.admit(Instant::now()) => {
                let (peer, method) = (peer.to_string(), HANDSHAKE.to_owned());
                cluster.record.record(FactKind::AccessRefused { peer, method, reason });
            }
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// How many refusals may still be told.
#[derive(Debug)]
pub(crate) struct Refusals(Mutex<Allowance>);

impl Default for Refusals {
    fn default() -> Self {
        Self(Mutex::new(Allowance::full(REFUSALS, Instant::now())))
    }
}

impl Refusals {
    fn admit(&self, now: Instant) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(REFUSALS, now)
    }
}

/// What each call must pass before a service sees it.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    cluster: Arc<Cluster>,
}

/// A service behind its guard.
#[derive(Clone, Debug)]
pub(crate) struct Guarded<S> {
    guard: Guard,
    service: S,
}

impl Guard {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }

    fn check(&self, request: &http::Request<Body>) -> Result<(), Box<Failure>> {
        let cluster = &self.cluster;
        let path = request.uri().path();
        let peer = request.extensions().get::<Peer>();
        // In plain text, and within this process, nobody can prove anything: whoever comes so far may do everything.
        if let Some(peer) = peer.filter(|peer| peer.encrypted) {
            let verdict = needed(path).map(|access| peer.check(access, cluster.clock.now()));
            if let Some(Err(denied)) = verdict {
                let reason = denied.to_string();
                refused(cluster, Some(peer), path, &reason);
                return Err(Box::new(cluster.failure(ErrorCode::PermissionDenied, reason)));
            }
        }
        let theirs = request.headers().get(protocol::HEADER).cloned();
        let mut metadata = http::HeaderMap::new();
        metadata.extend(theirs.map(|value| (http::HeaderName::from_static(protocol::HEADER), value)));
        protocol::check(&MetadataMap::from_headers(metadata), cluster.clock.now())
    }

    /// What becomes of an answer on its way out: it ends when the certificate of whom it is for does. A stream may go on
    /// for months.
    fn last(&self, request: &http::Request<Body>) -> Limit {
        let Some(peer) = request.extensions().get::<Peer>().filter(|peer| peer.identity.is_some()) else {
            return Box::new(|answer| answer);
        };
        let (peer, cluster) = (peer.clone(), Arc::clone(&self.cluster));
        let path = request.uri().path().to_owned();
        Box::new(move |answer| {
            let who = peer.clone();
            let told = move |denied: wasmatrix_identity::Denied| {
                let reason = denied.to_string();
                refused(&cluster, Some(&who), &path, &reason);
                to_status(&cluster.failure(ErrorCode::PermissionDenied, reason))
            };
            answer.map(|body| Body::new(Lasting::new(body, peer, told)))
        })
    }
}

/// What is done to an answer before it is given.
type Limit = Box<dyn FnOnce(http::Response<Body>) -> http::Response<Body> + Send>;

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, service: S) -> Guarded<S> {
        Guarded { guard: self.clone(), service }
    }
}

impl<S> Service<http::Request<Body>> for Guarded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Either<MapOk<S::Future, Limit>, Ready<Result<http::Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match self.guard.check(&request) {
            Ok(()) => {
                let limit = self.guard.last(&request);
                Either::Left(self.service.call(request).map_ok(limit))
            }
            Err(failure) => Either::Right(ready(Ok(to_status(&failure).into_http()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_refusals_does_not_become_a_flood_of_facts() {
        let refusals = Refusals::default();
        let told = (0..1000).filter(|_| refusals.admit(Instant::now())).count();
        assert_eq!(told, REFUSALS.burst as usize);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!((0..1000).filter(|_| refusals.admit(Instant::now())).count(), 5);
    }

    /// Every method that the descriptor names has a line in the table, so that one that is added is not forgotten.
    #[test]
    fn every_method_has_its_roles() {
        let table = [("ControlPlane", include_str!("../../crates/wire/proto/wasmatrix/v1/service.proto"))];
        for (service, proto) in table {
            let begin = proto.find(&format!("service {service} {{")).unwrap();
            let body = &proto[begin..begin + proto[begin..].find("\n}").unwrap()];
            let methods = body.lines().filter_map(|line| line.trim().strip_prefix("rpc "));
            let methods: Vec<_> =
                methods.filter_map(|line| line.split_once('(')).map(|(name, _)| name).collect();
            assert!(methods.len() > 10, "{methods:?}");
            for method in methods {
                assert!(needed(&format!("/wasmatrix.v1.{service}/{method}")).is_some(), "{method}");
            }
        }
        assert_eq!(needed("/wasmatrix.v1.Nodes/Attend"), Some(Access::NODE));
        assert_eq!(needed("/wasmatrix.v1.ControlPlane/StopInstance"), Some(Access::OPERATOR));
        assert_eq!(needed("/else/x"), None);
    }
}
