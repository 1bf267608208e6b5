//! The client's end: channels to a control plane or a node that has proven to be the one that was meant.
//!
//! Each connection takes the credentials as they are then, so a channel that lives for months reconnects with renewed
//! ones; a connection that is not to outlive its certificate can be made to end when that is replaced. What goes wrong is said in words: where, and what the other end shows or refuses.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};
use wasmatrix_model::{Clock, Timestamp};

use crate::{
    certificate::Fingerprint,
    credentials::Revoked,
    explain::{explain, explain_io},
    live::LiveCredentials,
    tls,
    verify::{Anchor, Expected, ServerVerifier},
};

/// How long resolving, connecting, the handshake and the server's first word may take together.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// As much as is read of the first word by itself.
const FIRST_BYTES_MAX: usize = 256;

/// Makes connections to one kind of server. It is also a tonic connector (`Service<Uri>`), for who needs that.
#[derive(Clone, Debug)]
pub struct Dialer {
    how: How,
    /// Whether its connections end when the credentials are replaced.
    follows: bool,
}

#[derive(Clone, Debug)]
enum How {
    Member { credentials: LiveCredentials, expected: Expected },
    Joiner { authority: Fingerprint, clock: Arc<dyn Clock> },
}

impl LiveCredentials {
    /// Dials whoever proves to be the expected one, and shows our certificate.
    pub fn dialer(&self, expected: Expected) -> Dialer {
        Dialer { how: How::Member { credentials: self.clone(), expected }, follows: false }
    }
}

impl Dialer {
    /// Dials a control plane of which nothing is known but its authority's fingerprint, and shows no certificate: for
    /// joining with a token, which carries the fingerprint.
    pub fn pinned(authority: Fingerprint, clock: Arc<dyn Clock>) -> Self {
        Self { how: How::Joiner { authority, clock }, follows: false }
    }

    /// The same, but each of its connections ends, whatever is in flight on it, when other credentials take the place of
    /// those that it was made with: for a stream that goes on for months and is taken up again wherever it broke.
    #[must_use]
    pub fn following(self) -> Self {
        Self { follows: true, ..self }
    }

    /// Connects now. `endpoint` is from [`endpoint`], with whatever timeouts and keep-alives the caller adds.
    ///
    /// # Errors
    /// It can't be reached or does not prove to be the expected one: a [`DialError`] is among the error's sources.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
        endpoint.connect_with_connector(self.clone()).await
    }

    /// A channel that connects at its first call, and again whenever its connection is gone.
    pub fn channel(&self, endpoint: &Endpoint) -> Channel {
        endpoint.connect_with_connector_lazy(self.clone())
    }

    async fn dial(self, uri: Uri) -> Result<TokioIo<Dialled>, DialError> {
        let (host, port) = host_and_port(&uri).ok_or_else(|| DialError::NoAddress(uri.to_string()))?;
        let address = uri.authority().map_or_else(String::new, ToString::to_string);
        let dialled = tokio::time::timeout(CONNECT_MAX, self.shake_hands(&host, port, &address)).await;
        dialled.map_err(|_| DialError::TimedOut { address })?.map(TokioIo::new)
    }

    async fn shake_hands(&self, host: &str, port: u16, address: &str) -> Result<Dialled, DialError> {
        let replaced = self.replaced();
        let config = self.config()?;
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| DialError::NoAddress(host.to_owned()))?;
        let unreachable = |source| DialError::Unreachable { address: address.to_owned(), source };
        let stream = TcpStream::connect((host, port)).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        // A connection that broke proves nothing of who was at its other end: that end may just have died.
        let broken = |error: &io::Error| unreachable(io::Error::new(error.kind(), explain_io(error)));
        let unproven = |error| match is_of_tls(&error) {
            true => DialError::Unproven { address: address.to_owned(), reason: explain_io(&error) },
            false => broken(&error),
        };
        let mut stream = TlsConnector::from(config).connect(name, stream).await.map_err(unproven)?;
        // A server looks at our certificate when our part of the handshake is over. It speaks first, so what comes now is
        // its first word, or its refusal.
        let mut first = vec![0; FIRST_BYTES_MAX];
        let refused =
            |error: io::Error| DialError::Refused { address: address.to_owned(), reason: explain_io(&error) };
        let read = match stream.read(&mut first).await {
            Ok(0) => return Err(refused(io::ErrorKind::UnexpectedEof.into())),
            Err(error) if !is_of_tls(&error) => return Err(broken(&error)),
            read => read.map_err(refused)?,
        };
        first.truncate(read);
        Ok(Dialled { stream, first: first.into(), replaced })
    }

    /// When the credentials of a connection that is made now are replaced, if that is to end it.
    fn replaced(&self) -> Option<Replaced> {
        let How::Member { credentials, .. } = &self.how else { return None };
        let mut changes = self.follows.then(|| credentials.changes())?;
        let made_with = changes.borrow_and_update().identity().fingerprint;
        Some(Box::pin(async move {
            // Other authorities or other revocations are no reason.
            let _ = changes.wait_for(|now| now.identity().fingerprint != made_with).await;
        }))
    }

    fn config(&self) -> Result<Arc<rustls::ClientConfig>, DialError> {
        let made = match &self.how {
            How::Member { credentials, expected } => {
                let current = credentials.current();
                if current.identity().expired(credentials.clock().now()) {
                    return Err(DialError::Expired { since: current.identity().not_after });
                }
                let anchor = Anchor::Roots(current.roots().clone());
                let verifier = ServerVerifier::new(anchor, current.revocations().clone(), expected.clone());
                tls::client_config(Some(current.key()), verifier, credentials.clock())
            }
            How::Joiner { authority, clock } => {
                let verifier = ServerVerifier::new(
                    Anchor::Pinned(*authority),
                    Revoked::default(),
                    Expected::ControlPlane,
                );
                tls::client_config(None, verifier, clock)
            }
        };
        made.map_err(|error| DialError::Setup(explain(&error)))
    }
}

