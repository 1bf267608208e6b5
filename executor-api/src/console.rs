//! Standard input, output and error of a run, and its log: bytes that leave a guest without being a capability.

use async_trait::async_trait;
use bytes::Bytes;
use wasmatrix_model::LogLevel;

/// Which of the two standard outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The other side is gone; the guest sees a closed stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream is closed")]
pub struct Closed;

/// Where a run's standard streams and log go. The agent gives each launch its own.
#[async_trait]
pub trait Console: Send + Sync {
    /// Takes bytes that the guest wrote, in order. Waiting here holds the guest back.
    ///
    /// # Errors
    /// Nobody will ever read that output again.
    async fn write(&self, output: Output, bytes: Bytes) -> Result<(), Closed>;

    /// The next bytes of standard input, at most `bytes_max` of them; empty at its end. Cancel-safe: a read that is
    /// dropped has taken nothing.
    async fn read(&self, bytes_max: usize) -> Bytes;

    /// Takes a call of `wasi:logging`. Never waits.
    fn log(&self, level: LogLevel, context: &str, message: &str);

    /// Whether that output, or the input, is a terminal; (stdin, stdout, stderr).
    fn terminals(&self) -> (bool, bool, bool) {
        (false, false, false)
    }
}
