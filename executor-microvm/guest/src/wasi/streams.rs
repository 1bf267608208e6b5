//! `wasi:io/streams`: standard input, output and error.
//!
//! Every write leaves at once: what a program has written before it spins or dies has been written.

use alloc::{string::String, vec, vec::Vec};

use wasmatrix_microvm_abi::layout::STREAM_BYTES_MAX;
use wasmtime::component::{Resource, ResourceTableError};

use super::{
    bindings::wasi::io::{error, streams},
    poll::Pollable,
};
use crate::{host, state::State};

/// Most bytes in one blocking write, as the interface has it.
const BLOCKING_WRITE_BYTES_MAX: u64 = 4096;

/// A handle on standard input.
pub struct Input;

/// A handle on standard output or error.
pub struct Output {
    to_stderr: bool,
    closed: bool,
}

impl Output {
    pub(crate) const fn stdout() -> Self {
        Self { to_stderr: false, closed: false }
    }

    pub(crate) const fn stderr() -> Self {
        Self { to_stderr: true, closed: false }
    }
}

/// Why an operation on a stream failed; none of ours does, so none is ever made.
pub enum IoError {}

/// The answer to an operation that did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The stream is closed.
    Closed,
    /// The program broke a rule of the interface.
    Trap(wasmtime::Error),
}

impl From<ResourceTableError> for Failure {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

impl error::Host for State {}

impl error::HostError for State {
    fn to_debug_string(&mut self, handle: Resource<IoError>) -> wasmtime::Result<String> {
        match *self.table.get(&handle)? {}
    }

    fn drop(&mut self, handle: Resource<IoError>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl streams::Host for State {
    fn convert_stream_error(&mut self, failure: Failure) -> wasmtime::Result<streams::StreamError> {
        match failure {
            Failure::Closed => Ok(streams::StreamError::Closed),
            Failure::Trap(error) => Err(error),
        }
    }
}

impl State {
    fn take(&self, handle: &Resource<Input>, length: u64, wait: bool) -> Result<Vec<u8>, Failure> {
        self.table.get(handle)?;
        let bytes_max = u32::try_from(length).unwrap_or(u32::MAX).min(STREAM_BYTES_MAX);
        if bytes_max == 0 && !wait {
            return Ok(Vec::new());
        }
        host::read(bytes_max, wait).ok_or(Failure::Closed)
    }

    fn open(&self, handle: &Resource<Output>) -> Result<&Output, Failure> {
        let output = self.table.get(handle)?;
        if output.closed { Err(Failure::Closed) } else { Ok(output) }
    }

    fn put(&mut self, handle: &Resource<Output>, bytes: &[u8]) -> Result<(), Failure> {
        let to_stderr = self.open(handle)?.to_stderr;
        if bytes.len() > STREAM_BYTES_MAX as usize {
            let message = "more bytes were written to a standard stream than it had asked for";
            return Err(Failure::Trap(wasmtime::Error::msg(message)));
        }
        if !bytes.is_empty() && !host::write(to_stderr, bytes) {
            self.table.get_mut(handle)?.closed = true;
            return Err(Failure::Closed);
        }
        Ok(())
    }

    fn pass(
        &mut self,
        to: &Resource<Output>,
        from: &Resource<Input>,
        length: u64,
        wait: bool,
    ) -> Result<u64, Failure> {
        self.open(to)?;
        if length == 0 {
            return Ok(0);
        }
        let bytes = self.take(from, length, wait)?;
        self.put(to, &bytes)?;
        Ok(bytes.len() as u64)
    }
}

impl streams::HostInputStream for State {
    fn read(&mut self, handle: Resource<Input>, length: u64) -> Result<Vec<u8>, Failure> {
        self.take(&handle, length, false)
    }

    fn blocking_read(&mut self, handle: Resource<Input>, length: u64) -> Result<Vec<u8>, Failure> {
        self.take(&handle, length, true)
    }

    fn skip(&mut self, handle: Resource<Input>, length: u64) -> Result<u64, Failure> {
        self.take(&handle, length, false).map(|bytes| bytes.len() as u64)
    }

    fn blocking_skip(&mut self, handle: Resource<Input>, length: u64) -> Result<u64, Failure> {
        self.take(&handle, length, true).map(|bytes| bytes.len() as u64)
    }

    fn subscribe(&mut self, handle: Resource<Input>) -> wasmtime::Result<Resource<Pollable>> {
        Ok(self.table.push_child(Pollable::Stdin, &handle)?)
    }

    fn drop(&mut self, handle: Resource<Input>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

/// Refuses a blocking write that the interface does not allow.
fn blocking(name: &str, length: u64) -> Result<(), Failure> {
    if length > BLOCKING_WRITE_BYTES_MAX {
        let message =
            alloc::format!("Buffer too large for {name} (expected at most {BLOCKING_WRITE_BYTES_MAX})");
        return Err(Failure::Trap(wasmtime::Error::msg(message)));
    }
    Ok(())
}

impl streams::HostOutputStream for State {
    fn check_write(&mut self, handle: Resource<Output>) -> Result<u64, Failure> {
        self.open(&handle)?;
        Ok(STREAM_BYTES_MAX.into())
    }

    fn write(&mut self, handle: Resource<Output>, bytes: Vec<u8>) -> Result<(), Failure> {
        self.put(&handle, &bytes)
    }

    fn blocking_write_and_flush(&mut self, handle: Resource<Output>, bytes: Vec<u8>) -> Result<(), Failure> {
        blocking("blocking-write-and-flush", bytes.len() as u64)?;
        self.put(&handle, &bytes)
    }

    fn flush(&mut self, handle: Resource<Output>) -> Result<(), Failure> {
        self.open(&handle).map(|_| ())
    }

    fn blocking_flush(&mut self, handle: Resource<Output>) -> Result<(), Failure> {
        self.open(&handle).map(|_| ())
    }

    fn subscribe(&mut self, handle: Resource<Output>) -> wasmtime::Result<Resource<Pollable>> {
        Ok(self.table.push_child(Pollable::Ready, &handle)?)
    }

    fn write_zeroes(&mut self, handle: Resource<Output>, length: u64) -> Result<(), Failure> {
        // One more than is allowed is enough to be refused for it.
        let length = length.min(u64::from(STREAM_BYTES_MAX) + 1);
        self.put(&handle, &vec![0; length as usize])
    }

    fn blocking_write_zeroes_and_flush(
        &mut self,
        handle: Resource<Output>,
        length: u64,
    ) -> Result<(), Failure> {
        blocking("blocking-write-zeroes-and-flush", length)?;
        self.put(&handle, &vec![0; length as usize])
    }

    fn splice(&mut self, to: Resource<Output>, from: Resource<Input>, length: u64) -> Result<u64, Failure> {
        self.pass(&to, &from, length, false)
    }

    fn blocking_splice(
        &mut self,
        to: Resource<Output>,
        from: Resource<Input>,
        length: u64,
    ) -> Result<u64, Failure> {
        self.pass(&to, &from, length, true)
    }

    fn drop(&mut self, handle: Resource<Output>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}
