//! The service by which nodes attend: who they are, and that they are there.
//!
//! A stream does nothing but this, so that no start, no listing and no compilation delays a beat.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, stream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use wasmatrix_identity::Peer;
use wasmatrix_model::{ErrorCode, Failure, Registration, failure::Invalid};
use wasmatrix_wire::{
    PROTOCOL,
    failure::to_status,
    protocol::check_version,
    time::duration_to_v1,
    v1::{self, attend_request, attend_response, nodes_server},
};

use crate::{
    access::refused,
    cluster::{Cluster, Door},
    nodes::Node,
};

/// What is refused, if a node is.
const METHOD: &str = "/wasmatrix.v1.Nodes/Attend";
/// How long a node may take to say who it is.
const REGISTRATION_MAX: Duration = Duration::from_secs(10);
/// Longest registration, in bytes.
const REGISTRATION_BYTES_MAX: usize = 256 << 10;

/// The service. One for each way in.
#[derive(Clone, Debug)]
pub(crate) struct Attendance {
    cluster: Arc<Cluster>,
    door: Door,
}

type Answers = Pin<Box<dyn Stream<Item = Result<v1::AttendResponse, Status>> + Send>>;

impl Attendance {
    pub(crate) fn server(cluster: Arc<Cluster>, door: Door) -> nodes_server::NodesServer<Self> {
        nodes_server::NodesServer::new(Self { cluster, door })
            .max_decoding_message_size(REGISTRATION_BYTES_MAX)
    }

    /// Reads a registration, which must be of the node that the peer proved to be, if it proved anything.
    fn read(&self, registration: v1::Registration, peer: Option<&Peer>) -> Result<Registration, Failure> {
        let now = self.cluster.clock.now();
        let registration = Registration::try_from(registration)
            .map_err(|invalid| Failure::invalid(&invalid.within("registration"), now))?;
        check_version(registration.protocol, now).map_err(|failure| *failure)?;
        if let Some(identity) = peer.and_then(|peer| peer.identity.as_ref()) {
            identity
                .speaks_for(&registration.id)
                .map_err(|denied| Failure::new(ErrorCode::PermissionDenied, denied.to_string(), now))?;
        }
        if registration.id == self.cluster.own {
            let problem =
                format!("`{}` is the control plane itself: call the node otherwise", self.cluster.own);
            return Err(Failure::invalid(&Invalid::new("registration.id", problem), now));
        }
        if registration.address.is_empty() && self.door != Door::InProcess {
            let problem = "is empty: say where the node's agent listens, e.g. http://127.0.0.1:7118";
            return Err(Failure::invalid(&Invalid::new("registration.address", problem), now));
        }
        Ok(registration)
    }
}

#[tonic::async_trait]
impl nodes_server::Nodes for Attendance {
    type AttendStream = Answers;

    async fn attend(
        &self,
        request: Request<Streaming<v1::AttendRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let peer = Peer::of(&request).cloned();
        let mut parts = request.into_inner();
        let first = tokio::time::timeout(REGISTRATION_MAX, parts.message()).await.map_err(|_| {
            let message = format!("no registration came within {REGISTRATION_MAX:?}");
            to_status(&Failure::new(ErrorCode::Timeout, message, self.cluster.clock.now()))
        })??;
        let Some(v1::AttendRequest { part: Some(attend_request::Part::Registration(said)) }) = first else {
            let invalid = Invalid::new("part", "send a registration first, then beats");
            return Err(to_status(&Failure::invalid(&invalid, self.cluster.clock.now())));
        };
        let admitted =
            self.read(*said, peer.as_ref()).and_then(|registration| self.cluster.admit(registration));
        let (node, session, ended) = admitted.map_err(|failure| {
            refused(&self.cluster, peer.as_ref(), METHOD, &failure.message);
            to_status(&failure)
        })?;
        let visit = Visit { attendance: self.clone(), peer, parts, node, session, ended };
        let welcome = visit.welcome();
        let answers = stream::unfold(Some(visit), |visit| async move {
            let mut visit = visit?;
            let answer = visit.next().await?;
            let more = answer.is_ok().then_some(visit);
            Some((answer, more))
        });
        Ok(Response::new(Box::pin(futures::StreamExt::chain(stream::iter([Ok(welcome)]), answers))))
    }
}

/// One stream of one node. Its end is the session's.
struct Visit {
    attendance: Attendance,
    peer: Option<Peer>,
    parts: Streaming<v1::AttendRequest>,
    node: Arc<Node>,
    session: u64,
    ended: CancellationToken,
}

impl Visit {
    fn welcome(&self) -> v1::AttendResponse {
        let cluster = &self.attendance.cluster;
        let welcome = v1::Welcome {
            heartbeat_interval: Some(duration_to_v1(cluster.timetable.heartbeat)),
            protocol: Some(PROTOCOL.into()),
            version: cluster.version.clone(),
        };
        v1::AttendResponse { part: Some(attend_response::Part::Welcome(welcome)) }
    }

    /// The answer to what the node says next. `None`: it says no more, or is not listened to any more.
    async fn next(&mut self) -> Option<Result<v1::AttendResponse, Status>> {
        let heard = tokio::select! {
            biased;
            () = self.ended.cancelled() => {
                let message = "this stream was ended: another one of the node has taken its place, or the control plane ends";
                let now = self.attendance.cluster.clock.now();
                return Some(Err(to_status(&Failure::new(ErrorCode::NodeUnavailable, message, now))));
            }
            heard = self.parts.message() => heard.ok().flatten()?,
        };
        match heard.part? {
            attend_request::Part::Beat(_) if self.expired() => {
                let message = "the node's certificate expired while it attended: renew it and attend again";
                let failure = self.attendance.cluster.failure(ErrorCode::PermissionDenied, message);
                refused(&self.attendance.cluster, self.peer.as_ref(), METHOD, message);
                Some(Err(to_status(&failure)))
            }
            attend_request::Part::Beat(beat) => {
                self.attendance.cluster.heard(&self.node, self.session);
                let heard = v1::BeatHeard { seq: beat.seq };
                Some(Ok(v1::AttendResponse { part: Some(attend_response::Part::BeatHeard(heard)) }))
            }
            attend_request::Part::Registration(said) => Some(self.again(*said)),
        }
    }

    /// Whether the certificate that the stream began with is over: a stream outlives it.
    fn expired(&self) -> bool {
        let identity = self.peer.as_ref().and_then(|peer| peer.identity.as_ref());
        identity.is_some_and(|identity| identity.expired(self.attendance.cluster.clock.now()))
    }

    /// The node has something new to say of itself.
    fn again(&self, said: v1::Registration) -> Result<v1::AttendResponse, Status> {
        let cluster = &self.attendance.cluster;
        let registration =
            self.attendance.read(said, self.peer.as_ref()).map_err(|failure| to_status(&failure))?;
        let same = registration.id == self.node.id;
        if !same || !cluster.amend(&self.node, self.session, registration) {
            let invalid =
                Invalid::new("registration", "is of another node or run than this stream began with");
            return Err(to_status(&Failure::invalid(&invalid, cluster.clock.now())));
        }
        Ok(self.welcome())
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.attendance.cluster.left(&self.node, self.session);
    }
}
