//! `wasi:clocks`: the host's.

use wasmtime::component::Resource;

use super::{
    bindings::wasi::clocks::{monotonic_clock, wall_clock},
    poll::Pollable,
};
use crate::{host, state::State};

impl monotonic_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(host::monotonic_clock())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<Pollable>> {
        Ok(self.table.push(Pollable::Deadline(when))?)
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<Pollable>> {
        let when = match duration {
            0 => 0,
            duration => host::monotonic_clock().saturating_add(duration),
        };
        Ok(self.table.push(Pollable::Deadline(when))?)
    }
}

impl wall_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        let (seconds, nanoseconds) = host::wall_clock();
        Ok(wall_clock::Datetime { seconds, nanoseconds })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: 1 })
    }
}
