//! What a node is made of, as one value with defaults.

use std::{path::PathBuf, sync::Arc};

use wasmatrix_model::{Clock, Labels, NodeId, SystemClock};

use crate::{Agent, wiring};

/// Where the key-value provider keeps its data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KvBackend {
    /// In memory: gone with the process.
    #[default]
    Memory,
    /// In this file, which one process at a time may hold; survives a crash at any moment.
    File(PathBuf),
}

/// How a node is to be built.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the node is called.
    pub node: NodeId,
    /// Where the key-value provider keeps its data.
    pub kv: KvBackend,
    /// Where compiled code is cached. `None`: nowhere.
    pub cache_dir: Option<PathBuf>,
    /// Most instances listed at one time, whatever their phase.
    pub instances_max: u32,
    /// The most that the memory limits of the instances that run, or will run again, may be together, in bytes.
    /// `None`: any sum.
    pub memory_bytes_max: Option<u64>,
    /// Artifacts kept for instances that are restarted elsewhere when this node is lost, in bytes.
    pub artifacts_bytes_max: u64,
    /// Facts kept for those who watch late.
    pub facts_kept: usize,
    /// Where others reach this node's agent, e.g. `https://10.0.0.2:7119`; empty: within this process.
    pub address: String,
    /// What the operator says of the node, for placement.
    pub labels: Labels,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
}

impl Config {
    /// Default of [`Config::instances_max`].
    pub const INSTANCES_MAX: u32 = 2000;
    /// Default of [`Config::artifacts_bytes_max`]: 1 GiB.
    pub const ARTIFACTS_BYTES_MAX: u64 = 1 << 30;
    /// Default of [`Config::facts_kept`].
    pub const FACTS_KEPT: usize = 10_000;

    /// A node of that name with nothing on disk.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            kv: KvBackend::Memory,
            cache_dir: None,
            instances_max: Self::INSTANCES_MAX,
            memory_bytes_max: None,
            artifacts_bytes_max: Self::ARTIFACTS_BYTES_MAX,
            facts_kept: Self::FACTS_KEPT,
            address: String::new(),
            labels: Labels::default(),
            clock: Arc::new(SystemClock),
        }
    }

    /// Builds the node. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// An executor or a provider could not be built; the message says which and what to do.
    pub async fn build(self) -> Result<Agent, BuildError> {
        wiring::build(self).await
    }
}

/// Why a node could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An executor could not be made ready.
    #[error("the {kind} executor could not be made ready")]
    Executor {
        /// Which.
        kind: wasmatrix_model::ExecutorKind,
        /// Why.
        #[source]
        source: wasmatrix_executor_api::Error,
    },
    /// The key-value store could not be opened.
    #[error("the key-value store could not be opened")]
    Kv(#[source] Box<dyn std::error::Error + Send + Sync>),
}