impl tower::Service<Uri> for Dialer {
    type Response = TokioIo<Dialled>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().dial(uri))
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The address is none.
    #[error("`{0}` is no address to dial: use https://HOST:PORT")]
    NoAddress(String),
    /// Our own certificate is over.
    #[error("our own certificate expired at {since}: renew it before connecting")]
    Expired {
        /// Its last valid second.
        since: Timestamp,
    },
    /// Nobody answers there, or the connection broke before it was known who does.
    #[error("{address} can't be reached: {source}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Somebody answers who is not the expected one, or who refuses us.
    #[error("{address} did not prove to be the one that was meant: {reason}")]
    Unproven {
        /// Where.
        address: String,
        /// Why, in words.
        reason: String,
    },
    /// The one that was meant answers, and does not want us.
    #[error("{address} was reached, and {reason}")]
    Refused {
        /// Where.
        address: String,
        /// Why, in words.
        reason: String,
    },
    /// Somebody answers, too slowly.
    #[error("{address} did not finish a TLS handshake within {} seconds", CONNECT_MAX.as_secs())]
    TimedOut {
        /// Where.
        address: String,
    },
    /// TLS can't be set up with our credentials.
    #[error("TLS could not be set up: {0}")]
    Setup(String),
}

/// A tonic endpoint for `https://HOST:PORT` or `HOST:PORT`, to be given to a [`Dialer`].
///
/// # Errors
/// The text is no such address; in particular `http://`, which would be plain text.
pub fn endpoint(address: &str) -> Result<Endpoint, DialError> {
    let bad = || DialError::NoAddress(address.chars().take(200).collect());
    let authority = match address.split_once("://") {
        None => address,
        Some(("https", rest)) => rest.trim_end_matches('/'),
        Some(_) => return Err(bad()),
    };
    let uri: Uri = format!("https://{authority}").parse().map_err(|_| bad())?;
    if uri.path() != "/" || host_and_port(&uri).is_none() {
        return Err(bad());
    }
    // tonic does TLS itself, or fails, if it is told of https where some other crate switched its TLS on. To it this
    // is a connection in plain text, and only requests say what it really is.
    let plain = Endpoint::from_shared(format!("http://{authority}")).map_err(|_| bad())?;
    Ok(plain.origin(uri))
}

fn host_and_port(uri: &Uri) -> Option<(String, u16)> {
    let authority = uri.authority()?;
    // Nobody means to show a password here.
    if authority.as_str().contains('@') {
        return None;
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), authority.port_u16()?)).filter(|(host, _)| !host.is_empty())
}

/// A connection that was made, and over which the server has begun to speak.
pub struct Dialled {
    stream: TlsStream<TcpStream>,
    /// What it said so far and nobody has read.
    first: VecDeque<u8>,
    replaced: Option<Replaced>,
}

type Replaced = Pin<Box<dyn Future<Output = ()> + Send>>;

impl std::fmt::Debug for Dialled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialled").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// What ends a connection whose credentials were replaced.
const REPLACED: &str = "our certificate was renewed, and the connection is made anew with it";

/// Whether TLS objects to something, and not the network.
fn is_of_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

fn in_words(error: io::Error) -> io::Error {
    match is_of_tls(&error) {
        true => io::Error::new(error.kind(), explain_io(&error)),
        false => error,
    }
}

impl AsyncRead for Dialled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(replaced) = &mut self.replaced
            && replaced.as_mut().poll(cx).is_ready()
        {
            self.replaced = None;
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, REPLACED)));
        }
        if !self.first.is_empty() {
            let fits = self.first.len().min(buf.remaining());
            self.first.drain(..fits).for_each(|byte| buf.put_slice(&[byte]));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf).map_err(in_words)
    }
}

impl AsyncWrite for Dialled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf).map_err(in_words)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs).map_err(in_words)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx).map_err(in_words)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_host_and_a_port_and_never_plain_text() {
        for good in ["https://a.example:1", "a:1", "https://10.0.0.1:7443/", "[::1]:2"] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in [
            "http://a:1",
            "a",
            "https://a",
            "a:1/x",
            "https://u@a:1",
            "",
            ":1",
            "a:99999",
            "a b:1",
            "unix:/x",
        ] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }
}
