//! The server's end: from a listening socket to connections whose other end is proven.
//!
//! ```text
//! listener ──accept──► crowd ──handshake, at most 10 s──► Connection ──► tonic
//!                        │                                   └─ Peer, in each request's extensions
//!                        └─ at most 512 without a proof; one source can't keep the others out
//! ```
//!
//! After that, those without a certificate are few and do not stay, and one certificate has so many connections.
//!
//! Handshakes run beside each other and beside the accepting, so a slow client delays nobody. Each one that is refused
//! is counted, and logged with the peer's address and the reason, at a bounded rate.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream::BoxStream};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{broadcast, watch},
    task::{AbortHandle, JoinSet},
    time::Instant,
};
use tokio_rustls::TlsAcceptor;

mod connection;
mod crowd;
mod guests;
mod lasting;

pub use connection::{Connection, Peer};
pub use crowd::Source;
pub use lasting::Lasting;

use crate::{bucket::Bucket, certificate::Identity, explain::explain_io, live::LiveCredentials, role::Role};
use crowd::{Admission, Crowd};
use guests::Guests;

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// It must, or the handshake is refused.
    Required,
    /// It may, and one that is shown must be good: for a listener at which nodes join.
    Optional,
}

/// How much of a listener those may take who have proven nothing, and how much each other one.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeLimits {
    /// Connections whose handshake is not finished.
    pub unproven_max: usize,
    /// How long a handshake may last.
    pub handshake: Duration,
    /// Connections after their handshake whose peers showed no certificate, where they need not.
    pub strangers_max: usize,
    /// How long such a connection may last.
    pub strangers_for: Duration,
    /// Connections with one certificate.
    pub per_certificate_max: usize,
}

impl Default for HandshakeLimits {
    /// 512 connections (of a process's usual 1024 file descriptors), 10 seconds; 256 strangers, for a minute; 256
    /// connections with one certificate: a node has one, and a user one for each command that goes on.
    fn default() -> Self {
        Self {
            unproven_max: 512,
            handshake: Duration::from_secs(10),
            strangers_max: 256,
            strangers_for: Duration::from_secs(60),
            per_certificate_max: 256,
        }
    }
}

/// A handshake younger than this is not ended to make room.
const PATIENCE: Duration = Duration::from_secs(1);
/// Pause after a failure to accept, which usually means that file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Refusals that are logged at once, and how many a minute after that.
const LOG_BURST: u32 = 20;
const LOG_PER_MINUTE: u32 = 60;

/// Refusals that wait for whoever wants to be told of them.
const TOLD_MAX: usize = 64;

