//! Who may ask what: the roles that each method needs, and what is done with those who lack them.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::Either;
use tokio::time::Instant;
use tonic::{body::Body, codegen::http, metadata::MetadataMap};
use tower::{Layer, Service};
use wasmatrix_identity::{Access, Peer};
use wasmatrix_model::{ErrorCode, FactKind, Failure};
use wasmatrix_wire::{failure::to_status, protocol};

use crate::cluster::Cluster;

/// Refusals that become facts at once, and how often another may after that.
const REFUSALS_BURST: u32 = 20;
const REFUSAL_EVERY: Duration = Duration::from_secs(1);

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

/// How many refusals may still be told.
#[derive(Debug)]
pub(crate) struct Refusals(Mutex<(u32, Instant)>);

impl Default for Refusals {
    fn default() -> Self {
        Self(Mutex::new((REFUSALS_BURST, Instant::now())))
    }
}

impl Refusals {
    fn admit(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, since) = *state;
        let earned = now.saturating_duration_since(since).as_secs() / REFUSAL_EVERY.as_secs();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        let since = if earned == 0 { since } else { now };
        let left = left.saturating_add(earned).min(REFUSALS_BURST);
        *state = (left.saturating_sub(1), since);
        left > 0
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
}

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
    type Future = Either<S::Future, Ready<Result<http::Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match self.guard.check(&request) {
            Ok(()) => Either::Left(self.service.call(request)),
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
        assert_eq!(told, REFUSALS_BURST as usize);
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
