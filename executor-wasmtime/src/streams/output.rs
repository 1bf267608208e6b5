//! Standard output and error: a bounded queue that a run's own task empties into the console.

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use wasmatrix_executor_api::{Console, Output};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError};

/// Bytes that wait for the console; with this many waiting, the guest waits too.
const QUEUED_BYTES_MAX: usize = 64 << 10;

/// The queue.
#[derive(Default)]
pub(crate) struct Outputs {
    state: Mutex<State>,
    /// Something was queued, or no more will be.
    queued: Notify,
    /// Something was delivered.
    delivered: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(Output, BytesMut)>,
    /// Bytes ever taken from the guest, and of these, how many the console has had.
    accepted: u64,
    delivered: u64,
    /// Outputs that nobody reads any more.
    stdout_closed: bool,
    stderr_closed: bool,
    /// The guest is gone.
    finished: bool,
}

impl State {
    fn room(&self) -> usize {
        let waiting = usize::try_from(self.accepted - self.delivered).unwrap_or(usize::MAX);
        QUEUED_BYTES_MAX.saturating_sub(waiting)
    }

    fn closed(&mut self, output: Output) -> &mut bool {
        match output {
            Output::Stdout => &mut self.stdout_closed,
            Output::Stderr => &mut self.stderr_closed,
        }
    }
}

impl Outputs {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the guest will write no more.
    pub(crate) fn finish(&self) {
        self.lock().finished = true;
        self.queued.notify_one();
    }

    /// Gives the console everything in order, until the guest has finished and nothing is left.
    pub(crate) async fn deliver(&self, console: &dyn Console) {
        loop {
            let next = {
                let mut state = self.lock();
                match state.queue.pop_front() {
                    Some(next) => Some(next),
                    None if state.finished => return,
                    None => None,
                }
            };
            let Some((output, bytes)) = next else {
                // A wake-up that came before is kept, so none is missed.
                self.queued.notified().await;
                continue;
            };
            let count = bytes.len() as u64;
            let gone = *self.lock().closed(output) || console.write(output, bytes.freeze()).await.is_err();
            let mut state = self.lock();
            state.delivered += count;
            *state.closed(output) |= gone;
            drop(state);
            self.delivered.notify_waiters();
        }
    }
}

/// One of a guest's handles on an output.
pub(super) struct Handle {
    outputs: Arc<Outputs>,
    output: Output,
    /// After a flush: how much must have been delivered before this handle takes more.
    flush_to: u64,
}

impl Handle {
    pub(super) fn new(outputs: Arc<Outputs>, output: Output) -> Self {
        Self { outputs, output, flush_to: 0 }
    }

    fn permit(&self) -> Result<usize, StreamError> {
        let mut state = self.outputs.lock();
        if *state.closed(self.output) {
            return Err(StreamError::Closed);
        }
        Ok(if state.delivered < self.flush_to { 0 } else { state.room() })
    }
}

#[async_trait::async_trait]
impl Pollable for Handle {
    async fn ready(&mut self) {
        loop {
            let mut delivered = pin!(self.outputs.delivered.notified());
            // Listening starts here, before the look: a delivery in between is not missed.
            delivered.as_mut().enable();
            if !matches!(self.permit(), Ok(0)) {
                return;
            }
            delivered.await;
        }
    }
}

#[async_trait::async_trait]
impl OutputStream for Handle {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        if bytes.len() > self.permit()? {
            return Err(StreamError::trap(
                "more bytes were written to a standard stream than it had asked for",
            ));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let mut state = self.outputs.lock();
        state.accepted += bytes.len() as u64;
        match state.queue.back_mut() {
            Some((output, last)) if *output == self.output => last.extend_from_slice(&bytes),
            _ => state.queue.push_back((self.output, BytesMut::from(bytes))),
        }
        drop(state);
        self.outputs.queued.notify_one();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        let mut state = self.outputs.lock();
        if *state.closed(self.output) {
            return Err(StreamError::Closed);
        }
        self.flush_to = state.accepted;
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        self.permit()
    }
}
