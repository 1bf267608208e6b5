//! A stable name for an engine: code compiled for one name runs on no other.

use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};
use wasmtime::Engine;

/// Changes whenever our own part in making compiled code does: which adapter, how it is applied.
const RECIPE: &str = concat!("recipe 1, ", env!("CARGO_PKG_VERSION"));

/// Feeds what is hashed to SHA-256, whose answer is the same in every process.
struct Feed(Sha256);

impl Hasher for Feed {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// Sixteen hexadecimal digits that stand for wasmtime's version, its target and every knob that matters to code.
pub(super) fn hex(engine: &Engine) -> String {
    let mut feed = Feed(Sha256::new());
    RECIPE.hash(&mut feed);
    engine.precompile_compatibility_hash().hash(&mut feed);
    format!("{:016x}", feed.finish())
}
