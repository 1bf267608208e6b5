//! What a run may take of memory and tables, counted over all its modules.
//!
//! Growing past a limit fails the way Wasm says it does: `memory.grow` answers -1 and the guest may make do with
//! what it has. What it does next decides how its end is told: an abort after a refusal is put down to the limit
//! (see [`crate::trap`]), anything else to itself. Memory that a module asks for at its start can't be refused so
//! gently; that ends the launch.

use std::sync::Arc;

use wasmatrix_executor_api::Meter;
use wasmatrix_model::{LimitKind, Limits};
use wasmtime::ResourceLimiter;

/// A limit was reached, as an error that ends a guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct LimitReached {
    /// Which.
    pub(crate) limit: LimitKind,
    /// Its value and what was wanted.
    pub(crate) message: String,
}

/// Counts what one run has.
pub(crate) struct Limiter {
    memory: Pot,
    table: Pot,
    /// Handles allowed; counted by the resource table itself.
    pub(crate) handles_max: u32,
    meter: Arc<Meter>,
}

/// One counted thing.
struct Pot {
    max: u64,
    /// Allowed so far. A growth that was allowed and then failed stays counted: wasmtime also reports failures of
    /// growths that it never asked about, so a guest could have what it holds struck off by asking for the impossible.
    used: u64,
    /// The last growth that was refused, as the size wanted in all.
    refused: Option<u64>,
}

impl Pot {
    fn new(max: u64) -> Self {
        Self { max, used: 0, refused: None }
    }

    fn grow(&mut self, current: usize, desired: usize) -> bool {
        let more = u64::try_from(desired.saturating_sub(current)).unwrap_or(u64::MAX);
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
    /// Nothing used yet of those limits; memory is shown on the meter.
    pub(crate) fn new(limits: &Limits, meter: Arc<Meter>) -> Self {
        Self {
            memory: Pot::new(limits.memory_bytes_max),
            table: Pot::new(limits.table_elements_max),
            handles_max: limits.handles_max,
            meter,
        }
    }

    /// The limit that stood in the guest's way, if one ever did: memory before tables.
    pub(crate) fn refused(&self) -> Option<LimitReached> {
        let memory = self.memory.refused.map(|wanted| self.memory_reached(wanted));
        memory.or_else(|| self.table.refused.map(|wanted| self.table_reached(wanted)))
    }

    /// How the end by too many handles is told.
    pub(crate) fn handles_reached(&self) -> LimitReached {
        LimitReached {
            limit: LimitKind::Handles,
            message: format!("all {} handles are in use and one more was wanted", self.handles_max),
        }
    }

    fn memory_reached(&self, wanted: u64) -> LimitReached {
        LimitReached {
            limit: LimitKind::Memory,
            message: format!("{} bytes are allowed, {wanted} were wanted", self.memory.max),
        }
    }

    fn table_reached(&self, wanted: u64) -> LimitReached {
        LimitReached {
            limit: LimitKind::Table,
            message: format!("{} table elements are allowed, {wanted} were wanted", self.table.max),
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
        // Beyond its own maximum a memory never grows: that refusal is the guest's own.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let allowed = self.memory.grow(current, desired);
        self.meter.set_memory_bytes(self.memory.used);
        match self.memory.refused {
            Some(wanted) if !allowed && current == 0 => Err(self.memory_reached(wanted).into()),
            _ => Ok(allowed),
        }
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let allowed = self.table.grow(current, desired);
        match self.table.refused {
            Some(wanted) if !allowed && current == 0 => Err(self.table_reached(wanted).into()),
            _ => Ok(allowed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(memory: u64, table: u64) -> Limiter {
        let limits = Limits { memory_bytes_max: memory, table_elements_max: table, ..Limits::default() };
        Limiter::new(&limits, Arc::default())
    }

    #[test]
    fn memories_share_one_limit_and_a_refusal_is_remembered() {
        let mut limiter = limiter(300, 10);
        assert!(limiter.memory_growing(0, 100, None).unwrap());
        assert!(limiter.memory_growing(0, 100, None).unwrap());
        assert!(limiter.memory_growing(100, 200, None).unwrap(), "exactly the limit is allowed");
        assert_eq!(limiter.refused(), None);
        assert!(!limiter.memory_growing(100, 101, None).unwrap());
        let reached = limiter.refused().unwrap();
        assert_eq!(
            (reached.limit, reached.message.as_str()),
            (LimitKind::Memory, "300 bytes are allowed, 301 were wanted")
        );
    }

    #[test]
    fn a_reported_failure_gives_nothing_back() {
        let mut limiter = limiter(300, 10);
        assert!(limiter.memory_growing(0, 300, None).unwrap());
        limiter.memory_grow_failed(wasmtime::Error::msg("beyond the type's limits")).unwrap();
        assert!(!limiter.memory_growing(300, 301, None).unwrap());
        assert!(limiter.table_growing(0, 10, None).unwrap());
        limiter.table_grow_failed(wasmtime::Error::msg("overflow")).unwrap();
        assert!(!limiter.table_growing(10, 11, None).unwrap());
    }

    #[test]
    fn a_guests_own_maximum_is_not_our_limit() {
        let mut limiter = limiter(300, 10);
        assert!(!limiter.memory_growing(100, 200, Some(150)).unwrap());
        assert_eq!(limiter.refused(), None);
    }

    #[test]
    fn what_a_module_starts_with_is_refused_by_name() {
        let error = limiter(300, 10).memory_growing(0, 400, None).unwrap_err();
        assert_eq!(error.downcast_ref::<LimitReached>().unwrap().limit, LimitKind::Memory);
        let error = limiter(300, 10).table_growing(0, 11, None).unwrap_err();
        assert_eq!(error.downcast_ref::<LimitReached>().unwrap().limit, LimitKind::Table);
    }
}