/// The certificate is not one to answer connections with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a certificate of {0} can't answer connections: use one of role control-plane or node/NODE_ID, from `wasmatrix \
     certs issue` or `wasmatrix join`"
)]
pub struct NotAServer(pub Role);

/// How many handshakes were refused, for whatever reason, and which. Clones count together.
#[derive(Clone, Debug)]
pub struct Refusals {
    count: Arc<watch::Sender<u64>>,
    told: broadcast::Sender<Refused>,
}

/// A handshake that was refused.
#[derive(Clone, Debug)]
pub struct Refused {
    /// From where it came.
    pub peer: SocketAddr,
    /// Why, in words.
    pub reason: String,
    /// Whether it was for the certificate that was shown: an expired one, a revoked one, another cluster's. Who shows
    /// none may have come by mistake.
    pub by_certificate: bool,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { count: Arc::default(), told: broadcast::Sender::new(TOLD_MAX) }
    }
}

impl Refusals {
    /// The count so far.
    pub fn count(&self) -> u64 {
        *self.count.borrow()
    }

    /// Waits until so many have been refused, and logged as far as the rate allows.
    pub async fn reach(&self, count: u64) {
        let _ = self.count.subscribe().wait_for(|refused| *refused >= count).await; // we hold the sender, so it goes on
    }

    /// Those that are refused from now on. Whoever does not keep up misses some.
    pub fn told(&self) -> broadcast::Receiver<Refused> {
        self.told.subscribe()
    }
}

/// Proven connections, for tonic's `serve_with_incoming`. Dropping it closes the listener and ends all handshakes.
pub struct Incoming {
    connections: BoxStream<'static, io::Result<Connection>>,
    refusals: Refusals,
}

impl Incoming {
    /// Connections in plain text, whose peers prove nothing: for loopback.
    pub fn plain(listener: TcpListener) -> Self {
        let accepting = futures::stream::unfold(listener, |listener| async move {
            let (stream, address) = accept(&listener).await;
            Some((Ok(Connection::plain(stream, address)), listener))
        });
        Self { connections: accepting.boxed(), refusals: Refusals::default() }
    }

    /// The count of refused handshakes, for metrics.
    pub fn refusals(&self) -> Refusals {
        self.refusals.clone()
    }
}

impl LiveCredentials {
    /// Connections over TLS 1.3, each with the [`Peer`] in its requests' extensions. Call it within a tokio runtime.
    ///
    /// # Errors
    /// The certificate's role is not one that answers connections.
    pub fn incoming(
        &self,
        listener: TcpListener,
        certificate: ClientCertificate,
        limits: HandshakeLimits,
    ) -> Result<Incoming, NotAServer> {
        let current = self.current();
        if current.server_config(true).is_none() {
            return Err(NotAServer(current.identity().role.clone()));
        }
        let refusals = Refusals::default();
        let door = Door {
            listener,
            credentials: self.clone(),
            certificate,
            limits,
            crowd: Crowd::new(limits.unproven_max),
            guests: Guests::new(limits),
            handshakes: JoinSet::new(),
            log: RefusalLog {
                refusals: refusals.clone(),
                bucket: Bucket::full(LOG_BURST, LOG_PER_MINUTE, self.clock().now()),
                silent: 0,
            },
        };
        let connections = futures::stream::unfold(door, |mut door| async move {
            let connection = door.next().await;
            Some((Ok(connection), door))
        });
        Ok(Incoming { connections: connections.boxed(), refusals })
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections.poll_next_unpin(cx)
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("refusals", &self.refusals).finish_non_exhaustive()
    }
}

/// Where connections come in and wait until they are proven.
struct Door {
    listener: TcpListener,
    credentials: LiveCredentials,
    certificate: ClientCertificate,
    limits: HandshakeLimits,
    crowd: Crowd<AbortHandle>,
    guests: Guests,
    handshakes: JoinSet<Handshake>,
    log: RefusalLog,
}

struct Handshake {
    ticket: u64,
    address: SocketAddr,
    outcome: Result<Connection, io::Error>,
}

impl Door {
    async fn next(&mut self) -> Connection {
        loop {
            tokio::select! {
                (stream, address) = accept(&self.listener) => self.admit(stream, address),
                Some(ended) = self.handshakes.join_next(), if !self.handshakes.is_empty() => {
                    let Ok(Handshake { ticket, address, outcome }) = ended else {
                        // Ended to make room, and then it has left already; or by a defect, and then it leaves now.
                        self.crowd.leave_where(AbortHandle::is_finished);
                        continue;
                    };
                    self.crowd.leave(ticket);
                    match outcome {
                        Ok(connection) => match self.guests.enter(connection.peer(), Instant::now()) {
                            Ok(guest) => return connection.of(guest),
                            Err(reason) => self.refuse(address, &reason, false),
                        },
                        Err(error) => {
                            self.refuse(address, &explain_io(&error), is_for_the_certificate(&error));
                        }
                    }
                }
            }
        }
    }

    fn admit(&mut self, stream: TcpStream, address: SocketAddr) {
        let source = Source::of(address.ip());
        match self.crowd.admit(source, Instant::now(), PATIENCE) {
            Admission::Room => {}
            Admission::InPlaceOf { ticket, handshake, address } => {
                handshake.abort();
                self.crowd.leave(ticket);
                self.refuse(
                    address,
                    "too many connections were in their handshake, and this was the slowest",
                    false,
                );
            }
            Admission::Full => {
                self.refuse(address, "too many connections are in their handshake", false);
                return;
            }
        }
        let ticket = self.crowd.ticket();
        let handshake = self.handshakes.spawn(self.handshake(ticket, stream, address));
        self.crowd.enter(ticket, source, address, Instant::now(), handshake);
    }

    fn handshake(
        &self,
        ticket: u64,
        stream: TcpStream,
        address: SocketAddr,
    ) -> impl Future<Output = Handshake> + Send + use<> {
        let credentials = self.credentials.clone();
        let config = credentials.current();
        let required = self.certificate == ClientCertificate::Required;
        let config = config.server_config(required).cloned();
        let limit = self.limits.handshake;
        async move {
            let Some(config) = config else {
                let outcome = Err(io::Error::other("our own credentials no longer answer connections"));
                return Handshake { ticket, address, outcome };
            };
            let accepted = tokio::time::timeout(limit, TlsAcceptor::from(config).accept(stream)).await;
            let outcome = match accepted {
                Ok(Ok(stream)) => prove(stream, address, credentials),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("the handshake was not finished within {} seconds", limit.as_secs_f32()),
                )),
            };
            Handshake { ticket, address, outcome }
        }
    }

    fn refuse(&mut self, peer: SocketAddr, reason: &str, by_certificate: bool) {
        let refused = Refused { peer, reason: reason.to_owned(), by_certificate };
        self.log.refused(refused, self.credentials.clock().now());
    }
}

/// What the handshake proved.
fn prove(
    stream: tokio_rustls::server::TlsStream<TcpStream>,
    address: SocketAddr,
    credentials: LiveCredentials,
) -> Result<Connection, io::Error> {
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let identity = shown.map(|der| Identity::from_der(der)).transpose().map_err(io::Error::other)?;
    Ok(Connection::tls(stream, address, identity.map(Arc::new), credentials))
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // Calls are small; the failure of this is the connection's, and comes up there.
                let _ = stream.set_nodelay(true);
                return (stream, address);
            }
            Err(error) if is_peers_fault(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection could be accepted; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether a certificate was shown, and that was the reason.
fn is_for_the_certificate(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

/// The peer was gone before it was accepted.
fn is_peers_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Counts what was refused, and says so at a rate that a stranger can't raise.
struct RefusalLog {
    refusals: Refusals,
    bucket: Bucket,
    /// Refusals that were not logged since the last one that was.
    silent: u64,
}

impl RefusalLog {
    fn refused(&mut self, refused: Refused, now: wasmatrix_model::Timestamp) {
        if self.bucket.take(now) {
            let (unlogged, Refused { peer, reason, .. }) = (std::mem::take(&mut self.silent), &refused);
            tracing::warn!(%peer, reason, unlogged, "a TLS handshake was refused");
        } else {
            self.silent += 1;
        }
        let _ = self.refusals.told.send(refused); // perhaps nobody wants to be told
        self.refusals.count.send_modify(|count| *count += 1);
    }
}
