//! A talk with a running guest: a test says a line, the guest does a step, the test hears what came of it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::sync::{Mutex, mpsc};
use wasmatrix_executor_api::{Closed, Console, Output};
use wasmatrix_model::LogLevel;

/// Lines under way in either direction.
const LINES_MAX: usize = 64;

/// The test's end of the talk.
#[derive(Debug)]
pub struct Dialogue {
    say: mpsc::Sender<Bytes>,
    hear: mpsc::Receiver<String>,
}

/// The guest's end.
#[derive(Debug)]
pub struct Ear {
    input: Mutex<(mpsc::Receiver<Bytes>, Bytes)>,
    output: Mutex<(mpsc::Sender<String>, BytesMut)>,
}

impl Dialogue {
    /// Both ends.
    pub fn new() -> (Self, Arc<Ear>) {
        let (say, input) = mpsc::channel(LINES_MAX);
        let (output, hear) = mpsc::channel(LINES_MAX);
        let ear =
            Ear { input: Mutex::new((input, Bytes::new())), output: Mutex::new((output, BytesMut::new())) };
        (Self { say, hear }, Arc::new(ear))
    }

    /// Says a line to the guest's standard input.
    pub async fn say(&self, line: &str) {
        self.say.send(format!("{line}\n").into()).await.expect("the guest listens");
    }

    /// The next line of the guest's standard output; `None`: it has ended.
    pub async fn hear(&mut self) -> Option<String> {
        self.hear.recv().await
    }
}

#[async_trait]
impl Console for Ear {
    async fn write(&self, output: Output, bytes: Bytes) -> Result<(), Closed> {
        if output == Output::Stderr {
            return Ok(());
        }
        let mut guard = self.output.lock().await;
        let (lines, partial) = &mut *guard;
        partial.extend_from_slice(&bytes);
        while let Some(end) = partial.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&partial[..end]).into_owned();
            partial.advance(end + 1);
            lines.send(line).await.map_err(|_| Closed)?;
        }
        Ok(())
    }

    async fn read(&self, bytes_max: usize) -> Bytes {
        let mut guard = self.input.lock().await;
        let (lines, rest) = &mut *guard;
        if rest.is_empty() {
            *rest = lines.recv().await.unwrap_or_default();
        }
        rest.split_to(rest.len().min(bytes_max))
    }

    fn log(&self, _: LogLevel, _: &str, _: &str) {}
}
