//! One run, from the first instruction to the last.

use alloc::{format, string::ToString, sync::Arc};

use wasmatrix_microvm_abi::{End, Start, engine};
use wasmtime::{
    Config, CustomCodeMemory, Engine, Store,
    component::{Component, Linker, TypedFunc},
};

use crate::{absent, configuration, ending, host, keyvalue, logging, state::State, sys, wasi};

/// Most bytes of values that cross from the component in one call.
const HOSTCALL_BYTES_MAX: usize = 32 << 20;

/// Boots, waits for a run, runs it, says how it ended.
pub(crate) fn boot() -> ! {
    let prepared = prepare();
    let start = host::ready();
    match prepared {
        Ok((engine, linker)) => host::end(run(&engine, linker, start)),
        Err(error) => host::fail(&format!("the runtime could not be set up: {error:#}")),
    }
}

/// All that can be done before it is known what will run.
fn prepare() -> wasmtime::Result<(Engine, Linker<State>)> {
    let mut config = Config::new();
    engine::configure(&mut config);
    config.with_custom_code_memory(Some(Arc::new(MappedByHost)));
    sys::tell_features(&mut config);
    let engine = Engine::new(&config)?;
    let mut linker = Linker::new(&engine);
    wasi::add_to_linker(&mut linker)?;
    keyvalue::add_to_linker(&mut linker)?;
    configuration::add_to_linker(&mut linker)?;
    logging::add_to_linker(&mut linker)?;
    Ok((engine, linker))
}

fn run(engine: &Engine, linker: Linker<State>, start: Start) -> End {
    let component = match sys::component(engine, start.artifact_bytes) {
        Ok(component) => component,
        Err(error) => {
            return End::RuntimeFailed { message: format!("the compiled code was refused: {error:#}") };
        }
    };
    let mut store = Store::new(engine, State::new(start));
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
    let program = match instantiate(linker, &component, &mut store) {
        Ok(program) => program,
        Err(error) => return ending::cause(&error, &store.data().limiter),
    };
    host::started();
    match program.call(&mut store, ()) {
        Ok((Ok(()),)) => End::Exited { code: 0 },
        Ok((Err(()),)) => End::Exited { code: 1 },
        Err(error) => ending::cause(&error, &store.data().limiter),
    }
}

type Program = TypedFunc<(), (Result<(), ()>,)>;

fn instantiate(
    mut linker: Linker<State>,
    component: &Component,
    store: &mut Store<State>,
) -> wasmtime::Result<Program> {
    keyvalue::add_batch_to_linker(&mut linker, component)?;
    absent::add_to_linker(&mut linker, component)?;
    let instance = linker.instantiate(&mut *store, component)?;
    let ty = component.component_type();
    let mut exports = ty.exports(component.engine()).map(|(name, _)| name);
    let Some(name) = exports.find(|name| name.starts_with("wasi:cli/run@0.2.")) else {
        return Err(ending::RuntimeFault("the component exports no wasi:cli/run".to_string()).into());
    };
    let interface = instance.get_export_index(&mut *store, None, name);
    let function = instance.get_export_index(&mut *store, interface.as_ref(), "run");
    match function {
        Some(function) => instance.get_typed_func(store, function),
        None => Err(ending::RuntimeFault("wasi:cli/run has no function run".to_string()).into()),
    }
}

/// Code is mapped executable by the host, and by nobody else.
struct MappedByHost;

impl CustomCodeMemory for MappedByHost {
    fn required_alignment(&self) -> usize {
        4096
    }

    fn publish_executable(&self, _start: *const u8, _bytes: usize) -> wasmtime::Result<()> {
        Ok(())
    }

    fn unpublish_executable(&self, _start: *const u8, _bytes: usize) -> wasmtime::Result<()> {
        Ok(())
    }
}
