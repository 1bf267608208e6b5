//! What an instance says, line by line: cut, counted, kept in a bounded ring, followed by whoever likes.
//!
//! ```text
//! guest ──bytes──► LogConsole ──► LineSplitter (one per stream) ──► Quota ──► Ring ──► followers
//! ```

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, stream};
use wasmatrix_executor_api::{Closed, Console, Output};
use wasmatrix_facts::Ring;
use wasmatrix_model::{Clock, Limits, LogLevel, LogRecord, LogStream};

/// Bytes of lines kept for one instance, whatever its limits say.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// Most bytes of a `wasi:logging` context.
const CONTEXT_BYTES_MAX: usize = 256;
/// Put at the end of a line that was cut.
const CUT: &str = " …[cut]";
/// Most records read from the ring at a time.
const BATCH: usize = 256;

/// The log of one instance, over all its runs.
#[derive(Debug)]
pub struct Log {
    clock: Arc<dyn Clock>,
    ring: Ring<Arc<LogRecord>>,
    line_bytes_max: usize,
    quota: Mutex<Quota>,
}

impl Log {
    /// An empty log with the instance's limits.
    pub fn new(limits: &Limits, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            ring: Ring::new(limits.log_lines_kept as usize, KEPT_BYTES_MAX),
            line_bytes_max: limits.log_line_bytes_max as usize,
            quota: Mutex::new(Quota::new(limits.log_lines_per_second)),
        }
    }

    /// A console for one run, whose output becomes lines of this log.
    pub fn console(self: &Arc<Self>, restart: u32) -> Arc<LogConsole> {
        Arc::new(LogConsole { log: Arc::clone(self), restart, splitters: Mutex::default() })
    }

    /// Says something about the instance in its log. Not counted against the guest's quota.
    pub fn host(&self, restart: u32, line: String) {
        self.push(LogStream::Host, restart, None, String::new(), line);
    }

    /// The lines after number `after`, of those kept only the last `tail` if given, and with `follow` those to come.
    /// Lines that are gone are skipped; the numbers show it.
    pub fn read(
        self: &Arc<Self>,
        after: u64,
        tail: Option<u32>,
        follow: bool,
    ) -> impl Stream<Item = Arc<LogRecord>> + use<> {
        let newest = self.ring.newest();
        let from_tail = tail.map_or(0, |tail| newest.saturating_sub(tail.into()));
        let after = after.min(newest).max(from_tail).max(self.ring.before_oldest());
        let state = (Arc::clone(self), self.ring.subscribe(), Vec::new().into_iter(), after);
        stream::unfold(state, move |(log, mut newest, mut batch, mut after)| async move {
            loop {
                if let Some(record) = batch.next() {
                    return Some((record, (log, newest, batch, after)));
                }
                newest.borrow_and_update();
                match log.ring.after(after, BATCH) {
                    Ok((found, _)) if found.is_empty() && !follow => return None,
                    Ok((found, _)) if found.is_empty() => newest.changed().await.ok()?,
                    Ok((found, last)) => {
                        batch = found.into_iter();
                        after = last;
                    }
                    Err(oldest) => after = oldest - 1,
                }
            }
        })
    }

    /// Takes a line of the guest's, if its quota has room.
    fn guest(&self, stream: LogStream, restart: u32, level: Option<LogLevel>, context: &str, line: &str) {
        let verdict = self.quota.lock().unwrap_or_else(PoisonError::into_inner).ask(Instant::now());
        match verdict {
            Verdict::Drop => return,
            Verdict::Take { dropped_before: 0 } => {}
            Verdict::Take { dropped_before } => {
                self.host(restart, format!("{dropped_before} lines dropped: over log_lines_per_second"));
            }
        }
        let context = clip(context, CONTEXT_BYTES_MAX).0.to_owned();
        let line = match clip(line, self.line_bytes_max) {
            (whole, false) => whole.to_owned(),
            (cut, true) => format!("{cut}{CUT}"),
        };
        self.push(stream, restart, level, context, line);
    }

    fn push(&self, stream: LogStream, restart: u32, level: Option<LogLevel>, context: String, line: String) {
        let at = self.clock.now();
        let weight = line.len() + context.len() + size_of::<LogRecord>();
        self.ring.push(weight, |seq, before| {
            let at = before.map_or(at, |before| before.at.max(at));
            Arc::new(LogRecord { seq, at, stream, restart, level, context, line })
        });
    }
}

/// The text up to `bytes_max` bytes, and whether that cut it.
pub(crate) fn clip(text: &str, bytes_max: usize) -> (&str, bool) {
    (&text[..text.floor_char_boundary(bytes_max)], text.len() > bytes_max)
}

/// Counts lines in each second. Pure: it is told the time.
#[derive(Debug)]
struct Quota {
    per_second: u32,
    second: Option<Instant>,
    taken: u32,
    dropped: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Take { dropped_before: u64 },
    Drop,
}

impl Quota {
    const fn new(per_second: u32) -> Self {
        Self { per_second, second: None, taken: 0, dropped: 0 }
    }

    fn ask(&mut self, now: Instant) -> Verdict {
        if self.second.is_none_or(|begun| now.duration_since(begun) >= Duration::from_secs(1)) {
            self.second = Some(now);
            self.taken = 0;
        }
        if self.taken >= self.per_second {
            self.dropped += 1;
            return Verdict::Drop;
        }
        self.taken += 1;
        Verdict::Take { dropped_before: std::mem::take(&mut self.dropped) }
    }
}

