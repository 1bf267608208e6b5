//! The two traits, and what passes through them.
//!
//! ```text
//!  Artifact ──prepare──► Prepared ──launch──► Box<dyn Instance> ──exited──► ExitCause
//!            (once per digest)   (once per run)        │
//!                                                      └─ stop
//! ```
//!
//! A job runs from its launch until it exits. Each run is a launch of its own, with fresh memory; nothing of an
//! earlier run can be seen in it. What the traits do not say, an executor must not need: it is never told which
//! providers there are, what was granted, or who else runs.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use wasmatrix_model::{Digest, ExecutorKind, ExitCause, InstanceId, Limits};

use crate::{Capabilities, Console, Error};

/// Runs instances at one isolation level. The agent holds one for each level on its node.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Which level.
    fn kind(&self) -> ExecutorKind;

    /// What it can do on this machine. Probed once, when the executor was made.
    fn capacity(&self) -> &Capacity;

    /// Makes an artifact ready to run: checked, adapted, compiled. Slow the first time; quick when the digest is
    /// known, in this process or from the cache on disk. May be called many times at once, and calls for the same
    /// digest share the work. Dropping the future does not stop a compilation that others wait for.
    ///
    /// # Errors
    /// The artifact is not Wasm, of no world that can be run, asks for imports that are not offered (all of them are
    /// named), or is too large.
    async fn prepare(&self, artifact: &Artifact) -> Result<Prepared, Error>;

    /// Starts one run, which goes on by itself. On an error nothing is left behind, nor if the future is dropped: a
    /// guest's own start function may never return.
    ///
    /// # Errors
    /// The limits can't hold it, the machine has no room, or its start function failed.
    async fn launch(&self, launch: Launch) -> Result<Box<dyn Instance>, Error>;
}

/// One run of an instance. Owned by one driver; dropping it ends the run and frees all it had.
#[async_trait]
pub trait Instance: Send {
    /// Waits for the run to end. Cancel-safe, and after the end returns the same answer again at once.
    async fn exited(&mut self) -> ExitCause;

    /// Ends the run at once, whether it computes or waits, and says how it ended. If it had ended by itself, that end
    /// is the answer. Whoever grants a time of grace to the calls in flight waits for them first: what a call does
    /// outside the guest is not an executor's business.
    async fn stop(&mut self) -> ExitCause;

    /// The meter on which the executor shows what the run uses. Whoever holds it may read at any time, also while
    /// another waits in `exited`, and after the end.
    fn meter(&self) -> Arc<Meter>;
}

/// What a user handed in: a component, or a WASI preview-1 module.
#[derive(Clone)]
pub struct Artifact {
    /// The SHA-256 of `bytes`.
    pub digest: Digest,
    /// The Wasm binary.
    pub bytes: Bytes,
}

impl Artifact {
    /// Wraps bytes and computes their digest.
    pub fn new(bytes: Bytes) -> Self {
        Self { digest: Digest::of(&bytes), bytes }
    }
}

impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Artifact").field("digest", &self.digest).field("bytes", &self.bytes.len()).finish()
    }
}

/// An artifact made ready by one executor, for that executor. Cheap to clone; the compiled code is shared.
#[derive(Clone)]
pub struct Prepared {
    digest: Digest,
    compiled: Arc<dyn Any + Send + Sync>,
}

impl Prepared {
    /// Wraps what an executor made of the artifact.
    pub fn new(digest: Digest, compiled: Arc<dyn Any + Send + Sync>) -> Self {
        Self { digest, compiled }
    }

    /// The artifact's digest.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// What the executor wrapped, if it is of type `T`.
    pub fn downcast<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Arc::clone(&self.compiled).downcast().ok()
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// All that a run is given. It has nothing else.
pub struct Launch {
    /// Which instance it is a run of; for diagnostics.
    pub instance: InstanceId,
    /// What to run.
    pub prepared: Prepared,
    /// Its arguments; the first is the program's name.
    pub args: Vec<String>,
    /// Its environment variables.
    pub env: BTreeMap<String, String>,
    /// What `wasi:config` tells it.
    pub config: BTreeMap<String, String>,
    /// How much it may use.
    pub limits: Limits,
    /// Its way out.
    pub capabilities: Arc<dyn Capabilities>,
    /// Its standard streams and log.
    pub console: Arc<dyn Console>,
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("instance", &self.instance)
            .field("prepared", &self.prepared)
            .field("args", &self.args)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What an executor can do on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Runs at one time.
    pub instances_max: u32,
    /// Why it can't be used here, and how to change that. `None`: it can.
    pub unavailable: Option<String>,
}

/// Shows what one run uses. Written by its executor alone, read by anybody.
#[derive(Debug, Default)]
pub struct Meter {
    memory_bytes: AtomicU64,
    memory_bytes_peak: AtomicU64,
    cpu_nanos: AtomicU64,
}

impl Meter {
    /// Shows that all linear memories together now have this size.
    pub fn set_memory_bytes(&self, bytes: u64) {
        self.memory_bytes.store(bytes, Relaxed);
        self.memory_bytes_peak.fetch_max(bytes, Relaxed);
    }

    /// Shows that the run computed for that much longer.
    pub fn add_cpu_time(&self, time: Duration) {
        self.cpu_nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Reads it.
    pub fn usage(&self) -> RunUsage {
        RunUsage {
            memory_bytes: self.memory_bytes.load(Relaxed),
            memory_bytes_peak: self.memory_bytes_peak.load(Relaxed),
            cpu_time: Duration::from_nanos(self.cpu_nanos.load(Relaxed)),
        }
    }
}

/// What one run used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunUsage {
    /// Linear memory now, in bytes.
    pub memory_bytes: u64,
    /// The most linear memory it had, in bytes.
    pub memory_bytes_peak: u64,
    /// Processor time, to the precision of the executor's tick.
    pub cpu_time: Duration,
}
