//! `wasi:config`: what the launch has configured, and nothing of the host's own, under every name that it was
//! published.

use alloc::{string::String, vec::Vec};

use wasmtime::component::{ComponentType, Linker, Lower};

use crate::state::State;

const INTERFACES: [&str; 4] = [
    "wasi:config/store@0.2.0-draft",
    "wasi:config/store@0.2.0-draft-2024-09-27",
    "wasi:config/store@0.2.0-rc.1",
    "wasi:config/runtime@0.2.0-draft",
];

/// The interface's error. Reading from a map in memory never fails, so it is never made.
#[derive(ComponentType, Lower)]
#[component(variant)]
#[expect(dead_code, reason = "the interface's type has these cases, and no call of ours fails")]
enum Error {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

type Value = Result<Option<String>, Error>;
type Values = Result<Vec<(String, String)>, Error>;

/// Links it.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    for name in INTERFACES {
        let mut interface = linker.instance(name)?;
        interface.func_wrap("get", |store, (wanted,): (String,)| -> wasmtime::Result<(Value,)> {
            let config = &store.data().start.config;
            Ok((Ok(config.iter().find(|(key, _)| *key == wanted).map(|(_, value)| value.clone())),))
        })?;
        interface.func_wrap("get-all", |store, ()| -> wasmtime::Result<(Values,)> {
            Ok((Ok(store.data().start.config.clone()),))
        })?;
    }
    Ok(())
}
