//! From an artifact to code for the guest: once per digest, however many ask.

use std::{
    borrow::Cow,
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{
    FutureExt,
    future::{self, BoxFuture},
};
use tokio::{runtime::Handle, sync::Semaphore};
use wasmatrix_artifact::{self as intake, Form, Refusal};
use wasmatrix_code_cache::{Cache, engine_name};
use wasmatrix_executor_api::{Artifact, ErrorKind};
use wasmatrix_microvm_abi::{
    engine::{FeatureSet, TARGET, configure},
    layout::{ARTIFACT_BYTES_MAX, PAGE_BYTES},
};
use wasmatrix_model::Digest;
use wasmparser::{Parser, Payload};
use wasmtime::{Config, Engine};

use crate::{
    Config as Setup, elf,
    machine::template::Template,
    sys::{self, Shared},
    templates::Templates,
};

/// Components kept ready in memory, besides those that are running.
const KNOWN_MAX: usize = 256;

/// Changes whenever our own part in making compiled code does: which adapter, how it is applied.
const RECIPE: &str = concat!("micro-VM recipe 2, ", env!("CARGO_PKG_VERSION"));

/// Compiled code, lent to every machine that runs it.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) shared: Shared,
    /// Its length, in bytes.
    pub(crate) bytes: u64,
    /// Where in it instructions are; the rest is data about them.
    pub(crate) text: Range<u64>,
    /// Whether some of the component's own code runs when it is instantiated.
    pub(crate) runs_at_instantiation: bool,
}

impl Code {
    /// Takes what the compiler made and [`marked`].
    pub(crate) fn new(file: &[u8]) -> Result<Self, Refusal> {
        let broken = || fault("the compiler made something that is no code");
        let (mark, file) = file.split_last().ok_or_else(broken)?;
        let bytes = file.len() as u64;
        if bytes > ARTIFACT_BYTES_MAX {
            return Err(Refusal {
                kind: ErrorKind::Exhausted,
                message: format!(
                    "compiled, the artifact has {bytes} bytes and a micro-VM takes {ARTIFACT_BYTES_MAX}"
                ),
            });
        }
        let text = elf::text(file).ok_or_else(broken)?;
        if text.start % PAGE_BYTES != 0 || text.end > bytes {
            return Err(broken());
        }
        let shared =
            Shared::new(file).map_err(|error| fault(format!("no memory for compiled code: {error}")))?;
        Ok(Self { shared, bytes, text, runs_at_instantiation: *mark != NOTHING_RUNS })
    }
}

/// What follows code, in the cache too, whose instantiation runs none of it.
const NOTHING_RUNS: u8 = 0;
/// What follows any other code.
const SOMETHING_RUNS: u8 = 1;

/// Code with a mark behind it that says whether instantiating that component runs some of its own code.
fn marked(mut file: Vec<u8>, component: &[u8]) -> Vec<u8> {
    // What can't be read, though the compiler could, is taken to run something.
    let is_start = |payload: wasmparser::Result<Payload<'_>>| {
        matches!(payload, Ok(Payload::StartSection { .. } | Payload::ComponentStartSection { .. }) | Err(_))
    };
    let runs = Parser::new(0).parse_all(component).any(is_start);
    file.push(if runs { SOMETHING_RUNS } else { NOTHING_RUNS });
    file
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
    templates: Arc<Templates>,
    cache: Option<Cache>,
    artifact_bytes_max: u64,
    /// One permit for each compilation at a time.
    turns: Semaphore,
}

type Work = future::Shared<BoxFuture<'static, Result<Arc<Template>, Refusal>>>;

#[derive(Default)]
struct Known {
    entries: HashMap<Digest, (Work, u64)>,
    /// Counts uses, to tell which entry was not used for the longest.
    uses: u64,
}

impl Compiler {
    /// A compiler for machines that may use those instructions.
    pub(crate) fn new(templates: Arc<Templates>, setup: &Setup) -> wasmtime::Result<Self> {
        let engine = engine(templates.features())?;
        let name = engine_name(RECIPE, &engine.precompile_compatibility_hash());
        let cache_dir = setup.cache_dir.as_deref();
        let workshop = Workshop {
            engine,
            templates,
            cache: cache_dir.and_then(|dir| Cache::open(dir, setup.cache_bytes_max, name)),
            artifact_bytes_max: setup.artifact_bytes_max,
            turns: Semaphore::new(setup.compilations_max.max(1) as usize),
        };
        Ok(Self { workshop: Arc::new(workshop), known: Mutex::default() })
    }

    /// Makes the artifact's template, or waits for whoever is at it.
    pub(crate) async fn prepare(&self, artifact: &Artifact) -> Result<Arc<Template>, Refusal> {
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
    fn make(&self, artifact: &Artifact) -> Result<Arc<Template>, Refusal> {
        let code = Arc::new(self.compile(artifact)?);
        let made = self.templates.make(&code);
        made.map(Arc::new).map_err(|error| fault(format!("no micro-VM could be made: {}", told(&error))))
    }

    fn compile(&self, artifact: &Artifact) -> Result<Code, Refusal> {
        let form = intake::inspect(&artifact.bytes, self.artifact_bytes_max)?;
        if Digest::of(&artifact.bytes) != artifact.digest {
            return Err(fault("the artifact does not have the digest it was given with"));
        }
        if let Some(file) = self.cache.as_ref().and_then(|cache| cache.load(artifact.digest)) {
            return Code::new(&file);
        }
        // What is wrong with a module is said of the module as it was handed in.
        let diagnose = |error: wasmtime::Error| intake::diagnose(&artifact.bytes, &format!("{error:#}"));
        let component = match form {
            Form::Component => Cow::Borrowed(&artifact.bytes[..]),
            Form::Module => Cow::Owned(intake::adapt(&artifact.bytes)?),
        };
        let file = marked(self.engine.precompile_component(&component).map_err(diagnose)?, &component);
        let code = Code::new(&file)?;
        if let Some(cache) = &self.cache {
            cache.store(artifact.digest, &file);
        }
        Ok(code)
    }
}

/// An error with its causes, in one line.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_function_is_found_however_deep_it_is() {
        let nested = |module: &str| {
            let text = format!("(component (component (core module {module})))");
            *marked(Vec::new(), &wat::parse_str(text).unwrap()).last().unwrap()
        };
        assert_eq!(nested("(memory 1) (data (i32.const 0) \"text\")"), NOTHING_RUNS);
        assert_eq!(nested("(func $f) (start $f)"), SOMETHING_RUNS);
        assert_eq!(marked(Vec::new(), b"neither"), [SOMETHING_RUNS]);
    }
}
