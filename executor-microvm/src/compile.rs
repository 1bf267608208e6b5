//! From an artifact to code for the guest: once per digest, however many ask.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{runtime::Handle, sync::Semaphore};
use vm_memory::{Bytes, VolatileMemory};
use wasmatrix_artifact::{self as intake, Form, Refusal};
use wasmatrix_code_cache::{Cache, engine_name};
use wasmatrix_executor_api::{Artifact, ErrorKind};
use wasmatrix_microvm_abi::{
    engine::{FeatureSet, TARGET, configure},
    layout::{ARTIFACT_BYTES_MAX, PAGE_BYTES},
};
use wasmatrix_model::Digest;
use wasmtime::{Config, Engine};

use crate::{
    Config as Setup, elf,
    sys::{self, Memory},
};

/// Components kept ready in memory, besides those that are running.
const KNOWN_MAX: usize = 256;

/// Changes whenever our own part in making compiled code does: which adapter, how it is applied.
const RECIPE: &str = concat!("micro-VM recipe 1, ", env!("CARGO_PKG_VERSION"));

/// Compiled code, in memory that is lent to every machine that runs it.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) memory: Arc<Memory>,
    /// Its length, in bytes.
    pub(crate) bytes: u64,
    /// Where in it instructions are; the rest is data about them.
    pub(crate) text: Range<u64>,
}

impl Code {
    /// Takes what the compiler made.
    pub(crate) fn new(file: &[u8]) -> Result<Self, Refusal> {
        let bytes = file.len() as u64;
        if bytes > ARTIFACT_BYTES_MAX {
            return Err(Refusal {
                kind: ErrorKind::Exhausted,
                message: format!(
                    "compiled, the artifact has {bytes} bytes and a micro-VM takes {ARTIFACT_BYTES_MAX}"
                ),
            });
        }
        let broken = || fault("the compiler made something that is no code");
        let text = elf::text(file).ok_or_else(broken)?;
        if text.start % PAGE_BYTES != 0 || text.end > bytes {
            return Err(broken());
        }
        let size = file.len().next_multiple_of(PAGE_BYTES as usize);
        let memory =
            Memory::new(size).map_err(|error| fault(format!("no memory for compiled code: {error}")))?;
        memory.as_volatile_slice().write_slice(file, 0).map_err(|error| fault(error.to_string()))?;
        Ok(Self { memory: Arc::new(memory), bytes, text })
    }
}

fn fault(message: impl Into<String>) -> Refusal {
    Refusal { kind: ErrorKind::HostFault, message: message.into() }
}

/// Makes code and remembers it.
pub(crate) struct Compiler {
    workshop: Arc<Workshop>,
    known: Mutex<Known>,
}

struct Workshop {
    engine: Engine,
    cache: Option<Cache>,
    artifact_bytes_max: u64,
    /// One permit for each compilation at a time.
    turns: Semaphore,
}

type Work = Shared<BoxFuture<'static, Result<Arc<Code>, Refusal>>>;

#[derive(Default)]
struct Known {
    entries: HashMap<Digest, (Work, u64)>,
    /// Counts uses, to tell which entry was not used for the longest.
    uses: u64,
}

impl Compiler {
    /// A compiler for machines that may use those instructions.
    pub(crate) fn new(features: FeatureSet, setup: &Setup) -> wasmtime::Result<Self> {
        let engine = engine(features)?;
        let name = engine_name(RECIPE, &engine.precompile_compatibility_hash());
        let cache_dir = setup.cache_dir.as_deref();
        let workshop = Workshop {
            engine,
            cache: cache_dir.and_then(|dir| Cache::open(dir, setup.cache_bytes_max, name)),
            artifact_bytes_max: setup.artifact_bytes_max,
            turns: Semaphore::new(setup.compilations_max.max(1) as usize),
        };
        Ok(Self { workshop: Arc::new(workshop), known: Mutex::default() })
    }

    /// Makes the artifact's code, or waits for whoever is at it.
    pub(crate) async fn prepare(&self, artifact: &Artifact) -> Result<Arc<Code>, Refusal> {
        let work = self.lock().find_or_start(artifact.digest, || self.start(artifact));
        let result = work.clone().await;
        if result.is_err() {
            self.lock().forget(artifact.digest, &work);
        }
        result
    }

    /// The work goes on by itself when whoever asked loses interest.
    fn start(&self, artifact: &Artifact) -> Work {
        let (workshop, artifact) = (Arc::clone(&self.workshop), artifact.clone());
        let work = Handle::current().spawn(async move {
            let _turn = workshop.turns.acquire().await;
            let making = Arc::clone(&workshop);
            let made = tokio::task::spawn_blocking(move || making.make(&artifact)).await;
            made.unwrap_or_else(|error| Err(fault(format!("the compiler failed: {error}"))))
        });
        work.map(|result| result.unwrap_or_else(|_| Err(fault("the node is shutting down")))).boxed().shared()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn find_or_start(&mut self, digest: Digest, start: impl FnOnce() -> Work) -> Work {
        self.uses += 1;
        if let Some((work, used)) = self.entries.get_mut(&digest) {
            *used = self.uses;
            return work.clone();
        }
        if self.entries.len() >= KNOWN_MAX {
            // Work under way stays: others wait for it.
            let done = self.entries.iter().filter(|(_, (work, _))| work.peek().is_some());
            if let Some(oldest) = done.min_by_key(|(_, (_, used))| *used).map(|(digest, _)| *digest) {
                self.entries.remove(&oldest);
            }
        }
        let work = start();
        self.entries.insert(digest, (work.clone(), self.uses));
        work
    }

    /// Forgets a failure, unless somebody has begun again since.
    fn forget(&mut self, digest: Digest, work: &Work) {
        if self.entries.get(&digest).is_some_and(|(known, _)| known.ptr_eq(work)) {
            self.entries.remove(&digest);
        }
    }
}

impl Workshop {
    fn make(&self, artifact: &Artifact) -> Result<Arc<Code>, Refusal> {
        let form = intake::inspect(&artifact.bytes, self.artifact_bytes_max)?;
        if Digest::of(&artifact.bytes) != artifact.digest {
            return Err(fault("the artifact does not have the digest it was given with"));
        }
        if let Some(file) = self.cache.as_ref().and_then(|cache| cache.load(artifact.digest)) {
            return Code::new(&file).map(Arc::new);
        }
        // What is wrong with a module is said of the module as it was handed in.
        let diagnose = |error: wasmtime::Error| intake::diagnose(&artifact.bytes, &format!("{error:#}"));
        let file = match form {
            Form::Component => self.engine.precompile_component(&artifact.bytes),
            Form::Module => self.engine.precompile_component(&intake::adapt(&artifact.bytes)?),
        };
        let file = file.map_err(diagnose)?;
        let code = Code::new(&file)?;
        if let Some(cache) = &self.cache {
            cache.store(artifact.digest, &file);
        }
        Ok(Arc::new(code))
    }
}

/// An engine that compiles for the guest and runs nothing.
fn engine(features: FeatureSet) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    configure(&mut config);
    config.target(TARGET)?;
    for feature in features.iter() {
        sys::enable(&mut config, feature);
    }
    Engine::new(&config)
}
