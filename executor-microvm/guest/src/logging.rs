//! `wasi:logging`: into the run's own log.

use alloc::string::String;

use wasmtime::component::{ComponentType, Lift, Linker};

use crate::{host, state::State};

const INTERFACES: [&str; 2] = ["wasi:logging/logging@0.1.0-draft", "wasi:logging/logging"];

#[derive(Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "read out of the component's memory, never written here")]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

/// Links it.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    for name in INTERFACES {
        linker.instance(name)?.func_wrap(
            "log",
            |_, (level, context, message): (Level, String, String)| -> wasmtime::Result<()> {
                host::log(level as u8, &context, &message);
                Ok(())
            },
        )?;
    }
    Ok(())
}
