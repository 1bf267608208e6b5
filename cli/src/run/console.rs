//! The guest's standard streams are ours, byte for byte.
//!
//! - *Output* waits until the operating system has taken it, so a slow reader holds the guest back. When the reader
//!   is gone, the guest's stream is closed, and it may end in its own way.
//! - *Input* is read only when the guest asks, by a thread of its own, so that a guest that does not read leaves all
//!   of it to the next program in a script. A chunk that was read and not yet taken waits for the next read.
//! - *`wasi:logging`* goes to standard error through a bounded queue, because a guest never waits for it.

use std::{
    io::{IsTerminal as _, Read as _},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _, Stderr, Stdout},
    sync::{Mutex, mpsc as queue, oneshot},
};
use wasmatrix_executor_api::{Closed, Console, Output};
use wasmatrix_model::LogLevel;

use crate::output::human::harmless;

/// Most bytes of input that are read at one time.
const INPUT_BYTES_MAX: usize = 64 << 10;
/// Most lines of `wasi:logging` that wait for standard error; later ones are dropped and counted.
const LOG_LINES_MAX: usize = 1024;
/// Longest message of `wasi:logging`, in bytes; a longer one is cut and marked. A guest may send megabytes, and as many
/// lines may wait as [`LOG_LINES_MAX`] says.
const LOG_MESSAGE_BYTES_MAX: usize = 8 << 10;
/// Longest context of one, in bytes.
const LOG_CONTEXT_BYTES_MAX: usize = 256;
/// Longest wait for those lines when the guest has ended.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Our standard streams.
pub(crate) struct Stdio {
    input: Mutex<Input>,
    stdout: Mutex<Stdout>,
    stderr: Mutex<Stderr>,
    lines: queue::Sender<Said>,
    lines_dropped: AtomicU64,
}

/// What goes through the queue to standard error.
enum Said {
    Line(String),
    /// All before it has been written, once this is dropped.
    Flush(oneshot::Sender<()>),
}

/// The way to wait for the lines of `wasi:logging`.
pub(crate) struct Flush(queue::Sender<Said>);

impl Flush {
    /// Waits until what the guest has said so far has been written, but not for a reader that stalls.
    pub(crate) async fn wait(self) {
        let flushed = async {
            let (flush, done) = oneshot::channel();
            if self.0.send(Said::Flush(flush)).await.is_ok() {
                let _ = done.await; // an error is the other end being dropped, which is what it is told by
            }
        };
        let _ = tokio::time::timeout(FLUSH_MAX, flushed).await;
    }
}

/// Our standard streams as a console.
pub(crate) fn stdio() -> (Stdio, Flush) {
    let (lines, mut queued) = queue::channel(LOG_LINES_MAX);
    tokio::spawn(async move {
        let mut stderr = tokio::io::stderr();
        while let Some(said) = queued.recv().await {
            match said {
                // A reader that is gone hears nothing more; that is no reason to end the guest.
                Said::Line(line) => drop(pass(&mut stderr, line.as_bytes()).await),
                Said::Flush(done) => drop(done),
            }
        }
    });
    let flush = Flush(lines.clone());
    let console = Stdio {
        input: Mutex::new(Input::default()),
        stdout: Mutex::new(tokio::io::stdout()),
        stderr: Mutex::new(tokio::io::stderr()),
        lines,
        lines_dropped: AtomicU64::new(0),
    };
    (console, flush)
}

#[async_trait]
impl Console for Stdio {
    async fn write(&self, output: Output, bytes: Bytes) -> Result<(), Closed> {
        match output {
            Output::Stdout => pass(&mut *self.stdout.lock().await, &bytes).await,
            Output::Stderr => pass(&mut *self.stderr.lock().await, &bytes).await,
        }
    }

    async fn read(&self, bytes_max: usize) -> Bytes {
        self.input.lock().await.next(bytes_max).await
    }

