//! A stable name for an engine: code compiled for one name runs on no other.

use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};

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

/// Sixteen hexadecimal digits for an engine. `recipe` must change whenever our own part in making its code does, and
/// `engine` is what stands for the compiler's version, target and knobs.
pub fn engine_name(recipe: &str, engine: &impl Hash) -> String {
    let mut feed = Feed(Sha256::new());
    recipe.hash(&mut feed);
    engine.hash(&mut feed);
    format!("{:016x}", feed.finish())
}
