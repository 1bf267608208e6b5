//! From an artifact to something that can be launched: once per digest, however many ask.
//!
//! ```text
//!  prepare ──► known? ──yes──► wait for the work that is under way, or take what it made
//!                │no
//!                └──► inspect ──► on disk? ──no──► adapt ──► compile ──► keep on disk ──► link
//! ```
//!
//! The work runs by itself on the executor's own threads, so it goes on when whoever asked first loses interest.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{runtime::Handle, sync::Semaphore};
use wasmatrix_artifact::{self as intake, Form, Refusal};
use wasmatrix_executor_api::{Artifact, ErrorKind};
use wasmatrix_model::Digest;
use wasmtime::{
    Engine,
    component::{Component, Linker},
};
use wasmtime_wasi::p2::bindings::CommandPre;

use crate::{
    cache::Cache,
    host::{self, State},
};

/// Components kept ready in memory, besides those that are running.
const KNOWN_MAX: usize = 256;
/// Bytes of compiled code kept ready in memory, besides what is running.
const KNOWN_BYTES_MAX: u64 = 1 << 30;

/// A component ready to be launched.
pub(crate) struct Compiled {
    pub(crate) command: CommandPre<State>,
    code_bytes: u64,
}

/// Makes components ready and remembers them.
pub(crate) struct Compiler {
    workshop: Arc<Workshop>,
    runtime: Handle,
    known: Mutex<Known>,
}

/// What the work needs.
pub(crate) struct Workshop {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<State>,
    pub(crate) cache: Option<Cache>,
    pub(crate) artifact_bytes_max: u64,
    /// One permit for each compilation at a time.
    pub(crate) turns: Semaphore,
}

type Work = Shared<BoxFuture<'static, Result<Arc<Compiled>, Refusal>>>;

#[derive(Default)]
struct Known {
    entries: HashMap<Digest, Entry>,
    /// Counts uses, to tell which entry was not used for the longest.
    uses: u64,
}

struct Entry {
    work: Work,
    used: u64,
}

impl Compiler {
    pub(crate) fn new(workshop: Workshop, runtime: Handle) -> Self {
        Self { workshop: Arc::new(workshop), runtime, known: Mutex::default() }
    }

    /// Makes the artifact ready, or waits for whoever is at it.
    pub(crate) async fn prepare(&self, artifact: &Artifact) -> Result<Arc<Compiled>, Refusal> {
        let work = self.lock().find_or_start(artifact.digest, || self.start(artifact));
        let result = work.clone().await;
        if result.is_err() {
            self.lock().forget(artifact.digest, &work);
        }
        result
    }

    /// Whether that was made here. What another made is for another engine.
    pub(crate) fn made(&self, compiled: &Compiled) -> bool {
        Engine::same(&self.workshop.engine, compiled.command.engine())
    }

    fn start(&self, artifact: &Artifact) -> Work {
        let (workshop, artifact, runtime) =
            (Arc::clone(&self.workshop), artifact.clone(), self.runtime.clone());
        let work = self.runtime.spawn(async move {
            let _turn = workshop.turns.acquire().await;
            let made = runtime.spawn_blocking({
                let workshop = Arc::clone(&workshop);
                move || workshop.make(&artifact)
            });
            made.await.unwrap_or_else(|error| Err(fault(format!("the compiler failed: {error}"))))
        });
        work.map(|result| result.unwrap_or_else(|_| Err(fault("the executor is being shut down"))))
            .boxed()
            .shared()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn find_or_start(&mut self, digest: Digest, start: impl FnOnce() -> Work) -> Work {
        self.uses += 1;
        let used = self.uses;
        if let Some(entry) = self.entries.get_mut(&digest) {
            entry.used = used;
            return entry.work.clone();
        }
        self.evict();
        let work = start();
        self.entries.insert(digest, Entry { work: work.clone(), used });
        work
    }

    /// Makes room for one more. Work under way stays: others wait for it.
    fn evict(&mut self) {
        loop {
            let done = |entry: &Entry| match entry.work.peek() {
                Some(Ok(compiled)) => Some(compiled.code_bytes),
                Some(Err(_)) => Some(0),
                None => None,
            };
            let bytes: u64 = self.entries.values().filter_map(done).sum();
            if self.entries.len() < KNOWN_MAX && bytes <= KNOWN_BYTES_MAX {
                return;
            }
            let finished = self.entries.iter().filter(|(_, entry)| done(entry).is_some());
            let Some(oldest) = finished.min_by_key(|(_, entry)| entry.used).map(|(digest, _)| *digest) else {
                return;
            };
            self.entries.remove(&oldest);
        }
    }

    /// Forgets a failure, unless somebody has begun again since.
    fn forget(&mut self, digest: Digest, work: &Work) {
        if self.entries.get(&digest).is_some_and(|entry| entry.work.ptr_eq(work)) {
            self.entries.remove(&digest);
        }
    }
}

impl Workshop {
    fn make(&self, artifact: &Artifact) -> Result<Arc<Compiled>, Refusal> {
        let form = intake::inspect(&artifact.bytes, self.artifact_bytes_max)?;
        if Digest::of(&artifact.bytes) != artifact.digest {
            return Err(fault("the artifact does not have the digest it was given with"));
        }
        let cached = self.cache.as_ref().and_then(|cache| cache.load(artifact.digest));
        let component = match cached {
            Some(component) => component,
            None => self.compile(form, artifact)?,
        };
        let pre = host::link(&self.linker, &component).map_err(|error| {
            Refusal::unsupported(format!("an import has another shape than is offered: {error:#}"))
        })?;
        let command = CommandPre::new(pre).map_err(|error| {
            Refusal::unsupported(format!("the export wasi:cli/run is not what it should be: {error:#}"))
        })?;
        let image = component.image_range();
        let code_bytes = (image.end as usize - image.start as usize) as u64;
        Ok(Arc::new(Compiled { command, code_bytes }))
    }

    fn compile(&self, form: Form, artifact: &Artifact) -> Result<Component, Refusal> {
        let compile = |bytes: &[u8]| {
            Component::from_binary(&self.engine, bytes)
                .map_err(|error| intake::diagnose(bytes, &format!("{error:#}")))
        };
        let component = match form {
            Form::Component => compile(&artifact.bytes),
            // What is wrong with the module is said of the module as it was handed in.
            Form::Module => intake::adapt(&artifact.bytes).and_then(|adapted| {
                Component::from_binary(&self.engine, &adapted)
                    .map_err(|error| intake::diagnose(&artifact.bytes, &format!("{error:#}")))
            }),
        }?;
        if let Some(cache) = &self.cache {
            cache.store(artifact.digest, &component);
        }
        Ok(component)
    }
}

fn fault(message: impl Into<String>) -> Refusal {
    Refusal { kind: ErrorKind::HostFault, message: message.into() }
}
