//! How machines get certificates: a token is made for an admin, and redeemed once; a node that has a certificate gets the
//! next one by showing it.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tonic::{Request, Response, Status};
use wasmatrix_identity::{
    Authority, For, Order, Peer, ProvenRequest, RedeemError, Role, Token, TokenOrder, Tokens,
};
use wasmatrix_model::{ErrorCode, Failure, NodeId, Timestamp, failure::Invalid};
use wasmatrix_wire::{failure::to_status, time::timestamp_to_v1, v1, v1::enrollment_server};

use crate::{
    access::refused,
    allowance::{Allowance, Rate},
    cluster::Cluster,
};

/// Longest request, in bytes.
const REQUEST_BYTES_MAX: usize = 64 << 10;
/// How long a token is good if nobody says, and at most.
const VALID_FOR: Duration = Duration::from_secs(15 * 60);
const VALID_FOR_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How often one node may have its certificate renewed. Each is noted on the disk.
const RENEWALS: Rate = Rate { burst: 20, every: Duration::from_secs(60) };
/// Nodes whose renewals are counted, before those are left out that have none to be counted any more.
const RENEWING_MAX: usize = 4096;

/// What signs, and what may be redeemed.
#[derive(Debug)]
pub struct Joining {
    authority: Authority,
    tokens: Tokens,
    /// How long the certificates of nodes are good. `None`: as long as is usual.
    valid_for: Option<Duration>,
    renewals: Mutex<HashMap<NodeId, Allowance>>,
}

impl Joining {
    /// Joining by that authority's signature. No tokens yet.
    pub fn new(authority: Authority, clock: Arc<dyn wasmatrix_model::Clock>) -> Self {
        let tokens = Tokens::new(authority.fingerprint(), clock);
        Self { authority, tokens, valid_for: None, renewals: Mutex::default() }
    }

    /// The same, but the certificates of nodes are good for that long.
    #[must_use]
    pub fn valid_for(self, valid_for: Option<Duration>) -> Self {
        Self { valid_for, ..self }
    }

    /// Whether a node may have another certificate so soon.
    fn admit(&self, node: &NodeId, now: Instant) -> bool {
        let mut renewals = self.renewals.lock().unwrap_or_else(PoisonError::into_inner);
        if renewals.len() >= RENEWING_MAX {
            renewals.retain(|_, allowance| !allowance.is_full(RENEWALS, now));
        }
        let allowance = renewals.entry(node.clone()).or_insert_with(|| Allowance::full(RENEWALS, now));
        allowance.take(RENEWALS, now)
    }

    /// Makes a token with which one machine may join.
    ///
    /// # Errors
    /// It would be good for too long, or too many wait to be used.
    pub fn token(&self, valid_for: Option<Duration>, node: Option<NodeId>) -> Result<Token, String> {
        let ttl = valid_for.unwrap_or(VALID_FOR);
        if ttl > VALID_FOR_MAX {
            return Err(format!("a join token is good for {VALID_FOR_MAX:?} at most"));
        }
        let whom = node.map_or(For::AnyNode, For::Node);
        self.tokens
            .create(&TokenOrder { ttl, uses: NonZeroU32::MIN, whom })
            .map_err(|error| error.to_string())
    }

    /// Makes a token for a user's request. Gives its text and its end.
    pub(crate) fn create(
        &self,
        cluster: &Cluster,
        request: v1::CreateJoinTokenRequest,
    ) -> Result<v1::CreateJoinTokenResponse, Failure> {
        let valid_for = request.valid_for.map(Duration::try_from).transpose();
        let valid_for = valid_for.map_err(|_| cluster.invalid("valid_for", "take 1 second to 24 hours"))?;
        let node = match request.node.as_str() {
            "" => None,
            node => Some(node.parse().map_err(|invalid: Invalid| cluster.invalid("node", invalid.problem))?),
        };
        let token = self.token(valid_for, node).map_err(|problem| cluster.invalid("valid_for", problem))?;
        let info = self.tokens.list().into_iter().find(|info| info.id == token.id());
        let expires_at = info.map(|info| timestamp_to_v1(info.expires));
        Ok(v1::CreateJoinTokenResponse { token: token.expose(), expires_at })
    }
}

/// The service. Asked over TLS, with or without a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Enrollment {
    cluster: Arc<Cluster>,
}

impl Enrollment {
    pub(crate) fn server(cluster: Arc<Cluster>) -> enrollment_server::EnrollmentServer<Self> {
        enrollment_server::EnrollmentServer::new(Self { cluster })
            .max_decoding_message_size(REQUEST_BYTES_MAX)
    }

