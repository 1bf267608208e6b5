//! `wasi:io/poll`: a list of pollables is reduced to one question to the host, which waits for the answer.

use alloc::vec::Vec;

use wasmtime::component::Resource;

use super::bindings::wasi::io::poll;
use crate::{host, state::State};

/// What can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pollable {
    /// Nothing: it is ready.
    Ready,
    /// Standard input has something, or has ended.
    Stdin,
    /// The monotonic clock shows this much, in nanoseconds.
    Deadline(u64),
}

impl Pollable {
    const fn is_ready(self, now: u64, stdin: bool) -> bool {
        match self {
            Self::Ready => true,
            Self::Stdin => stdin,
            Self::Deadline(when) => when <= now,
        }
    }
}

impl State {
    fn pollable(&self, handle: &Resource<Pollable>) -> wasmtime::Result<Pollable> {
        Ok(*self.table.get(handle)?)
    }
}

/// Waits until one of them is ready, or `until`; says which are.
fn wait(pollables: &[Pollable], until: Option<u64>) -> Vec<bool> {
    if pollables.iter().all(|pollable| *pollable == Pollable::Ready) {
        return pollables.iter().map(|_| true).collect();
    }
    let stdin = pollables.contains(&Pollable::Stdin);
    let deadline = pollables.iter().filter_map(|pollable| match pollable {
        Pollable::Ready => Some(0),
        Pollable::Stdin => None,
        Pollable::Deadline(when) => Some(*when),
    });
    let deadline = deadline.chain(until).min();
    // A time that has come is seen without waiting, but standard input has to be asked for.
    let has_input =
        if stdin || deadline.is_none_or(|when| when > 0) { host::wait(deadline, stdin) } else { false };
    let now = if deadline.is_some_and(|when| when > 0) { host::monotonic_clock() } else { 0 };
    pollables.iter().map(|pollable| pollable.is_ready(now, has_input)).collect()
}

impl poll::Host for State {
    fn poll(&mut self, handles: Vec<Resource<Pollable>>) -> wasmtime::Result<Vec<u32>> {
        if handles.is_empty() {
            wasmtime::bail!("empty poll list");
        }
        let pollables: wasmtime::Result<Vec<_>> =
            handles.iter().map(|handle| self.pollable(handle)).collect();
        let ready = wait(&pollables?, None);
        Ok((0..).zip(ready).filter_map(|(index, ready)| ready.then_some(index)).collect())
    }
}

impl poll::HostPollable for State {
    fn ready(&mut self, handle: Resource<Pollable>) -> wasmtime::Result<bool> {
        let pollable = self.pollable(&handle)?;
        Ok(wait(&[pollable], Some(0)).contains(&true))
    }

    fn block(&mut self, handle: Resource<Pollable>) -> wasmtime::Result<()> {
        let pollable = self.pollable(&handle)?;
        wait(&[pollable], None);
        Ok(())
    }

    fn drop(&mut self, handle: Resource<Pollable>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}
