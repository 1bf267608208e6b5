//! A control plane that is served over TLS on loopback, its authority in a temporary directory, and those who come.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};
use wasmatrix_control_plane::{Config, ControlPlane, Joining, PlainText, Proven, serve};
use wasmatrix_identity::{
    Authority, Bundle, ClientCertificate, Dialer, Expected, HandshakeLimits, LiveCredentials, Order,
    Overwrite, Role, Token, endpoint,
};
use wasmatrix_model::{Clock, ErrorCode, Fact, FactKind, NodeId, Registration, RunId, SystemClock};
use wasmatrix_wire::{
    PROTOCOL,
    failure::from_status,
    protocol::{StampedClient, control_plane},
    v1::{self, attend_request, enrollment_client::EnrollmentClient, nodes_client::NodesClient},
};

/// See the module's head.
pub(crate) struct Cluster {
    dir: TempDir,
    clock: Arc<dyn Clock>,
    issuer: Authority,
    address: SocketAddr,
    serving: JoinHandle<()>,
    own: LiveCredentials,
    _control_plane: ControlPlane,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Cluster {
    pub(crate) async fn new() -> Self {
        let (dir, clock): (_, Arc<dyn Clock>) = (tempfile::tempdir().unwrap(), Arc::new(SystemClock));
        let ca = dir.path().join("ca");
        let issuer = Authority::create(&ca, "test cluster", clock.now()).unwrap();
        let order = Order::new(Role::ControlPlane).at(["127.0.0.1".parse().unwrap()]);
        let own = dir.path().join("own");
        issuer.issue(&order, clock.now()).unwrap().write(&own, Overwrite::Refuse).unwrap();
        let credentials = LiveCredentials::open(own, Arc::clone(&clock)).unwrap();
        let authority = Authority::open(&ca, clock.now()).unwrap();
        let config = Config {
            settle: Duration::ZERO,
            dial: Arc::new(Proven { credentials: credentials.clone(), plain_text: PlainText::default() }),
            joining: Some(Arc::new(Joining::new(authority, Arc::clone(&clock)))),
            ..Config::default()
        };
        let control_plane = config.begin().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming =
            credentials.incoming(listener, ClientCertificate::Optional, HandshakeLimits::default()).unwrap();
        control_plane.record_refusals(incoming.refusals());
        let served = control_plane.clone();
        let serving = tokio::spawn(async move {
            let _ = serve(incoming, served, std::future::pending(), Duration::ZERO).await;
        });
        Self { dir, clock, issuer, address, serving, own: credentials, _control_plane: control_plane }
    }

    /// The credentials of somebody of that role.
    pub(crate) fn member(&self, role: Role, name: &str) -> LiveCredentials {
        let bundle = self.issuer.issue(&Order::new(role), self.clock.now()).unwrap();
        self.write(&bundle, name)
    }

    pub(crate) fn write(&self, bundle: &Bundle, name: &str) -> LiveCredentials {
        let dir = self.dir.path().join(name);
        bundle.write(&dir, Overwrite::Refuse).unwrap();
        LiveCredentials::open(dir, Arc::clone(&self.clock)).unwrap()
    }

    fn channel(&self, dialer: &Dialer) -> Channel {
        dialer.channel(&endpoint(&format!("https://{}", self.address)).unwrap())
    }

    pub(crate) fn member_channel(&self, member: &LiveCredentials) -> Channel {
        self.channel(&member.dialer(Expected::ControlPlane))
    }

    /// The control plane's own.
    pub(crate) fn own(&self) -> LiveCredentials {
        self.own.clone()
    }

    /// The credentials of somebody of that role, for so long.
    pub(crate) fn member_for(&self, role: Role, name: &str, life: Duration) -> LiveCredentials {
        let bundle = self.issuer.issue(&Order::new(role).valid_for(life), self.clock.now()).unwrap();
        self.write(&bundle, name)
    }

    pub(crate) fn user(&self, member: &LiveCredentials) -> StampedClient {
        control_plane(self.channel(&member.dialer(Expected::ControlPlane)))
    }

    pub(crate) fn enrollment(&self, member: &LiveCredentials) -> EnrollmentClient<Channel> {
        EnrollmentClient::new(self.channel(&member.dialer(Expected::ControlPlane)))
    }

    /// Somebody without a certificate, who knows whom to believe.
    pub(crate) fn stranger(&self, token: &Token) -> Channel {
        self.channel(&Dialer::pinned(token.authority(), Arc::clone(&self.clock)))
    }

    pub(crate) fn joiner(&self, token: &Token) -> EnrollmentClient<Channel> {
        EnrollmentClient::new(self.stranger(token))
    }

    /// A token made at that member's wish.
    pub(crate) async fn token(&self, member: &LiveCredentials, request: v1::CreateJoinTokenRequest) -> Token {
        self.user(member).create_join_token(request).await.unwrap().into_inner().token.parse().unwrap()
    }

    pub(crate) async fn facts(&self, member: &LiveCredentials) -> Vec<FactKind> {
        let request = v1::WatchFactsRequest::default();
        let mut facts = self.user(member).watch_facts(request).await.unwrap().into_inner();
        let mut all = Vec::new();
        while let Some(told) = facts.message().await.unwrap() {
            all.push(Fact::try_from(told.fact.unwrap()).unwrap().kind);
        }
        all
    }
}

/// A stream by which a node attends, welcomed.
#[derive(Debug)]
pub(crate) struct Attending {
    _says: mpsc::Sender<v1::AttendRequest>,
    pub(crate) answers: Streaming<v1::AttendResponse>,
}

/// Attends with that registration, and waits for the welcome.
pub(crate) async fn attend(
    cluster: &Cluster,
    member: &LiveCredentials,
    registration: v1::Registration,
) -> Result<Attending, Status> {
    attend_by(cluster, &member.dialer(Expected::ControlPlane), registration).await
}

/// The same over a connection of that kind.
pub(crate) async fn attend_by(
    cluster: &Cluster,
    dialer: &Dialer,
    registration: v1::Registration,
) -> Result<Attending, Status> {
    let (says, said) = mpsc::channel(4);
    let part = Some(attend_request::Part::Registration(Box::new(registration)));
    says.send(v1::AttendRequest { part }).await.unwrap();
    let mut nodes = NodesClient::new(cluster.channel(dialer));
    let mut answers = nodes.attend(ReceiverStream::new(said)).await?.into_inner();
    answers.message().await?.unwrap();
    Ok(Attending { _says: says, answers })
}

/// What a node of that id says of itself, in a run of its own. Nobody listens at its address.
pub(crate) fn registration(id: &str) -> v1::Registration {
    let registration = Registration {
        id: id.parse::<NodeId>().unwrap(),
        run: RunId::generate(),
        address: "https://127.0.0.1:1".to_owned(),
        version: "test".to_owned(),
        protocol: PROTOCOL,
        started_at: SystemClock.now(),
        labels: wasmatrix_model::Labels::default(),
        executors: Vec::new(),
        providers: Vec::new(),
        capacity: wasmatrix_model::Capacity::default(),
        cordoned: false,
    };
    registration.into()
}

pub(crate) fn code(status: &Status) -> ErrorCode {
    from_status(status, SystemClock.now()).code
}
