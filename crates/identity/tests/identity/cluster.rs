//! A cluster in a temporary directory, with a clock that stands still until it is turned.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use tempfile::TempDir;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tonic::{
    Request, Status,
    service::interceptor::InterceptedService,
    transport::{Channel, Server},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tracing_subscriber::fmt::MakeWriter;
use wasmatrix_identity::*;
use wasmatrix_model::{Clock, Timestamp};

/// Far from today, so that whoever asks the machine for the time is found out.
const START_SECOND: i64 = 2_000_000_000;
pub(crate) const DAY: i64 = 86_400;

#[derive(Debug)]
pub(crate) struct HeldClock(AtomicI64);

impl HeldClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(START_SECOND)))
    }

    pub(crate) fn turn(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for HeldClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

pub(crate) struct Cluster {
    pub(crate) dir: TempDir,
    pub(crate) clock: Arc<HeldClock>,
    pub(crate) authority: Authority,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let (dir, clock) = (tempfile::tempdir().unwrap(), HeldClock::new());
        let authority = Authority::create(&dir.path().join("ca"), "test cluster", clock.now()).unwrap();
        Self { dir, clock, authority }
    }

    pub(crate) fn ca_dir(&self) -> PathBuf {
        self.dir.path().join("ca")
    }

    /// Issues credentials into a directory of that name, in place of those that are there.
    pub(crate) fn member(&self, name: &str, order: Order) -> PathBuf {
        let dir = self.dir.path().join(name);
        let bundle = self.authority.issue(&order, self.clock.now()).unwrap();
        bundle.write(&dir, Overwrite::Replace).unwrap();
        dir
    }

    pub(crate) fn live(&self, name: &str, order: Order) -> LiveCredentials {
        LiveCredentials::open(self.member(name, order), self.clock.clone()).unwrap()
    }

    pub(crate) fn control_plane(&self) -> LiveCredentials {
        self.live("control-plane", control_plane())
    }
}

pub(crate) fn control_plane() -> Order {
    Order::new(Role::ControlPlane).at(["localhost".parse().unwrap(), "127.0.0.1".parse().unwrap()])
}

pub(crate) fn node(name: &str) -> Role {
    Role::Node(name.parse().unwrap())
}

/// A tonic server with the health service behind `access`; each request's peer can be received.
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    pub(crate) refusals: Refusals,
    pub(crate) peers: mpsc::Receiver<Peer>,
    task: JoinHandle<()>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Serving {
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

pub(crate) async fn serve(
    credentials: &LiveCredentials,
    certificate: ClientCertificate,
    access: Access,
) -> Serving {
    serve_within(credentials, certificate, access, HandshakeLimits::default()).await
}

pub(crate) async fn serve_within(
    credentials: &LiveCredentials,
    certificate: ClientCertificate,
    access: Access,
    limits: HandshakeLimits,
) -> Serving {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = credentials.incoming(listener, certificate, limits).unwrap();
    serve_incoming(address, incoming, access, credentials.clock().clone())
}

pub(crate) fn serve_incoming(
    address: SocketAddr,
    incoming: Incoming,
    access: Access,
    clock: Arc<dyn Clock>,
) -> Serving {
    let refusals = incoming.refusals();
    let (sender, peers) = mpsc::channel(64);
    let (_, health) = tonic_health::server::health_reporter();
    let guarded = InterceptedService::new(health, move |request: Request<()>| {
        let peer = Peer::of(&request).expect("every request has a peer").clone();
        sender.try_send(peer.clone()).unwrap();
        peer.check(access, clock.now()).map_err(|denied| Status::permission_denied(denied.to_string()))?;
        Ok(request)
    });
    let server = Server::builder().add_service(guarded).serve_with_incoming(incoming);
    let task = tokio::spawn(async move { server.await.unwrap() });
    Serving { address, refusals, peers, task }
}

/// One call. The error is the whole chain in words.
pub(crate) async fn call(channel: &Channel) -> Result<(), String> {
    let mut client = HealthClient::new(channel.clone());
    match client.check(HealthCheckRequest::default()).await {
        Ok(_) => Ok(()),
        Err(status) => Err(chain(&status)),
    }
}

/// Connects and calls.
pub(crate) async fn dial_and_call(dialer: &Dialer, url: &str) -> Result<(), String> {
    let channel = dialer.connect(&endpoint(url).unwrap()).await.map_err(|error| chain(&error))?;
    call(&channel).await
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// What was logged on this thread since, as text.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Everything that this thread logs goes here while the guard lives.
    pub(crate) fn capture() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// A certificate that our authority would never sign, signed with its key all the same.
pub(crate) fn forged(cluster: &Cluster, dir: &Path, uris: &[&str]) {
    let read = |file: &str| std::fs::read_to_string(cluster.ca_dir().join(file)).unwrap();
    let ca_key = rcgen::KeyPair::from_pem(&read("ca-key.pem")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("ca.pem"), ca_key).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names =
        uris.iter().map(|uri| rcgen::SanType::URI((*uri).try_into().unwrap())).collect();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(dir.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
}
