//! A connection that was accepted, and what is known of its other end.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::guests::Guest;
use crate::{
    access::{Access, Denied},
    certificate::Identity,
    credentials::Revoked,
    live::LiveCredentials,
};
use wasmatrix_model::Timestamp;

/// Who is at the other end of a request's connection: an extension of each request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// From where it connected.
    pub address: SocketAddr,
    /// Who it proved to be in the handshake; `None` without a certificate, or in plain text.
    pub identity: Option<Arc<Identity>>,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    /// Those by which the handshake was judged, for what they say by now.
    pub(super) credentials: Option<LiveCredentials>,
}

impl Peer {
    /// The peer of a request that came in through an [`crate::Incoming`]; `None` for any other.
    pub fn of<T>(request: &tonic::Request<T>) -> Option<&Self> {
        request.extensions().get()
    }

    /// Whether its certificate is on the list of those that are refused, as that lies on the disk now: what was taken back a
    /// moment ago is found here before it is taken up everywhere. Blocks for a file read.
    pub fn revoked_on_disk(&self) -> bool {
        let (Some(identity), Some(credentials)) = (&self.identity, &self.credentials) else { return false };
        match Revoked::in_dir(credentials.dir()) {
            Ok(revoked) => revoked.contains(identity.fingerprint),
            // A list that can't be read is not used, and the one before stays.
            Err(_) => credentials.current().revoked(identity.fingerprint),
        }
    }

    /// Whether its request may pass: its role is asked for, and its certificate has neither expired nor been revoked
    /// since the handshake.
    ///
    /// # Errors
    /// It may not; see [`Denied`].
    pub fn check(&self, access: Access, now: Timestamp) -> Result<(), Denied> {
        if let (Some(identity), Some(credentials)) = (&self.identity, &self.credentials)
            && credentials.current().revoked(identity.fingerprint)
        {
            return Err(Denied::Revoked);
        }
        access.check(self.identity.as_deref(), now)
    }
}

impl std::fmt::Display for Peer {
    /// As in a log line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.identity {
            Some(identity) => write!(f, "{identity} at {}", self.address),
            None => write!(f, "a stranger at {}", self.address),
        }
    }
}

/// A connection, proven or in plain text.
#[derive(Debug)]
pub struct Connection {
    stream: Transport,
    peer: Peer,
    /// Its place among those that are served. `None`: nobody counts.
    guest: Option<Guest>,
}

/// What ends a connection without a certificate.
const SENT_AWAY: &str = "a connection without a certificate is not kept for long";

#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    pub(super) fn plain(stream: TcpStream, address: SocketAddr) -> Self {
        let peer = Peer { address, identity: None, encrypted: false, credentials: None };
        Self { stream: Transport::Plain(stream), peer, guest: None }
    }

    pub(super) fn tls(
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        identity: Option<Arc<Identity>>,
        credentials: LiveCredentials,
    ) -> Self {
        let peer = Peer { address, identity, encrypted: true, credentials: Some(credentials) };
        Self { stream: Transport::Tls(Box::new(stream)), peer, guest: None }
    }

    /// The same, in its place.
    pub(super) fn of(self, guest: Guest) -> Self {
        Self { guest: Some(guest), ..self }
    }

    /// Who is at its other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.guest.as_mut().is_some_and(|guest| guest.has_to_go(cx)) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, SENT_AWAY)));
        }
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
