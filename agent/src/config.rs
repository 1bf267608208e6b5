//! What a node is made of, as one value with defaults.

use std::{path::PathBuf, sync::Arc};

use wasmatrix_model::{Clock, NodeId, SystemClock};

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
    /// Facts kept for those who watch late.
    pub facts_kept: usize,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
}

impl Config {
    /// Default of [`Config::instances_max`].
    pub const INSTANCES_MAX: u32 = 2000;
    /// Default of [`Config::facts_kept`].
    pub const FACTS_KEPT: usize = 10_000;

    /// A node of that name with nothing on disk.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            kv: KvBackend::Memory,
            cache_dir: None,
            instances_max: Self::INSTANCES_MAX,
            facts_kept: Self::FACTS_KEPT,
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
