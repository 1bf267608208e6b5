//! The line between a node and everybody else, and what can befall it: delay, slowness, silence, and being cut.
//!
//! ```text
//! peer ◄──► relay ◄──► node      toward the node and away from it, each with a weather of its own
//! ```
//!
//! A byte stream loses no bytes, so a message is lost as on a real network: the connection ends in the middle of it.
//! The same relay stands before real processes, see [`relay_port`].

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Bytes on their way in one direction of a connection. A sender that has more waits, as behind a full window.
const IN_FLIGHT_BYTES_MAX: usize = 256 << 10;
/// Most bytes that travel as one piece: small, so that slowness is smooth.
const PIECE_BYTES_MAX: usize = 16 << 10;
/// Never, as a number of bytes until a cut.
const NEVER: u64 = u64::MAX;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the node.
    Toward,
    /// From the node.
    Away,
}

/// How it is to travel in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// How long each byte takes.
    pub delay: Duration,
    /// How many bytes arrive in a second; `None`: all.
    pub bytes_per_second: Option<u32>,
    /// Nothing arrives until this ends. A partition: neither side is told.
    pub held: bool,
}

/// The line of one node: all its connections, those to come too. Cheap to clone; clones are the same line.
#[derive(Clone, Debug)]
pub struct Link(Arc<Line>);

#[derive(Debug)]
struct Line {
    toward: Way,
    away: Way,
    /// How often all connections were cut.
    cuts: watch::Sender<u64>,
}

#[derive(Debug)]
struct Way {
    weather: watch::Sender<Weather>,
    /// Bytes until the connection that carries the last of them is cut.
    left: AtomicU64,
}

impl Way {
    fn new() -> Self {
        Self { weather: watch::Sender::default(), left: AtomicU64::new(NEVER) }
    }

    /// How many of `count` bytes may pass before the cut. `true`: and then it is cut.
    fn pass(&self, count: usize) -> (usize, bool) {
        let left = self.left.load(Relaxed);
        let count = count as u64;
        if left == NEVER {
            return (usize::try_from(count).unwrap_or(usize::MAX), false);
        }
        let cut = left <= count;
        self.left.store(if cut { NEVER } else { left - count }, Relaxed);
        (usize::try_from(left.min(count)).unwrap_or(usize::MAX), cut)
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}

impl Link {
    /// A line in fine weather.
    pub fn new() -> Self {
        Self(Arc::new(Line { toward: Way::new(), away: Way::new(), cuts: watch::Sender::default() }))
    }

    fn way(&self, direction: Direction) -> &Way {
        match direction {
            Direction::Toward => &self.0.toward,
            Direction::Away => &self.0.away,
        }
    }

    /// Changes the weather in one direction.
    pub fn change(&self, direction: Direction, change: impl FnOnce(&mut Weather)) {
        self.way(direction).weather.send_modify(change);
    }

    /// Silence in that direction, until [`Link::heal`].
    pub fn hold(&self, direction: Direction) {
        self.change(direction, |weather| weather.held = true);
    }

    /// Fine weather both ways.
    pub fn heal(&self) {
        for direction in [Direction::Toward, Direction::Away] {
            self.change(direction, |weather| *weather = Weather::default());
            self.way(direction).left.store(NEVER, Relaxed);
        }
    }

