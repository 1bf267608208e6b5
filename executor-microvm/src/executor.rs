//! The executor: its compiler, its pool of machines and the way into a run.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use tokio::sync::Semaphore;
use wasmatrix_artifact::Refusal;
use wasmatrix_executor_api::{Artifact, Capacity, Error, ErrorKind, Executor, Instance, Launch, Prepared};
use wasmatrix_model::ExecutorKind;

use crate::{
    Config, compile::Compiler, image::Image, machine::template::Template, pool::Pool, probe, run,
    templates::Templates,
};

/// Runs instances in KVM micro-VMs. Dropping it ends none of its runs; each ends with its own handle.
pub struct MicrovmExecutor {
    capacity: Capacity,
    /// What it takes to run, where KVM can be used.
    works: Option<Works>,
}

struct Works {
    compiler: Compiler,
    pool: Arc<Pool>,
    requests_per_second_max: u32,
    /// One permit for each run at a time.
    places: Arc<Semaphore>,
}

impl MicrovmExecutor {
    pub(crate) fn new(config: &Config) -> Self {
        let instances_max = config.instances_max;
        let (works, unavailable) = match Works::new(config) {
            Ok(works) => (Some(works), None),
            Err(reason) => (None, Some(reason)),
        };
        Self { capacity: Capacity { instances_max, unavailable }, works }
    }

    fn works(&self) -> Result<&Works, Error> {
        self.works.as_ref().ok_or_else(|| {
            let reason = self.capacity.unavailable.as_deref().unwrap_or("the executor can't be used");
            Error::new(ErrorKind::Unavailable, format!("micro-VMs can't be run on this machine: {reason}"))
        })
    }
}

impl Works {
    fn new(config: &Config) -> Result<Self, String> {
        let hypervisor = probe::open(&config.kvm)?;
        let image = Image::load()
            .ok_or("the guest's image was not built as it should be: build the executor again")?;
        let templates = Arc::new(Templates::new(hypervisor, image));
        let compiler = Compiler::new(Arc::clone(&templates), config)
            .map_err(|error| format!("wasmtime can't compile for micro-VMs: {error:#}"))?;
        let places = usize::try_from(config.instances_max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Ok(Self {
            compiler,
            pool: Pool::new(templates, config.pool_machines_max),
            requests_per_second_max: config.requests_per_second_max,
            places: Arc::new(Semaphore::new(places)),
        })
    }
}

#[async_trait]
impl Executor for MicrovmExecutor {
    fn kind(&self) -> ExecutorKind {
        ExecutorKind::Microvm
    }

    fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    async fn prepare(&self, artifact: &Artifact) -> Result<Prepared, Error> {
        let works = self.works()?;
        let template = works
            .compiler
            .prepare(artifact)
            .await
            .map_err(|Refusal { kind, message }| Error::new(kind, message))?;
        // What is made ready is launched next.
        works.pool.expect_use(&template);
        Ok(Prepared::new(artifact.digest, template))
    }

    async fn launch(&self, launch: Launch) -> Result<Box<dyn Instance>, Error> {
        let works = self.works()?;
        let template: Arc<Template> = launch.prepared.downcast().ok_or_else(|| {
            Error::new(
                ErrorKind::HostFault,
                "the artifact was prepared by another executor; prepare it with this one",
            )
        })?;
        let permit = Arc::clone(&works.places).try_acquire_owned().map_err(|_| {
            let max = self.capacity.instances_max;
            Error::new(
                ErrorKind::Exhausted,
                format!("{max} runs are under way and no more are allowed: stop one, or raise instances_max"),
            )
        })?;
        let machine = works.pool.take(&template).await.map_err(|error| {
            Error::new(ErrorKind::HostFault, "no micro-VM could be made").caused_by(error)
        })?;
        let run = run::start(machine, &template, launch, works.requests_per_second_max, permit).await?;
        Ok(Box::new(run))
    }
}

impl fmt::Debug for MicrovmExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MicrovmExecutor").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}
