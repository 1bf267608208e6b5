//! What a component may take of memory and tables, counted over all its modules, by the same rules as in process:
//! growth past a limit answers -1, and an abort after a refusal is put down to the limit; memory or a table that is
//! too large from the start ends the launch.
//!
//! The host counts memory too, and believes none of this; here it is counted so that the component is told in
//! Wasm's own terms.

use alloc::{format, string::String, vec::Vec};
use core::fmt;

use wasmatrix_microvm_abi::{
    End,
    engine::{AHEAD_ELEMENTS_MAX, AHEAD_MEMORY_BYTES_MAX},
};
use wasmtime::ResourceLimiter;

/// How the limits are numbered in [`End::LimitReached`].
const MEMORY: u8 = 0;
const TABLE: u8 = 1;
const HANDLES: u8 = 2;

/// A limit was reached, as an error that ends a component.
#[derive(Clone, Debug)]
pub(crate) struct LimitReached {
    limit: u8,
    pub(crate) message: String,
}

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for LimitReached {}

impl From<LimitReached> for End {
    fn from(LimitReached { limit, message }: LimitReached) -> Self {
        Self::LimitReached { limit, message }
    }
}

/// Counts what the component has.
pub(crate) struct Limiter {
    memory: Pot,
    table: Pot,
    handles_max: u32,
    /// What was asked for ahead of the run, in that order; `None` once there is one.
    ahead: Option<Vec<Growth>>,
}

/// One request for more, as wasmtime makes it.
#[derive(Clone, Copy, Debug)]
struct Growth {
    of_memory: bool,
    current: usize,
    desired: usize,
    maximum: Option<usize>,
}

struct Pot {
    max: u64,
    /// Allowed so far. A growth that was allowed and then failed stays counted: wasmtime also reports failures of
    /// growths that it never asked about, so a component could have what it holds struck off by asking for the
    /// impossible.
    used: u64,
    /// The last growth that was refused, as the size wanted in all.
    refused: Option<u64>,
}

impl Pot {
    const fn new(max: u64) -> Self {
        Self { max, used: 0, refused: None }
    }

    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let more = desired.saturating_sub(current) as u64;
        let wanted = self.used.saturating_add(more);
        if wanted > self.max {
            self.refused = Some(wanted);
            return false;
        }
        self.used = wanted;
        true
    }
}

impl Limiter {
    /// Nothing used yet.
    pub(crate) const fn new(memory_bytes_max: u64, table_elements_max: u64, handles_max: u32) -> Self {
        let (memory, table) = (Pot::new(memory_bytes_max), Pot::new(table_elements_max));
        Self { memory, table, handles_max, ahead: None }
    }

    /// Of a component that is instantiated ahead of its run: remembers what it asks for.
    pub(crate) const fn ahead() -> Self {
        let (memory, table) = (Pot::new(AHEAD_MEMORY_BYTES_MAX), Pot::new(AHEAD_ELEMENTS_MAX));
        Self { memory, table, handles_max: 0, ahead: Some(Vec::new()) }
    }

    /// Memory in bytes and table elements that were allowed.
    pub(crate) const fn used(&self) -> (u64, u64) {
        (self.memory.used, self.table.used)
    }

    /// Asks for all that was asked for ahead, as if it were asked now.
    pub(crate) fn replay(&mut self, ahead: &Self) -> wasmtime::Result<()> {
        for growth in ahead.ahead.iter().flatten() {
            if !self.grow(*growth)? {
                return Err(wasmtime::Error::msg("what was instantiated ahead is refused now"));
            }
        }
        Ok(())
    }

    fn grow(&mut self, growth: Growth) -> wasmtime::Result<bool> {
        if let Some(ahead) = &mut self.ahead {
            ahead.push(growth);
        }
        let Growth { of_memory, current, desired, maximum } = growth;
        // Beyond its own maximum nothing ever grows: that refusal is the component's own.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let pot = if of_memory { &mut self.memory } else { &mut self.table };
        let allowed = pot.grow(current, desired);
        self.answer(allowed, current)
    }

    /// The limit that stood in the component's way, if one ever did: memory before tables.
    pub(crate) fn refused(&self) -> Option<LimitReached> {
        let memory = self.memory.refused.map(|wanted| LimitReached {
            limit: MEMORY,
            message: format!("{} bytes are allowed, {wanted} were wanted", self.memory.max),
        });
        memory.or_else(|| {
            self.table.refused.map(|wanted| LimitReached {
                limit: TABLE,
                message: format!("{} table elements are allowed, {wanted} were wanted", self.table.max),
            })
        })
    }

    /// How the end by too many handles is told.
    pub(crate) fn handles_reached(&self) -> LimitReached {
        LimitReached {
            limit: HANDLES,
            message: format!("all {} handles are in use and one more was wanted", self.handles_max),
        }
    }

    fn answer(&self, allowed: bool, current: usize) -> wasmtime::Result<bool> {
        match self.refused() {
            Some(reached) if !allowed && current == 0 => Err(reached.into()),
            Some(_) | None => Ok(allowed),
        }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(Growth { of_memory: true, current, desired, maximum })
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(Growth { of_memory: false, current, desired, maximum })
    }
}
