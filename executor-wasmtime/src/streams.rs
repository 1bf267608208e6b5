//! Standard streams of a run, between wasmtime's stream traits and the launch's [`Console`].
//!
//! ```text
//!  guest ──write──► Outputs (bounded, in order) ──deliver──► Console::write
//!  guest ◄──read─── Input (one buffer)          ◄──────────  Console::read
//! ```
//!
//! Both outputs share one queue, so that what a guest wrote to standard output and standard error arrives in the
//! order in which it wrote it. When the queue is full the guest waits.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use wasmatrix_executor_api::{Console, Output};
use wasmtime_wasi::{
    cli::{IsTerminal, StdinStream, StdoutStream},
    p2::{InputStream, OutputStream},
};

mod input;
mod output;

pub(crate) use input::Input;
pub(crate) use output::Outputs;

/// Standard input as the WASI context wants it.
pub(crate) struct Stdin {
    input: Arc<Input>,
    terminal: bool,
}

/// One of the standard outputs as the WASI context wants it.
pub(crate) struct Stdout {
    outputs: Arc<Outputs>,
    output: Output,
    terminal: bool,
}

/// The three streams of one run.
pub(crate) fn open(console: &Arc<dyn Console>) -> (Stdin, Stdout, Stdout, Arc<Outputs>) {
    let (stdin_terminal, stdout_terminal, stderr_terminal) = console.terminals();
    let outputs = Arc::new(Outputs::default());
    let out = |output, terminal| Stdout { outputs: Arc::clone(&outputs), output, terminal };
    (
        Stdin { input: Arc::new(Input::new(Arc::clone(console))), terminal: stdin_terminal },
        out(Output::Stdout, stdout_terminal),
        out(Output::Stderr, stderr_terminal),
        outputs,
    )
}

impl IsTerminal for Stdin {
    fn is_terminal(&self) -> bool {
        self.terminal
    }
}

impl StdinStream for Stdin {
    /// Only asked for by other versions of WASI, none of which is linked: an input that has ended.
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(input::Handle::new(Arc::clone(&self.input)))
    }
}

impl IsTerminal for Stdout {
    fn is_terminal(&self) -> bool {
        self.terminal
    }
}

impl StdoutStream for Stdout {
    /// Only asked for by other versions of WASI, none of which is linked: an output that takes nothing.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(std::io::Cursor::new(Box::<[u8]>::default()))
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(output::Handle::new(Arc::clone(&self.outputs), self.output))
    }
}

/// At most `size` bytes from the front of `buffer`.
fn take(buffer: &mut Bytes, size: usize) -> Bytes {
    buffer.split_to(size.min(buffer.len()))
}
