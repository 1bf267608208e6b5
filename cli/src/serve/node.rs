//! A node from its flags.

use std::{path::Path, time::Duration};

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use wasmatrix_agent::{Agent, Config, KvBackend};
use wasmatrix_model::NodeId;

use super::{http, listen};
use crate::{
    args::NodeArgs,
    error::{CliError, Exit, chain},
    run::{RunExit, Signals, cache_dir, kv_backend},
    value,
};

/// A node, and what monitoring sees of it.
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) agent: Agent,
    /// Set when it begins to end.
    pub(super) draining: CancellationToken,
    monitoring: Option<JoinHandle<()>>,
    /// What it says of itself when it begins: a line for each thing.
    pub(super) greeting: String,
}

impl Node {
    /// Builds it. `address`: where others reach its agent; empty: within this process.
    ///
    /// # Errors
    /// A label breaks a rule, a store can't be opened, an address can't be listened at.
    pub(super) async fn build(
        args: &NodeArgs,
        id: NodeId,
        data_dir: &Path,
        address: String,
    ) -> Result<Self, CliError> {
        let monitoring = match args.metrics_listen {
            Some(addr) => Some(listen::bind(addr, "--metrics-listen").await?),
            None => None,
        };
        let mut config = Config::new(id.clone());
        config.kv = match &args.kv {
            Some(place) => kv_backend(place),
            None => KvBackend::File(data_dir.join("kv.redb")),
        };
        config.cache_dir = cache_dir(&args.cache);
        config.instances_max = args.instances_max.unwrap_or(Config::INSTANCES_MAX);
        config.memory_bytes_max = args.memory_max;
        config.labels = value::labels(&args.labels)?;
        config.address = address;
        let greeting = greeting(&config, monitoring.as_ref())?;
        let agent = config.build().await.map_err(|error| CliError::Host { message: chain(&error) })?;
        let draining = CancellationToken::new();
        let monitoring = monitoring.map(|listener| http::serve(listener, agent.clone(), draining.clone()));
        Ok(Self { id, agent, draining, monitoring, greeting })
    }

    /// Stops what runs, within the grace period or until a second signal. Gives the exit code.
    pub(super) async fn drain(self, grace: Duration, signals: &mut Signals) -> u8 {
        self.draining.cancel();
        let exit = tokio::select! {
            () = self.agent.shutdown(grace) => Exit::Ok as u8,
            again = signals.next() => RunExit::Interrupted(again).code(),
        };
        if let Some(monitoring) = self.monitoring {
            monitoring.abort();
        }
        exit
    }
}

fn greeting(config: &Config, monitoring: Option<&TcpListener>) -> Result<String, CliError> {
    let kept = match &config.kv {
        KvBackend::Memory => "in memory, gone when this ends".to_owned(),
        KvBackend::File(path) => path.display().to_string(),
    };
    let labels = if config.labels.is_empty() { String::new() } else { format!(" ({})", config.labels) };
    let monitoring = match monitoring {
        Some(listener) => format!("  metrics   http://{}/metrics\n", listener.local_addr()?),
        None => String::new(),
    };
    Ok(format!("  node      {}{labels}\n  key-value {kept}\n{monitoring}", config.node))
}
