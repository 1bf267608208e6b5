//! Standard input: one buffer that all of a guest's handles read from.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use wasmatrix_executor_api::Console;
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError};

use super::take;

/// Bytes fetched from the console at a time.
const READ_BYTES_MAX: usize = 64 << 10;

/// What was fetched and not yet read. Fetched only when a guest asks, so that a run that never reads its input
/// leaves it to the next.
pub(crate) struct Input {
    console: Arc<dyn Console>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    buffer: Bytes,
    ended: bool,
}

impl State {
    fn take_in(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            self.ended = true;
        } else if self.buffer.is_empty() {
            self.buffer = bytes;
        } else {
            // Two handles waited at once, and each brought some.
            let mut joined = BytesMut::from(&self.buffer[..]);
            joined.extend_from_slice(&bytes);
            self.buffer = joined.freeze();
        }
    }
}

impl Input {
    pub(super) fn new(console: Arc<dyn Console>) -> Self {
        Self { console, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ready(&self) -> bool {
        let state = self.lock();
        state.ended || !state.buffer.is_empty()
    }
}

/// One of a guest's handles on its input.
pub(super) struct Handle(Arc<Input>);

impl Handle {
    pub(super) fn new(input: Arc<Input>) -> Self {
        Self(input)
    }
}

#[async_trait::async_trait]
impl Pollable for Handle {
    async fn ready(&mut self) {
        if !self.0.is_ready() {
            let bytes = self.0.console.read(READ_BYTES_MAX).await;
            self.0.lock().take_in(bytes);
        }
    }
}

#[async_trait::async_trait]
impl InputStream for Handle {
    fn read(&mut self, size: usize) -> Result<Bytes, StreamError> {
        if !self.0.is_ready() {
            // Reading is cancel-safe: what is not there at once is not lost.
            match self.0.console.read(READ_BYTES_MAX).now_or_never() {
                Some(bytes) => self.0.lock().take_in(bytes),
                None => return Ok(Bytes::new()),
            }
        }
        let mut state = self.0.lock();
        if state.buffer.is_empty() {
            return Err(StreamError::Closed);
        }
        Ok(take(&mut state.buffer, size))
    }
}
