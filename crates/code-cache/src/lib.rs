//! Compiled code on disk, so that a restarted node need not compile again.
//!
//! ```text
//!  DIR/                       0700, ours
//!    key                      0600, 32 random bytes of this node
//!    DIGEST-ENGINE.cwasm      HMAC-SHA256 (32 bytes), compiled code
//! ```
//!
//! Executors may share a directory: each has entries of its own engine's name, and all count against the bound.
//!
//! Compiled code is trusted by whoever loads it, so nothing is loaded that this node did not write itself: the code
//! and the entry's name are authenticated with the node's key. An entry that does not prove itself (cut off, changed,
//! renamed, of another node) is deleted and made again. A directory that others can write to is not used at all;
//! everything then works without a cache.

#![forbid(unsafe_code)]

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use hmac::{Hmac, KeyInit, Mac};
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, futimens};
use sha2::Sha256;
use tempfile::NamedTempFile;
use wasmatrix_model::Digest;

mod engine_hash;

pub use engine_hash::engine_name;

const KEY_FILE: &str = "key";
const KEY_BYTES: usize = 32;
const MAC_BYTES: usize = 32;
const SUFFIX: &str = ".cwasm";

/// The directory, proven to be ours.
pub struct Cache {
    dir: PathBuf,
    key: [u8; KEY_BYTES],
    /// What entries must have been compiled for.
    engine: String,
    bytes_max: u64,
}

/// Why the directory can't be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it is not a directory")]
    NotADirectory,
    #[error("it belongs to user {0} and not to the one that runs this process; take another directory")]
    NotOurs(u32),
    #[error("others may write to it (mode {0:o}); make it 0700")]
    Shared(u32),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Cache {
    /// Opens the directory, making it if need be, for entries of that engine (see [`engine_name`]), of which it keeps
    /// so many bytes. `None`: it can't be used, which is logged.
    pub fn open(dir: &Path, bytes_max: u64, engine: String) -> Option<Self> {
        match Self::try_open(dir, bytes_max, engine) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::warn!(
                    dir = %dir.display(),
                    %error,
                    "the cache directory can't be used; every start of this node compiles anew"
                );
                None
            }
        }
    }

    fn try_open(dir: &Path, bytes_max: u64, engine: String) -> Result<Self, Unusable> {
        if !dir.exists() {
            let mut builder = fs::DirBuilder::new();
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.recursive(true).create(dir)?;
        }
        let metadata = fs::symlink_metadata(dir)?;
        if !metadata.is_dir() {
            return Err(Unusable::NotADirectory);
        }
        let me = rustix::process::geteuid().as_raw();
        if metadata.uid() != me {
            return Err(Unusable::NotOurs(metadata.uid()));
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(Unusable::Shared(metadata.mode() & 0o777));
        }
        Ok(Self { key: node_key(dir, me)?, dir: dir.into(), engine, bytes_max })
    }

    /// The compiled code, if there is some that proves itself.
    pub fn load(&self, digest: Digest) -> Option<Vec<u8>> {
        let path = self.path(digest);
        match self.try_load(digest, &path) {
            Ok(code) => Some(code),
            Err(Rejected::Absent) => None,
            Err(rejected) => {
                reject(&path, &rejected);
                None
            }
        }
    }

    /// Deletes an entry that was loaded and turned out to be of no use, which is logged with the reason.
    pub fn discard(&self, digest: Digest, reason: &dyn fmt::Display) {
        reject(&self.path(digest), reason);
    }

    fn try_load(&self, digest: Digest, path: &Path) -> Result<Vec<u8>, Rejected> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Rejected::Absent),
            Err(error) => return Err(error.into()),
        };
        if file.metadata()?.len() > self.bytes_max {
            return Err(Rejected::Unproven);
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (mac, code) = bytes.split_at_checked(MAC_BYTES).ok_or(Rejected::Unproven)?;
        self.mac(digest, code).verify_slice(mac).map_err(|_| Rejected::Unproven)?;
        // Makes it the last to be evicted. If that fails, it is only evicted sooner.
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let unchanged = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let _ = futimens(&file, &Timestamps { last_access: unchanged, last_modification: now });
        Ok(bytes.split_off(MAC_BYTES))
    }

    /// Keeps compiled code. A failure is logged and costs only a compilation later.
    pub fn store(&self, digest: Digest, code: &[u8]) {
        let stored = self.write(digest, code).and_then(|()| self.evict());
        if let Err(error) = stored {
            tracing::warn!(dir = %self.dir.display(), %error, "compiled code could not be kept");
        }
    }

    fn write(&self, digest: Digest, code: &[u8]) -> io::Result<()> {
        if code.len() as u64 > self.bytes_max {
            return Ok(());
        }
        let mut file = NamedTempFile::new_in(&self.dir)?;
        file.write_all(&self.mac(digest, code).finalize().into_bytes())?;
        file.write_all(code)?;
        file.as_file().sync_all()?;
        file.persist(self.path(digest))?;
        Ok(())
    }

    /// Deletes the entries that were not used for the longest, until the rest fits.
    fn evict(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let Some(metadata) = unless_gone(entry.metadata())? else { continue };
            if metadata.is_file() && entry.file_name().to_string_lossy().ends_with(SUFFIX) {
                entries.push((metadata.mtime(), metadata.mtime_nsec(), metadata.len(), entry.path()));
            }
        }
        entries.sort();
        let mut total: u64 = entries.iter().map(|(_, _, bytes, _)| bytes).sum();
        for (_, _, bytes, path) in entries {
            if total <= self.bytes_max {
                break;
            }
            unless_gone(fs::remove_file(path))?;
            total -= bytes;
        }
        Ok(())
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.dir.join(format!("{}-{}{SUFFIX}", digest.hex(), self.engine))
    }

    /// Over the entry's name too, so that one can't stand in for another.
    fn mac(&self, digest: Digest, code: &[u8]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        mac.chain_update(digest.hex()).chain_update(&self.engine).chain_update(code)
    }
}