    fn log(&self, level: LogLevel, context: &str, message: &str) {
        let dropped = self.lines_dropped.swap(0, Ordering::Relaxed);
        if self.lines.try_send(Said::Line(line(dropped, level, context, message))).is_err() {
            self.lines_dropped.fetch_add(dropped + 1, Ordering::Relaxed);
        }
    }

    fn terminals(&self) -> (bool, bool, bool) {
        (std::io::stdin().is_terminal(), std::io::stdout().is_terminal(), std::io::stderr().is_terminal())
    }
}

/// A call of `wasi:logging` as it stands on standard error, after word of those that were dropped before it.
fn line(dropped: u64, level: LogLevel, context: &str, message: &str) -> String {
    let loss = if dropped > 0 { format!("[{dropped} log lines were dropped]\n") } else { String::new() };
    let context = &context[..context.floor_char_boundary(LOG_CONTEXT_BYTES_MAX)];
    let separator = if context.is_empty() { "" } else { ": " };
    let shown = &message[..message.floor_char_boundary(LOG_MESSAGE_BYTES_MAX)];
    let mark = if shown.len() < message.len() { " …[cut]" } else { "" };
    format!("{loss}[{level}] {}{mark}\n", harmless(&format!("{context}{separator}{shown}")))
}

async fn pass(output: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), Closed> {
    output.write_all(bytes).await.map_err(|_| Closed)?;
    output.flush().await.map_err(|_| Closed)
}

/// Standard input: a thread reads one chunk for each that is asked for.
#[derive(Default)]
struct Input {
    /// Read and not yet taken.
    pending: Bytes,
    thread: Option<Reader>,
    ended: bool,
}

struct Reader {
    demands: mpsc::SyncSender<()>,
    chunks: queue::Receiver<Bytes>,
    /// A chunk was asked for and has not come yet.
    asked: bool,
}

impl Input {
    async fn next(&mut self, bytes_max: usize) -> Bytes {
        if self.pending.is_empty() && !self.ended {
            // Only this await can be cancelled, and what it waits for stays in the queue.
            self.pending = self.chunk().await.unwrap_or_default();
            self.ended = self.pending.is_empty();
        }
        self.pending.split_to(bytes_max.min(self.pending.len()))
    }

    /// The next chunk; `None` or empty at the end.
    async fn chunk(&mut self) -> Option<Bytes> {
        let reader = match &mut self.thread {
            Some(reader) => reader,
            none => none.insert(Reader::start()?),
        };
        if !reader.asked {
            reader.demands.try_send(()).ok()?;
            reader.asked = true;
        }
        let chunk = reader.chunks.recv().await;
        reader.asked = false;
        chunk
    }
}

impl Reader {
    fn start() -> Option<Self> {
        let (demands, demanded) = mpsc::sync_channel(1);
        let (read, chunks) = queue::channel(1);
        let work = move || {
            let mut buffer = vec![0; INPUT_BYTES_MAX];
            while demanded.recv().is_ok() {
                // An input that can't be read has ended, as far as the guest can tell.
                let count = std::io::stdin().read(&mut buffer).unwrap_or(0);
                let chunk = buffer.get(..count).map(Bytes::copy_from_slice).unwrap_or_default();
                if read.blocking_send(chunk).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("stdin".to_owned()).spawn(work).ok()?;
        Some(Self { demands, chunks, asked: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_is_short_whatever_the_guest_sends() {
        assert_eq!(line(0, LogLevel::Info, "", "hello"), "[info] hello\n");
        assert_eq!(line(3, LogLevel::Warn, "db", "slow"), "[3 log lines were dropped]\n[warn] db: slow\n");
        let long = line(0, LogLevel::Error, &"\u{e4}".repeat(1 << 20), &"x".repeat(16 << 20));
        assert!(long.ends_with("xx …[cut]\n"), "the cut shows");
        assert!(long.len() < LOG_MESSAGE_BYTES_MAX + LOG_CONTEXT_BYTES_MAX + 64, "{}", long.len());
    }
}
