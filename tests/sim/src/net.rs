//! How the processes of a simulation reach each other: by pipes in memory, or by TCP on the loopback.
//!
//! Pipes need no ports, and with tokio's clock paused a whole cluster lives through an hour in no time: when nothing is
//! left to do but wait, time jumps. TCP is for control planes and clients in other processes.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_util::{
    either::Either,
    sync::{CancellationToken, WaitForCancellationFutureOwned},
};
use tonic::transport::{Channel, Endpoint, Uri, server::Connected};

use crate::link::Link;

/// Bytes in flight in one direction of a pipe.
const PIPE_BYTES: usize = 256 << 10;
/// Connections that wait to be accepted.
const BACKLOG: usize = 64;
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(2);

/// A network.
#[derive(Clone, Debug)]
pub enum Net {
    /// Pipes within this process, by name.
    Memory(Memory),
    /// TCP on 127.0.0.1.
    Loopback,
}

/// Who listens in memory: a name, and where its connections go.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<HashMap<String, mpsc::Sender<DuplexStream>>>>);

/// One end of a connection.
pub type Stream = Either<DuplexStream, TcpStream>;

impl Net {
    /// A network of pipes of its own.
    pub fn memory() -> Self {
        Self::Memory(Memory::default())
    }

    /// Listens. In memory `name` becomes the address, `http://NAME`; on the loopback it is a port, and `name` a port
    /// to have again or anything else for any.
    ///
    /// # Errors
    /// Somebody listens there already, or no port could be had.
    pub async fn listen(&self, name: &str) -> io::Result<Listener> {
        match self {
            Self::Memory(memory) => {
                let (connections, accepted) = mpsc::channel(BACKLOG);
                let mut listening = memory.0.lock().unwrap_or_else(PoisonError::into_inner);
                if listening.get(name).is_some_and(|before| !before.is_closed()) {
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{name} listens already")));
                }
                listening.insert(name.to_owned(), connections);
                Ok(Listener { address: format!("http://{name}"), accepts: Accepts::Memory(accepted) })
            }
            Self::Loopback => {
                let port: u16 = name.parse().unwrap_or(0);
                let listener = TcpListener::bind(("127.0.0.1", port)).await?;
                Ok(Listener {
                    address: format!("http://{}", listener.local_addr()?),
                    accepts: Accepts::Tcp(listener),
                })
            }
        }
    }

    /// Connects to an address that a listener gave, or to any TCP address on the loopback network.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(&self, address: &str) -> io::Result<Stream> {
        let authority = address.split_once("://").map_or(address, |(_, rest)| rest).trim_end_matches('/');
        match self {
            Self::Memory(memory) => {
                let refused =
                    || io::Error::new(io::ErrorKind::ConnectionRefused, format!("{authority} refuses"));
                let listening =
                    memory.0.lock().unwrap_or_else(PoisonError::into_inner).get(authority).cloned();
                let (ours, theirs) = duplex(PIPE_BYTES);
                listening.ok_or_else(refused)?.send(theirs).await.map_err(|_| refused())?;
                Ok(Either::Left(ours))
            }
            Self::Loopback => {
                let stream = TcpStream::connect(authority).await?;
                stream.set_nodelay(true)?;
                Ok(Either::Right(stream))
            }
        }
    }

    /// A channel to an address, which connects when it is first used and again whenever the connection broke. With a
    /// link, every connection goes over it, away from its node.
    pub fn channel(&self, address: &str, link: Option<&Link>) -> Channel {
        // The address is for the connector alone; what stands in the requests is this one.
        let endpoint = Endpoint::from_static("http://simulated.invalid").connect_timeout(CONNECT);
        self.channel_with(endpoint, address, link)
    }

    /// As [`Net::channel`], with settings of one's own.
    pub fn channel_with(&self, endpoint: Endpoint, address: &str, link: Option<&Link>) -> Channel {
        let (net, link, address) = (self.clone(), link.cloned(), address.to_owned());
        endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let (net, link, address) = (net.clone(), link.clone(), address.clone());
            async move {
                let stream = net.connect(&address).await?;
                Ok::<_, io::Error>(TokioIo::new(match link {
                    Some(link) => Either::Left(from_node(stream, link)),
                    None => Either::Right(stream),
                }))
            }
        }))
    }
}

/// The node's end of a connection that it made, with the link between it and `peer`.
fn from_node(peer: Stream, link: Link) -> DuplexStream {
    let (node, middle) = duplex(PIPE_BYTES);
    // Ends with either end.
    tokio::spawn(async move { link.relay(peer, middle).await });
    node
}

/// Where connections come in.
#[derive(Debug)]
pub struct Listener {
    address: String,
    accepts: Accepts,
}

#[derive(Debug)]
enum Accepts {
    Memory(mpsc::Receiver<DuplexStream>),
    Tcp(TcpListener),
}

impl Listener {
    /// What to connect to, e.g. `http://node-7` or `http://127.0.0.1:40007`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The port, if it has one.
    pub fn port(&self) -> Option<u16> {
        self.address.rsplit_once(':')?.1.parse().ok()
    }

    /// The next connection.
    ///
    /// # Errors
    /// There will be none any more.
    pub async fn accept(&mut self) -> io::Result<Stream> {
        match &mut self.accepts {
            Accepts::Memory(accepted) => {
                accepted.recv().await.map(Either::Left).ok_or_else(|| io::ErrorKind::NotConnected.into())
            }
            Accepts::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Either::Right(stream))
            }
        }
    }

    /// The connections as tonic takes them, over `link` if there is one. Each ends at the latest with `life`.
    pub fn incoming(
        self,
        link: Option<Link>,
        life: CancellationToken,
    ) -> impl futures::Stream<Item = io::Result<Served>> + Send {
        futures::stream::unfold(self, move |mut listener| {
            let (link, life) = (link.clone(), life.clone());
            async move {
                let stream = match (listener.accept().await, link) {
                    (Ok(peer), Some(link)) => Ok(Served::new(Either::Left(from_node(peer, link)), life)),
                    (Ok(peer), None) => Ok(Served::new(peer, life)),
                    // There is no network any more.
                    (Err(error), _) if error.kind() == io::ErrorKind::NotConnected => return None,
                    (Err(error), _) => Err(error),
                };
                Some((stream, listener))
            }
        })
    }
}

/// A connection that a server accepted, and that ends when the server's life does.
#[derive(Debug)]
pub struct Served {
    stream: Stream,
    dead: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Served {
    fn new(stream: Stream, life: CancellationToken) -> Self {
        Self { stream, dead: Box::pin(life.cancelled_owned()) }
    }

    fn alive(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.dead.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionReset, "the server died")),
            Poll::Pending => Ok(()),
        }
    }
}

impl Connected for Served {
    type ConnectInfo = ();

    /// Nothing: the pipe is within this process.
    fn connect_info(&self) {}
}

impl AsyncRead for Served {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.alive(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Served {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.alive(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