impl fmt::Debug for Cache {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("dir", &self.dir).field("engine", &self.engine).finish_non_exhaustive()
    }
}

fn reject(path: &Path, reason: &dyn fmt::Display) {
    tracing::warn!(path = %path.display(), error = %reason, "a cache entry is not used and deleted");
    let _ = fs::remove_file(path);
}

/// `None` for a file that is no longer there: another executor evicts, or has given its new entry the final name.
fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Why an entry is not used.
#[derive(Debug, thiserror::Error)]
enum Rejected {
    #[error("there is none")]
    Absent,
    #[error("it was not written by this node, or changed since")]
    Unproven,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The node's key, made at first use. One that others could have read is thrown away, and with it all entries.
fn node_key(dir: &Path, me: u32) -> io::Result<[u8; KEY_BYTES]> {
    let path = dir.join(KEY_FILE);
    if let Some(key) = read_key(&path, me)? {
        return Ok(key);
    }
    let mut key = [0_u8; KEY_BYTES];
    rand::fill(&mut key);
    // Temporary files are made 0600.
    let mut file = NamedTempFile::new_in(dir)?;
    file.write_all(&key)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(&path) {
        Ok(_) => Ok(key),
        // Another process of ours was quicker, or the one that is there is no good.
        Err(error) => match read_key(&path, me)? {
            Some(theirs) => Ok(theirs),
            None => {
                tracing::warn!(path = %path.display(), "the cache's key could be known to others and is replaced");
                error.file.persist(&path)?;
                Ok(key)
            }
        },
    }
}

fn read_key(path: &Path, me: u32) -> io::Result<Option<[u8; KEY_BYTES]>> {
    let mut options = File::options();
    options.read(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    let private = metadata.uid() == me && metadata.permissions().mode() & 0o077 == 0;
    let mut bytes = Vec::new();
    file.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(<[u8; KEY_BYTES]>::try_from(bytes).ok().filter(|_| private))
}

#[cfg(test)]
mod tests;
