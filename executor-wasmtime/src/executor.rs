//! The executor: its threads, its compiler and the way into a run.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
};
use wasmatrix_artifact::Refusal;
use wasmatrix_executor_api::{Artifact, Capacity, Error, ErrorKind, Executor, Instance, Launch, Prepared};
use wasmatrix_model::ExecutorKind;

use crate::{
    Config,
    cache::Cache,
    compile::{Compiled, Compiler, Workshop},
    engine, host,
    run::{self, Place},
    ticker::Ticker,
};

/// Runs instances in this process. Dropping it ends all its runs and stops its threads.
pub struct WasmtimeExecutor {
    capacity: Capacity,
    compiler: Compiler,
    ticker: Ticker,
    /// One permit for each run at a time.
    places: Arc<Semaphore>,
    /// Guests run on threads of their own, so that whatever they do, the caller's threads stay free. Always there,
    /// until the executor is dropped.
    runtime: Option<Runtime>,
}

impl WasmtimeExecutor {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let engine = engine::build(config.instances_max)?;
        let unavailable = |what: &'static str| {
            move |error: std::io::Error| Error::new(ErrorKind::Unavailable, what).caused_by(error)
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(config.worker_threads.get())
            .thread_name("wasm-guest")
            // A slice of a guest that computes lasts a whole tick. Between any two, timers and new work are looked
            // at: otherwise they would wait for dozens of slices.
            .event_interval(1)
            .global_queue_interval(2)
            .enable_all()
            .build()
            .map_err(unavailable("the threads for guests could not be started"))?;
        let ticker = Ticker::start(engine.clone())
            .map_err(unavailable("the thread that interrupts guests could not be started"))?;
        let linker = host::linker(&engine).map_err(|error| {
            Error::new(ErrorKind::HostFault, "the interfaces for guests could not be linked").caused_by(error)
        })?;
        let cache_dir = config.cache_dir.as_deref();
        let cache = cache_dir.and_then(|dir| Cache::open(dir, config.cache_bytes_max, &engine));
        let compiler = Compiler::new(
            Workshop {
                engine,
                linker,
                cache,
                artifact_bytes_max: config.artifact_bytes_max,
                turns: Semaphore::new(permits(config.compilations_max.max(1))),
            },
            runtime.handle().clone(),
        );
        Ok(Self {
            capacity: Capacity { instances_max: config.instances_max, unavailable: None },
            compiler,
            ticker,
            places: Arc::new(Semaphore::new(permits(config.instances_max))),
            runtime: Some(runtime),
        })
    }
}

fn permits(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}

#[async_trait]
impl Executor for WasmtimeExecutor {
    fn kind(&self) -> ExecutorKind {
        ExecutorKind::Wasmtime
    }

    fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    async fn prepare(&self, artifact: &Artifact) -> Result<Prepared, Error> {
        let compiled = self
            .compiler
            .prepare(artifact)
            .await
            .map_err(|Refusal { kind, message }| Error::new(kind, message))?;
        Ok(Prepared::new(artifact.digest, compiled))
    }

    async fn launch(&self, launch: Launch) -> Result<Box<dyn Instance>, Error> {
        let compiled: Option<Arc<Compiled>> = launch.prepared.downcast();
        let compiled = compiled.filter(|compiled| self.compiler.made(compiled)).ok_or_else(|| {
            Error::new(
                ErrorKind::HostFault,
                "the artifact was prepared by another executor; prepare it with this one",
            )
        })?;
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let max = self.capacity.instances_max;
            Error::new(
                ErrorKind::Exhausted,
                format!("{max} runs are under way and no more are allowed: stop one, or raise instances_max"),
            )
        })?;
        let runtime = self.runtime.as_ref().expect("the runtime is only taken when the executor is dropped");
        let place = Place { _permit: permit, _ticking: self.ticker.hold() };
        Ok(Box::new(run::start(runtime.handle(), &compiled, launch, place).await?))
    }
}

impl Drop for WasmtimeExecutor {
    fn drop(&mut self) {
        // Waiting for the threads is not possible here, this may be an async context; they end at the next tick.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for WasmtimeExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmtimeExecutor").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}
