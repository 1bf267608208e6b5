//! Puts a node together. The only file of the project that names concrete executors and providers.

use std::sync::{Arc, atomic::AtomicBool};

use tokio::sync::watch;
use wasmatrix_executor_api::Executor;
use wasmatrix_executor_microvm as microvm;
use wasmatrix_executor_wasmtime as in_process;
use wasmatrix_facts::Facts;
use wasmatrix_model::ExecutorKind;
use wasmatrix_providers::{KvLimits, KvProvider, Provider};

use crate::{
    Agent, BuildError, Config, KvBackend,
    agent::Node,
    artifacts::Artifacts,
    metrics::Metrics,
    provision::Provision,
    registry::{Registry, Room},
};

/// Builds the node that `config` describes.
pub(crate) async fn build(config: Config) -> Result<Agent, BuildError> {
    let facts = Arc::new(Facts::new(config.node.clone(), Arc::clone(&config.clock), config.facts_kept));
    let executors = executors(&config)?;
    let providers: Vec<Arc<dyn Provider>> = vec![Arc::new(kv(&config.kv).await?)];
    let said = watch::Sender::default();
    Ok(Agent::new(Node {
        started_at: config.clock.now(),
        provision: Arc::new(Provision::new(providers, Arc::clone(&facts), said.clone())),
        registry: Registry::new(Room {
            instances_max: config.instances_max,
            memory_bytes_max: config.memory_bytes_max,
        }),
        artifacts: Artifacts::new(config.artifacts_bytes_max),
        address: config.address,
        labels: config.labels,
        memory_bytes_total: memory_bytes_total(),
        metrics: Arc::new(Metrics::new()),
        cordoned: AtomicBool::new(false),
        said,
        id: config.node,
        clock: config.clock,
        executors,
        facts,
    }))
}

/// The machine's memory, in bytes.
fn memory_bytes_total() -> u64 {
    let machine = rustix::system::sysinfo();
    // The units of these numbers differ from machine to machine, their types too.
    #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions, reason = "see above")]
    let total = u64::try_from(machine.totalram).unwrap_or(0);
    total.saturating_mul(u64::from(machine.mem_unit.max(1)))
}

fn executors(config: &Config) -> Result<Vec<Arc<dyn Executor>>, BuildError> {
    let wasmtime = in_process::Config {
        cache_dir: config.cache_dir.clone(),
        instances_max: config.instances_max,
        ..in_process::Config::default()
    };
    let wasmtime =
        wasmtime.build().map_err(|source| BuildError::Executor { kind: ExecutorKind::Wasmtime, source })?;
    // On a host without KVM this one is built all the same, and says why it can't be used.
    let microvm =
        microvm::Config { cache_dir: config.cache_dir.clone(), ..microvm::Config::default() }.build();
    Ok(vec![Arc::new(wasmtime), Arc::new(microvm)])
}

async fn kv(backend: &KvBackend) -> Result<KvProvider, BuildError> {
    match backend {
        KvBackend::Memory => Ok(KvProvider::memory(KvLimits::default())),
        KvBackend::File(path) => {
            let path = path.clone();
            // Opening may repair the file after a crash, which takes a while and blocks.
            tokio::task::spawn_blocking(move || KvProvider::open(&path, KvLimits::default()))
                .await
                .map_err(|panicked| BuildError::Kv(panicked.into()))?
                .map_err(|error| BuildError::Kv(error.into()))
        }
    }
}
