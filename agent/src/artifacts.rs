//! The bytes of artifacts that another node may have to run one day: those of instances that are restarted elsewhere
//! when this node is lost. One copy for each digest, kept as long as such an instance is listed, within a limit.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;
use wasmatrix_executor_api::Artifact;
use wasmatrix_model::Digest;

/// The artifacts of one node.
#[derive(Debug)]
pub(crate) struct Artifacts {
    shelf: Arc<Mutex<Shelf>>,
    bytes_max: u64,
}

#[derive(Debug, Default)]
struct Shelf {
    by_digest: HashMap<Digest, Weak<Kept>>,
    bytes: u64,
}

/// An artifact that is kept as long as somebody holds this.
#[derive(Debug)]
pub(crate) struct Kept {
    artifact: Artifact,
    shelf: Arc<Mutex<Shelf>>,
}

/// There is no room for an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom {
    /// What is kept already, in bytes.
    pub(crate) taken: u64,
    /// The most that may be, in bytes.
    pub(crate) max: u64,
}

impl Artifacts {
    /// None yet; at most so many bytes together.
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { shelf: Arc::default(), bytes_max }
    }

    /// Keeps a copy of an artifact, or shares the one that is kept. Copies megabytes: not for an async thread.
    ///
    /// # Errors
    /// Those that are kept leave no room.
    pub(crate) fn keep(&self, artifact: &Artifact) -> Result<Arc<Kept>, NoRoom> {
        let size = artifact.bytes.len() as u64;
        {
            let mut shelf = lock(&self.shelf);
            if let Some(kept) = shelf.kept(artifact.digest) {
                return Ok(kept);
            }
            if size > self.bytes_max.saturating_sub(shelf.bytes) {
                return Err(NoRoom { taken: shelf.bytes, max: self.bytes_max });
            }
            shelf.bytes += size;
        }
        // A copy, because the bytes as they came hold room that the next upload needs.
        let bytes = Bytes::copy_from_slice(&artifact.bytes);
        let artifact = Artifact { digest: artifact.digest, bytes };
        // Gives its room back when it is dropped, which is below if somebody else was quicker.
        let kept = Arc::new(Kept { artifact, shelf: Arc::clone(&self.shelf) });
        let mut shelf = lock(&self.shelf);
        if let Some(quicker) = shelf.kept(kept.artifact.digest) {
            return Ok(quicker);
        }
        shelf.by_digest.insert(kept.artifact.digest, Arc::downgrade(&kept));
        Ok(kept)
    }

    /// The artifact of that digest, if it is kept.
    pub(crate) fn get(&self, digest: Digest) -> Option<Arc<Kept>> {
        lock(&self.shelf).kept(digest)
    }
}

impl Shelf {
    fn kept(&self, digest: Digest) -> Option<Arc<Kept>> {
        self.by_digest.get(&digest).and_then(Weak::upgrade)
    }
}

impl Kept {
    /// The artifact.
    pub(crate) const fn artifact(&self) -> &Artifact {
        &self.artifact
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut shelf = lock(&self.shelf);
        shelf.bytes = shelf.bytes.saturating_sub(self.artifact.bytes.len() as u64);
        // Somebody may have kept the same artifact anew since nobody held this copy.
        if shelf.by_digest.get(&self.artifact.digest).is_some_and(|kept| kept.strong_count() == 0) {
            shelf.by_digest.remove(&self.artifact.digest);
        }
    }
}

fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    // Nothing panics while it is held.
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_copy_is_kept_for_each_digest_as_long_as_somebody_needs_it() {
        let artifacts = Artifacts::new(10);
        let (first, second) =
            (Artifact::new(Bytes::from_static(b"123456")), Artifact::new(Bytes::from_static(b"abcdef")));
        let kept = artifacts.keep(&first).unwrap();
        let again = artifacts.keep(&first).unwrap();
        assert!(Arc::ptr_eq(&kept, &again));
        assert_eq!(artifacts.keep(&second).unwrap_err(), NoRoom { taken: 6, max: 10 });
        drop(kept);
        assert_eq!(artifacts.get(first.digest).unwrap().artifact().bytes, first.bytes);
        drop(again);
        assert!(artifacts.get(first.digest).is_none());
        assert!(artifacts.keep(&second).is_ok());
    }
}
