//! Everything that a guest can import, and the state behind it.
//!
//! | module | interfaces |
//! |---|---|
//! | here | WASI 0.2, as wasmtime-wasi has it, without files and without a network |
//! | [`keyvalue`] | `wasi:keyvalue`, both published drafts |
//! | [`config`] | `wasi:config` |
//! | [`logging`] | `wasi:logging` |
//!
//! Their names, by which an artifact is accepted or refused, are listed in [`wasmatrix_artifact::offered`].

use std::{collections::BTreeMap, sync::Arc};

use wasmatrix_executor_api::{Capabilities, Console, Launch, Meter};
use wasmtime::{
    Engine,
    component::{Component, InstancePre, Linker, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::{
    limits::Limiter,
    streams::{self, Outputs},
};

mod config;
mod keyvalue;
mod logging;

/// Most bytes that one call of a guest hands to its host, or takes from it.
pub(crate) const CALL_BYTES_MAX: usize = 16 << 20;

/// What stands behind one run's imports.
pub(crate) struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    pub(crate) limiter: Limiter,
    capabilities: Arc<dyn Capabilities>,
    console: Arc<dyn Console>,
    config: BTreeMap<String, String>,
}

impl State {
    /// State for one launch, and the queue that its output goes through.
    pub(crate) fn new(launch: Launch, meter: Arc<Meter>) -> (Self, Arc<Outputs>) {
        let (stdin, stdout, stderr, outputs) = streams::open(&launch.console);
        let env: Vec<_> = launch.env.into_iter().collect();
        let wasi = WasiCtx::builder()
            .args(&launch.args)
            .envs(&env)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(CALL_BYTES_MAX as u64)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(usize::try_from(launch.limits.handles_max).unwrap_or(usize::MAX));
        let state = Self {
            wasi,
            table,
            limiter: Limiter::new(&launch.limits, meter),
            capabilities: launch.capabilities,
            console: launch.console,
            config: launch.config,
        };
        (state, outputs)
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// A linker with every import that is the same for all components.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    keyvalue::add_to_linker(&mut linker)?;
    config::add_to_linker(&mut linker)?;
    logging::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// Links a component with what it imports. Its imports were found among those on offer; an error means that it
/// takes one of them to have another shape.
pub(crate) fn link(linker: &Linker<State>, component: &Component) -> wasmtime::Result<InstancePre<State>> {
    let mut linker = linker.clone();
    keyvalue::add_batch_to_linker(&mut linker, component)?;
    linker.instantiate_pre(component)
}

#[cfg(test)]
mod tests {
    use wasmatrix_artifact::offered::{CONFIG, KEYVALUE, KEYVALUE_BATCH, LOGGING, WASI_0_2};

    use super::*;
    use crate::engine;

    #[test]
    fn every_name_offered_is_linked() {
        let engine = engine::build(1).unwrap();
        let base = linker(&engine).unwrap();
        let releases = WASI_0_2.iter().map(|name| format!("{name}@0.2.3"));
        let drafts =
            [CONFIG, LOGGING, KEYVALUE, KEYVALUE_BATCH].into_iter().flatten().map(ToString::to_string);
        for name in releases.chain(drafts) {
            let text = format!(r#"(component (import "{name}" (instance)))"#);
            let component = Component::new(&engine, wat::parse_str(text).unwrap()).unwrap();
            link(&base, &component).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        }
    }
}