    fn enroll_now(&self, request: &v1::EnrollRequest, peer: &Peer) -> Result<v1::EnrollResponse, Failure> {
        let cluster = &self.cluster;
        let Some(joining) = &cluster.joining else {
            let message = "this control plane has no authority that could sign certificates";
            return Err(cluster.failure(ErrorCode::CapabilityNotFound, message));
        };
        let node: NodeId =
            request.node.parse().map_err(|invalid: Invalid| cluster.invalid("node", invalid.problem))?;
        if node == cluster.own {
            return Err(cluster.invalid("node", format!("`{node}` is the control plane itself")));
        }
        // Proven first: a bad request is not to cost the token.
        let proven = ProvenRequest::parse(&request.certificate_signing_request)
            .map_err(|error| cluster.invalid("certificate_signing_request", error.to_string()))?;
        let by = self.entitle(joining, request, &node, peer)?;
        let now = cluster.clock.now();
        let mut order = Order::new(Role::Node(node.clone()));
        if let Some(valid_for) = joining.valid_for {
            order = order.valid_for(valid_for);
        }
        // A token was redeemed; a certificate may have been taken back since.
        let entitled = || !request.token.is_empty() || !peer.revoked_on_disk();
        let signed = joining.authority.sign_if(&proven, &order, now, entitled).map_err(|error| {
            tracing::error!(%error, "a certificate could not be signed");
            cluster.failure(ErrorCode::Internal, "the certificate could not be signed")
        })?;
        let (certificate, identity) = signed.ok_or_else(|| {
            cluster.failure(ErrorCode::PermissionDenied, "the certificate that was shown was revoked")
        })?;
        tracing::info!(%node, by, certificate = %identity.fingerprint, "a node was given a certificate");
        Ok(v1::EnrollResponse {
            certificate,
            authority: joining.authority.certificate_pem().to_owned(),
            expires_at: Some(timestamp_to_v1(Timestamp::min(identity.not_after, Timestamp::MAX))),
        })
    }

    /// By what right a peer asks for a certificate of that node.
    fn entitle(
        &self,
        joining: &Joining,
        request: &v1::EnrollRequest,
        node: &NodeId,
        peer: &Peer,
    ) -> Result<String, Failure> {
        let denied = |why: String| self.cluster.failure(ErrorCode::PermissionDenied, why);
        if request.token.is_empty() {
            let shown = peer.identity.as_ref().ok_or_else(|| {
                denied("a join token is needed: `wasmatrix token create` makes one".to_owned())
            })?;
            shown.speaks_for(node).map_err(|error| denied(error.to_string()))?;
            if shown.expired(self.cluster.clock.now()) {
                return Err(denied("the certificate expired: join again with a token".to_owned()));
            }
            if !joining.admit(node, Instant::now()) {
                let message =
                    format!("node {node} has had many certificates lately: wait a minute for the next");
                return Err(self.cluster.failure(ErrorCode::ResourceExhausted, message));
            }
            return Ok(shown.to_string());
        }
        self.spare_the_known(joining, request, node)?;
        match joining.tokens.redeem(&request.token, node, peer.address.ip()) {
            Ok(redeemed) => Ok(format!("token {}", redeemed.id)),
            Err(RedeemError::TooManyFailures) => {
                let message = RedeemError::TooManyFailures.to_string();
                Err(self.cluster.failure(ErrorCode::ResourceExhausted, message))
            }
            Err(error) => Err(denied(error.to_string())),
        }
    }
}

impl Enrollment {
    /// A token that leaves the name open is no way to become a node that there is: its holder could answer in that
    /// node's name. Asked before the token is redeemed, so that a joiner can try again under another name.
    fn spare_the_known(
        &self,
        joining: &Joining,
        request: &v1::EnrollRequest,
        node: &NodeId,
    ) -> Result<(), Failure> {
        if self.cluster.nodes.get(node).is_none() {
            return Ok(());
        }
        let Ok(token) = request.token.parse::<Token>() else { return Ok(()) };
        let info = joining.tokens.list().into_iter().find(|info| info.id == token.id());
        if info.is_none_or(|info| info.whom != For::AnyNode) {
            return Ok(());
        }
        let message = format!(
            "there is a node {node}, and this token is good for new ones alone: take another name with --node, or, if \
             this machine is that node, make a token for it with `wasmatrix token create --node {node}`"
        );
        Err(self.cluster.failure(ErrorCode::PermissionDenied, message).with("node", node.as_str()))
    }
}

#[tonic::async_trait]
impl enrollment_server::Enrollment for Enrollment {
    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        let Some(peer) = Peer::of(&request).filter(|peer| peer.encrypted).cloned() else {
            let message = "certificates are given over TLS alone: a token in plain text would be anybody's";
            return Err(to_status(&self.cluster.failure(ErrorCode::PermissionDenied, message)));
        };
        let (this, request, who) = (self.clone(), request.into_inner(), peer.clone());
        // What is signed is noted on the disk.
        let signing = tokio::task::spawn_blocking(move || this.enroll_now(&request, &who));
        let broken =
            |_| Err(self.cluster.failure(ErrorCode::Internal, "the certificate could not be signed"));
        let answer = signing.await.unwrap_or_else(broken).map_err(|failure| {
            if failure.code == ErrorCode::PermissionDenied {
                refused(&self.cluster, Some(&peer), "/wasmatrix.v1.Enrollment/Enroll", &failure.message);
            }
            to_status(&failure)
        })?;
        Ok(Response::new(answer))
    }
}
