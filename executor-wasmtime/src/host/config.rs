//! `wasi:config`: what the launch has configured, and nothing of the host's own.
//!
//! Its drafts differ in name only, so one pair of functions is linked under every name.

use wasmatrix_artifact::offered::CONFIG;
use wasmtime::component::{ComponentType, Linker, Lower};

use super::State;

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

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    for name in CONFIG {
        let mut interface = linker.instance(name)?;
        interface.func_wrap("get", |store, (key,): (String,)| -> wasmtime::Result<(Value,)> {
            Ok((Ok(store.data().config.get(&key).cloned()),))
        })?;
        interface.func_wrap("get-all", |store, ()| -> wasmtime::Result<(Values,)> {
            let config = &store.data().config;
            Ok((Ok(config.iter().map(|(key, value)| (key.clone(), value.clone())).collect()),))
        })?;
    }
    Ok(())
}
