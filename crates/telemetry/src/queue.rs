//! The bounded queue between the threads that log and the one that writes.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// Most lines that wait to be written; those that come while it is full are dropped and counted.
pub const QUEUE_LINES_MAX: usize = 8192;

/// Longest wait for a reader of the log that has stalled, when the process ends.
const FLUSH_MAX: Duration = Duration::from_secs(1);
/// How often in that time the end is announced to a queue that is full.
const FLUSH_TRIES: u32 = 20;

enum Message {
    Line(Vec<u8>),
    End,
}

/// Keeps the log going. Dropping it writes what is queued, for at most a second.
#[derive(Debug)]
pub struct Guard {
    lines: SyncSender<Message>,
    ended: Receiver<()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        for _ in 0..FLUSH_TRIES {
            let sent = self.lines.try_send(Message::End);
            match self.ended.recv_timeout(if sent.is_ok() { FLUSH_MAX } else { FLUSH_MAX / FLUSH_TRIES }) {
                Err(RecvTimeoutError::Timeout) if sent.is_err() => {} // still full: once more
                Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// The end of the queue that loggers hold.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    lines: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

/// Starts the thread that writes to `sink`.
pub(crate) fn to(sink: impl Write + Send + 'static) -> io::Result<(Queue, Guard)> {
    let (lines, queued) = sync_channel(QUEUE_LINES_MAX);
    let (end, ended) = sync_channel(1);
    let dropped = Arc::new(AtomicU64::new(0));
    let queue = Queue { lines: lines.clone(), dropped: Arc::clone(&dropped) };
    thread::Builder::new().name("log".to_owned()).spawn(move || {
        drain(&queued, &dropped, sink);
        let _ = end.try_send(()); // nobody waits unless the guard is being dropped
    })?;
    Ok((queue, Guard { lines, ended }))
}

fn drain(queued: &Receiver<Message>, dropped: &AtomicU64, mut sink: impl Write) {
    while let Ok(Message::Line(line)) = queued.recv() {
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(sink, "{lost} log lines were dropped: the log's reader is too slow");
        }
        let _ = sink.write_all(&line); // a log that nobody reads must not end the process
    }
    let _ = sink.flush();
}

/// One line on its way: the formatter writes it whole or in pieces, and dropping it sends it.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    queue: &'a Queue,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.bytes);
        if !line.is_empty() && self.queue.lines.try_send(Message::Line(line)).is_err() {
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { queue: self, bytes: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    /// A sink that lets nothing pass until it is opened.
    #[derive(Clone, Default)]
    struct Gate(Arc<(Mutex<Passed>, Condvar)>);

    #[derive(Default)]
    struct Passed {
        open: bool,
        bytes: Vec<u8>,
    }

    impl Gate {
        fn open(&self) {
            self.0.0.lock().unwrap().open = true;
            self.0.1.notify_all();
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.0.lock().unwrap().bytes.clone()).unwrap()
        }
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.0.1.wait_while(self.0.0.lock().unwrap(), |passed| !passed.open).unwrap();
            state.bytes.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn dropping_the_guard_writes_what_is_queued() {
        let gate = Gate::default();
        gate.open();
        let (queue, guard) = to(gate.clone()).unwrap();
        for line in ["one\n", "two\n"] {
            queue.make_writer().write_all(line.as_bytes()).unwrap();
        }
        drop(guard);
        assert_eq!(gate.text(), "one\ntwo\n");
    }

    #[test]
    fn a_stalled_reader_costs_lines_and_never_a_wait() {
        let gate = Gate::default();
        let (queue, guard) = to(gate.clone()).unwrap();
        let written = QUEUE_LINES_MAX + 100;
        for _ in 0..written {
            queue.make_writer().write_all(b"line\n").unwrap();
        }
        let dropped = queue.dropped.load(Ordering::Relaxed);
        assert!(dropped >= 99, "{dropped} of {written} were dropped"); // one may be in the writer's hand
        gate.open();
        drop(guard);
        let text = gate.text();
        let kept = text.lines().filter(|line| *line == "line").count() as u64;
        assert_eq!(kept + dropped, written as u64);
        assert!(text.contains("log lines were dropped"), "the loss is said");
    }
}