    /// Cuts every connection there is, now.
    pub fn cut(&self) {
        self.0.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts the connection that carries the last of the next so many bytes, right behind that byte: most likely in the
    /// middle of a message.
    pub fn cut_after(&self, direction: Direction, bytes: u32) {
        self.way(direction).left.store(u64::from(bytes).max(1), Relaxed);
    }

    /// Carries bytes between the two until one of them ends or the line is cut.
    ///
    /// # Errors
    /// A stream failed, or the line was cut.
    pub async fn relay<P, N>(&self, peer: P, node: N) -> io::Result<()>
    where
        P: AsyncRead + AsyncWrite,
        N: AsyncRead + AsyncWrite,
    {
        let mut cuts = self.0.cuts.subscribe();
        let (peer_reads, peer_writes) = tokio::io::split(peer);
        let (node_reads, node_writes) = tokio::io::split(node);
        let toward = carry(peer_reads, node_writes, &self.0.toward);
        let away = carry(node_reads, peer_writes, &self.0.away);
        tokio::select! {
            both = async { tokio::try_join!(toward, away) } => both.map(drop),
            _ = cuts.changed() => Err(cut()),
        }
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the simulated line was cut")
}

/// What is on its way.
#[derive(Debug)]
struct Piece {
    due: Instant,
    bytes: Bytes,
}

/// Carries bytes one way until they end.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: &Way,
) -> io::Result<()> {
    let mut weather = way.weather.subscribe();
    let mut queue: VecDeque<Piece> = VecDeque::new();
    let (mut queued, mut ended, mut free_at) = (0_usize, false, Instant::now());
    let mut buffer = BytesMut::new();
    loop {
        let now = *weather.borrow_and_update();
        if ended && queue.is_empty() {
            return to.shutdown().await;
        }
        let due = queue.front().map(|piece| piece.due);
        buffer.reserve(PIECE_BYTES_MAX);
        let mut room = (&mut buffer).limit(PIECE_BYTES_MAX);
        tokio::select! {
            // The sender lives in the line, which whoever relays holds.
            _ = weather.changed() => {}
            () = sleep_until(due.unwrap_or(free_at)), if due.is_some() && !now.held => {
                if let Some(piece) = queue.pop_front() {
                    queued -= piece.bytes.len();
                    deliver(&mut to, piece.bytes, way).await?;
                }
            }
            read = from.read_buf(&mut room), if !ended && queued < IN_FLIGHT_BYTES_MAX => {
                let count = read?;
                ended = count == 0;
                queued += count;
                let arrived = Instant::now();
                free_at = free_at.max(arrived) + lasts(count, now.bytes_per_second);
                if count > 0 {
                    queue.push_back(Piece { due: free_at + now.delay, bytes: buffer.split().freeze() });
                }
            }
        }
    }
}

async fn deliver(to: &mut (impl AsyncWrite + Unpin), mut bytes: Bytes, way: &Way) -> io::Result<()> {
    let (passing, is_cut) = way.pass(bytes.len());
    bytes.truncate(passing);
    while bytes.has_remaining() {
        to.write_buf(&mut bytes).await?;
    }
    to.flush().await?;
    if is_cut { Err(cut()) } else { Ok(()) }
}

fn lasts(count: usize, bytes_per_second: Option<u32>) -> Duration {
    let Some(rate) = bytes_per_second else { return Duration::ZERO };
    Duration::from_secs(1).mul_f64(count as f64 / f64::from(rate.max(1)))
}

/// Who listens behind a port of [`relay_port`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// The node: whoever connects is a peer of it.
    Node,
    /// A peer: it is the node that connects.
    Peer,
}

/// Listens on a port of the loopback, and carries each connection to `to` over `link`, for as long as the future lives:
/// before a real agent, or before its control plane, so that its line can be cut. Gives the address to connect to, and
/// the future.
///
/// # Errors
/// No port could be had.
pub async fn relay_port(
    to: SocketAddr,
    behind: Behind,
    link: Link,
) -> io::Result<(SocketAddr, impl Future<Output = io::Error> + Send)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let relaying = async move {
        let mut connections = JoinSet::new();
        loop {
            match listener.accept().await {
                Ok((came, _)) => {
                    let link = link.clone();
                    connections.spawn(async move {
                        let there = TcpStream::connect(to).await?;
                        came.set_nodelay(true)?;
                        there.set_nodelay(true)?;
                        match behind {
                            Behind::Node => link.relay(came, there).await,
                            Behind::Peer => link.relay(there, came).await,
                        }
                    });
                }
                Err(error) => return error,
            }
            while connections.try_join_next().is_some() {}
        }
    };
    Ok((address, relaying))
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    /// A line with a stream at each end, and the task between.
    fn line() -> (Link, DuplexStream, DuplexStream, tokio::task::JoinHandle<io::Result<()>>) {
        let link = Link::new();
        let (peer, theirs) = duplex(1 << 16);
        let (ours, node) = duplex(1 << 16);
        let carried = link.clone();
        let task = tokio::spawn(async move { carried.relay(theirs, ours).await });
        (link, peer, node, task)
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_is_that_long_and_order_is_kept() {
        let (link, mut peer, mut node, _task) = line();
        link.change(Direction::Toward, |weather| weather.delay = Duration::from_secs(3));
        tokio::task::yield_now().await;
        let began = Instant::now();
        peer.write_all(b"abc").await.unwrap();
        peer.write_all(b"def").await.unwrap();
        let mut heard = [0; 6];
        node.read_exact(&mut heard).await.unwrap();
        assert_eq!((&heard, began.elapsed().as_secs()), (b"abcdef", 3));
        node.write_all(b"x").await.unwrap();
        peer.read_exact(&mut heard[..1]).await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 3, "the other way is in fine weather");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_keeps_what_was_said_until_it_ends() {
        let (link, mut peer, mut node, _task) = line();
        link.hold(Direction::Toward);
        tokio::task::yield_now().await;
        peer.write_all(b"a").await.unwrap();
        let mut heard = [0; 1];
        let nothing = tokio::time::timeout(Duration::from_secs(3600), node.read_exact(&mut heard)).await;
        assert!(nothing.is_err(), "heard {heard:?}");
        link.heal();
        node.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"a");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_falls_right_behind_its_byte() {
        let (link, mut peer, mut node, task) = line();
        link.cut_after(Direction::Toward, 4);
        peer.write_all(b"abcdef").await.unwrap();
        let mut heard = Vec::new();
        node.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"abcd");
        assert_eq!(task.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_way_takes_its_time_for_every_byte() {
        let (link, mut peer, mut node, _task) = line();
        link.change(Direction::Toward, |weather| weather.bytes_per_second = Some(1000));
        tokio::task::yield_now().await;
        let began = Instant::now();
        let mut heard = vec![0; 20_000];
        let said = tokio::spawn(async move { peer.write_all(&[7; 20_000]).await });
        node.read_exact(&mut heard).await.unwrap();
        said.await.unwrap().unwrap();
        assert_eq!(began.elapsed().as_secs(), 20);
    }
}