/// Makes lines of bytes. Holds at most one line.
#[derive(Debug, Default)]
struct LineSplitter {
    partial: Vec<u8>,
}

impl LineSplitter {
    /// Takes bytes and gives each line that they end. Of a line longer than `bytes_max`, a little more than that is
    /// kept, so that the cut shows.
    fn take(&mut self, bytes: &[u8], bytes_max: usize, mut line: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            let room = (bytes_max + 1).saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                self.flush(&mut line);
            }
        }
    }

    /// Gives what is left, as a line.
    fn flush(&mut self, mut line: impl FnMut(&str)) {
        let bytes = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        line(&String::from_utf8_lossy(bytes));
        self.partial.clear();
    }
}

/// The console of one run: everything becomes lines, standard input is empty.
#[derive(Debug)]
pub struct LogConsole {
    log: Arc<Log>,
    restart: u32,
    splitters: Mutex<[LineSplitter; 2]>,
}

impl LogConsole {
    /// Turns what is left of unfinished lines into lines. Called when the run has ended.
    pub fn flush(&self) {
        let mut splitters = self.splitters.lock().unwrap_or_else(PoisonError::into_inner);
        for (splitter, stream) in splitters.iter_mut().zip([LogStream::Stdout, LogStream::Stderr]) {
            if !splitter.partial.is_empty() {
                splitter.flush(|line| self.log.guest(stream, self.restart, None, "", line));
            }
        }
    }
}

#[async_trait]
impl Console for LogConsole {
    async fn write(&self, output: Output, bytes: Bytes) -> Result<(), Closed> {
        let (index, stream) = match output {
            Output::Stdout => (0, LogStream::Stdout),
            Output::Stderr => (1, LogStream::Stderr),
        };
        let mut splitters = self.splitters.lock().unwrap_or_else(PoisonError::into_inner);
        splitters[index].take(&bytes, self.log.line_bytes_max, |line| {
            self.log.guest(stream, self.restart, None, "", line);
        });
        Ok(())
    }

    async fn read(&self, _bytes_max: usize) -> Bytes {
        Bytes::new()
    }

    fn log(&self, level: LogLevel, context: &str, message: &str) {
        self.log.guest(LogStream::Log, self.restart, Some(level), context, message);
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use wasmatrix_model::SystemClock;

    use super::*;

    fn log(limits: &Limits) -> Arc<Log> {
        Arc::new(Log::new(limits, Arc::new(SystemClock)))
    }

    async fn lines(log: &Arc<Log>) -> Vec<String> {
        log.read(0, None, false).map(|record| record.line.clone()).collect().await
    }

    #[tokio::test]
    async fn lines_are_whole_whatever_the_pieces() {
        let log = log(&Limits::default());
        let console = log.console(0);
        for piece in ["a", "b\nc\r\n", "\n", "d"] {
            console.write(Output::Stdout, Bytes::from_static(piece.as_bytes())).await.unwrap();
        }
        console.write(Output::Stderr, Bytes::from_static(b"\xff\n")).await.unwrap();
        console.flush();
        assert_eq!(lines(&log).await, ["ab", "c", "", "\u{fffd}", "d"]);
    }

    #[tokio::test]
    async fn a_long_line_is_cut_and_marked() {
        let log = log(&Limits { log_line_bytes_max: 80, ..Limits::default() });
        let console = log.console(0);
        for _ in 0..100 {
            console.write(Output::Stdout, Bytes::from(vec![b'x'; 10_000])).await.unwrap();
        }
        console.write(Output::Stdout, Bytes::from_static(b"\nnext\n")).await.unwrap();
        assert_eq!(lines(&log).await, [format!("{}{CUT}", "x".repeat(80)), "next".to_owned()]);
        console.log(LogLevel::Info, &"c".repeat(1000), &"ä".repeat(100));
        let last = Box::pin(log.read(2, None, false)).next().await.unwrap();
        assert_eq!(
            (last.context.len(), last.line.as_str()),
            (256, format!("{}{CUT}", "ä".repeat(40)).as_str())
        );
    }

    #[test]
    fn a_flood_is_dropped_counted_and_told() {
        let mut quota = Quota::new(2);
        let now = Instant::now();
        let verdicts: Vec<_> = (0..4).map(|_| quota.ask(now)).collect();
        let take = |dropped_before| Verdict::Take { dropped_before };
        assert_eq!(verdicts, [take(0), take(0), Verdict::Drop, Verdict::Drop]);
        assert_eq!(quota.ask(now + Duration::from_secs(1)), take(2));
    }

    #[tokio::test]
    async fn only_so_many_lines_are_kept_and_tail_gives_the_last() {
        let log = log(&Limits { log_lines_kept: 3, ..Limits::default() });
        let console = log.console(7);
        console.write(Output::Stdout, Bytes::from_static(b"1\n2\n3\n4\n5\n")).await.unwrap();
        assert_eq!(lines(&log).await, ["3", "4", "5"]);
        let tail: Vec<_> = log.read(0, Some(1), false).collect().await;
        assert_eq!((tail.len(), tail[0].line.as_str(), tail[0].seq, tail[0].restart), (1, "5", 5, 7));
        assert_eq!(log.read(0, Some(0), false).count().await, 0);
    }
}
