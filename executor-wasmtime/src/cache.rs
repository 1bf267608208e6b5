//! Compiled components on disk, so that a restarted node need not compile again.
//!
//! ```text
//!  store: Component ──serialize──► code ──► wasmatrix-code-cache, under a name that is only this module's
//!  load:  Component ◄─deserialize── code ◄── wasmatrix-code-cache, which proves that it was stored so
//! ```
//!
//! The one unsafe call of this crate is here: taking compiled code for what it says it is.

use std::path::Path;

use wasmatrix_code_cache::{Cache as CodeCache, engine_name};
use wasmatrix_model::Digest;
use wasmtime::{Engine, component::Component};

/// Changes whenever our own part in making compiled code does: which adapter, how it is applied. The other executor
/// has another, so that neither takes the other's code.
const RECIPE: &str = concat!("recipe 1, ", env!("CARGO_PKG_VERSION"));

/// Components compiled for one engine.
pub(crate) struct Cache {
    engine: Engine,
    code: CodeCache,
}

impl Cache {
    /// Opens the directory, making it if need be. `None`: it can't be used, which is logged.
    pub(crate) fn open(dir: &Path, bytes_max: u64, engine: &Engine) -> Option<Self> {
        let name = engine_name(RECIPE, &engine.precompile_compatibility_hash());
        let code = CodeCache::open(dir, bytes_max, name)?;
        Some(Self { engine: engine.clone(), code })
    }

    /// The compiled component, if there is one that proves itself and that the engine takes.
    pub(crate) fn load(&self, digest: Digest) -> Option<Component> {
        let code = self.code.load(digest)?;
        match deserialize(&self.engine, &code) {
            Ok(component) => Some(component),
            Err(error) => {
                self.code.discard(digest, &format_args!("this engine does not take it: {error:#}"));
                None
            }
        }
    }

    /// Keeps a compiled component. A failure is logged and costs only a compilation later.
    pub(crate) fn store(&self, digest: Digest, component: &Component) {
        match component.serialize() {
            Ok(code) => self.code.store(digest, &code),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "compiled code could not be kept");
            }
        }
    }
}

/// Maps compiled code, which must be what [`Component::serialize`] gave.
///
/// Only for [`Cache::load`], where the node's key has proven that [`Cache::store`] wrote these very bytes.
#[expect(
    unsafe_code,
    reason = "wasmtime can't check compiled code, so loading it is unsafe whatever the caller does"
)]
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` asks that the bytes be the unchanged output of `Component::serialize`. The caller has them
    // from `CodeCache::load`, which has checked an HMAC over them and the engine's name, under a key that only this
    // user can read. Under that name, which has our recipe in it, nothing is stored but what `Cache::store`
    // serialized. They are in memory of ours, so no file can change under the call. That they were made for this
    // engine, wasmtime checks itself.
    unsafe { Component::deserialize(engine, code) }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::engine;

    fn component(engine: &Engine) -> Component {
        let bytes = wat::parse_str(r#"(component (core module (func (export "f"))))"#).unwrap();
        Component::new(engine, bytes).unwrap()
    }

    #[test]
    fn what_was_stored_is_loaded_by_the_next_process_too() {
        let (dir, engine) = (TempDir::new().unwrap(), engine::build(1).unwrap());
        let digest = Digest::of(b"a");
        Cache::open(dir.path(), 1 << 30, &engine).unwrap().store(digest, &component(&engine));
        // The way of allocating differs, which is no part of an engine's name.
        let next = Cache::open(dir.path(), 1 << 30, &engine::build(2).unwrap()).unwrap();
        assert!(next.load(digest).is_some());
        assert!(next.load(Digest::of(b"b")).is_none());
    }

    #[test]
    fn code_that_the_engine_does_not_take_is_deleted_and_made_again() {
        let (dir, engine) = (TempDir::new().unwrap(), engine::build(1).unwrap());
        let digest = Digest::of(b"a");
        let cache = Cache::open(dir.path(), 1 << 30, &engine).unwrap();
        // Proven to be ours and yet of an engine with other knobs, as if the name had failed to tell them apart.
        cache.store(digest, &component(&Engine::default()));
        assert!(cache.load(digest).is_none());
        assert!(cache.code.load(digest).is_none(), "it is gone");
        cache.store(digest, &component(&engine));
        assert!(cache.load(digest).is_some());
    }
}
