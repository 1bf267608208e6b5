//! What stands behind one component's imports.

use wasmatrix_microvm_abi::Start;
use wasmtime::component::ResourceTable;

use crate::limits::Limiter;

/// The run's own state.
pub(crate) struct State {
    /// The component's handles.
    pub(crate) table: ResourceTable,
    /// What it may take.
    pub(crate) limiter: Limiter,
    /// What it was given.
    pub(crate) start: Start,
}

impl State {
    /// Of a run that begins.
    pub(crate) fn new(start: Start) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(start.handles_max as usize);
        let limiter = Limiter::new(start.memory_bytes_max, start.table_elements_max, start.handles_max);
        Self { table, limiter, start }
    }

    /// Of a component that is instantiated ahead of its run: it has nothing, and may take what a template holds.
    pub(crate) fn ahead() -> Self {
        let limiter = Limiter::ahead();
        Self { table: ResourceTable::new(), limiter, start: Start::default() }
    }
}
