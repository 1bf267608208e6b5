//! One run, from the first instruction to the last.
//!
//! Three times the runtime parks, and says how far it is. What it has written until then depends on nothing but the
//! image, then on the code, and is the beginning of as many machines as the host likes; only then comes a run.

use alloc::{format, string::ToString, sync::Arc};

use wasmatrix_microvm_abi::{End, Start, engine};
use wasmtime::{
    Config, CustomCodeMemory, Engine, Store,
    component::{Component, InstancePre, Linker, TypedFunc},
};

use crate::{absent, configuration, ending, host, keyvalue, logging, state::State, sys, wasi};

/// Most bytes of values that cross from the component in one call.
const HOSTCALL_BYTES_MAX: usize = 32 << 20;

/// Boots, waits for code and for a run, runs it, says how it ended.
pub(crate) fn boot() -> ! {
    let prepared = prepare();
    let artifact_bytes = host::ready();
    match prepared {
        Ok((engine, linker)) => host::end(load(&engine, linker, artifact_bytes)),
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

fn load(engine: &Engine, linker: Linker<State>, artifact_bytes: u64) -> End {
    let component = match sys::component(engine, artifact_bytes) {
        Ok(component) => component,
        Err(error) => {
            return End::RuntimeFailed { message: format!("the compiled code was refused: {error:#}") };
        }
    };
    let linked = link(linker, &component);
    match host::loaded() {
        Some(start) => run(engine, linked, start),
        None => run_instantiated(engine, linked),
    }
}

fn run(engine: &Engine, linked: wasmtime::Result<InstancePre<State>>, start: Start) -> End {
    let mut store = store(engine, State::new(start));
    let program = match linked.and_then(|linked| instantiate(&linked, &mut store)) {
        Ok(program) => program,
        Err(error) => return ending::cause(&error, &store.data().limiter),
    };
    host::started();
    call(&mut store, program)
}

/// Instantiates ahead of a run, and has that bear the limits of the run that comes.
fn run_instantiated(engine: &Engine, linked: wasmtime::Result<InstancePre<State>>) -> End {
    let mut store = store(engine, State::ahead());
    let program = match linked.and_then(|linked| instantiate(&linked, &mut store)) {
        Ok(program) => program,
        // The host does without: the same happens to the run itself, which has somebody to be told.
        Err(error) => return ending::cause(&error, &store.data().limiter),
    };
    let (memory_bytes, table_elements) = store.data().limiter.used();
    let start = host::instantiated(memory_bytes, table_elements);
    let state = store.data_mut();
    let grown = core::mem::replace(state, State::new(start)).limiter;
    if let Err(error) = state.limiter.replay(&grown) {
        return ending::cause(&error, &state.limiter);
    }
    call(&mut store, program)
}

fn store(engine: &Engine, state: State) -> Store<State> {
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
    store
}

fn call(store: &mut Store<State>, program: Program) -> End {
    match program.call(&mut *store, ()) {
        Ok((Ok(()),)) => End::Exited { code: 0 },
        Ok((Err(()),)) => End::Exited { code: 1 },
        Err(error) => ending::cause(&error, &store.data().limiter),
    }
}

type Program = TypedFunc<(), (Result<(), ()>,)>;

/// Gives the component all that it imports.
fn link(mut linker: Linker<State>, component: &Component) -> wasmtime::Result<InstancePre<State>> {
    keyvalue::add_batch_to_linker(&mut linker, component)?;
    absent::add_to_linker(&mut linker, component)?;
    linker.instantiate_pre(component)
}

fn instantiate(linked: &InstancePre<State>, store: &mut Store<State>) -> wasmtime::Result<Program> {
    let instance = linked.instantiate(&mut *store)?;
    let component = linked.component();
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
