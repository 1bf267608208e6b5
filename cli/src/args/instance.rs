//! The flags that define an instance: what it may do, how much it may use, when it is started again.

use std::time::Duration;

use clap::Args;
use wasmatrix_model::{
    Digest, ExecutorKind, Grant, InstanceName, InstanceSpec, Limits, NodeId, OnNodeLoss, Placement,
    RestartMode, RestartPolicy, failure::Invalid,
};

use crate::value;

/// What `run` and `start` both take.
#[derive(Clone, Debug, Args)]
pub(crate) struct Definition {
    /// What to call it; also the namespace of its key-value buckets [default: the file's name]
    #[arg(long)]
    pub name: Option<InstanceName>,
    /// How strongly it is walled off: wasmtime (in process) or microvm (a virtual machine of its own)
    #[arg(long, default_value_t = ExecutorKind::Wasmtime)]
    pub executor: ExecutorKind,
    /// What it may do, e.g. kv:read or kv:write:settings/ui/*; repeatable, or a list with commas
    #[arg(long = "grant", value_name = "GRANT", value_delimiter = ',')]
    pub grants: Vec<Grant>,
    /// An environment variable; repeatable. It sees none of yours
    #[arg(long, value_name = "NAME=VALUE", value_parser = value::pair)]
    pub env: Vec<(String, String)>,
    /// An entry of its wasi:config; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = value::pair)]
    pub config: Vec<(String, String)>,
    /// What it may use.
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// How much it may use.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Linear memory, e.g. 64MiB [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = value::size)]
    pub memory: Option<u64>,
    /// Wall time of one run, e.g. 10s [default: as long as it likes]
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    pub wall_time: Option<Duration>,
    /// Share of one processor core, e.g. 50% or 500ms a second [default: 100%]
    #[arg(long, value_name = "SHARE", value_parser = value::cpu)]
    pub cpu: Option<u32>,
    /// Elements of all tables together [default: 200000]
    #[arg(long, value_name = "COUNT")]
    pub table_elements: Option<u64>,
    /// Resource handles held at one time [default: 10000]
    #[arg(long, value_name = "COUNT")]
    pub handles: Option<u32>,
    /// Log lines taken in a second; what is over is dropped and counted [default: 1000]
    #[arg(long, value_name = "COUNT")]
    pub log_lines_per_second: Option<u32>,
    /// Longest log line; a longer one is cut [default: 8KiB]
    #[arg(long, value_name = "SIZE", value_parser = value::size)]
    pub log_line_bytes: Option<u64>,
    /// Log lines kept for `wasmatrix logs` [default: 1000]
    #[arg(long, value_name = "COUNT")]
    pub log_lines_kept: Option<u32>,
}

/// When it is started again.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Restarts")]
pub(crate) struct Restart {
    /// After which ends it is started again: never, on-failure or always
    #[arg(long, value_name = "POLICY", default_value_t = RestartMode::Never)]
    pub restart: RestartMode,
    /// Restarts in a row before it is given up [default: it is not]
    #[arg(long, value_name = "COUNT")]
    pub restart_max: Option<u32>,
    /// First wait in a row; each later one is twice as long [default: 1s]
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    pub backoff_initial: Option<Duration>,
    /// Longest wait [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    pub backoff_max: Option<Duration>,
    /// How much of a wait is left to chance, in percent [default: 10]
    #[arg(long, value_name = "PERCENT")]
    pub backoff_jitter: Option<u8>,
    /// How long a run must last to begin a new row [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    pub restart_reset: Option<Duration>,
}

/// Where it may run, and how many of it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Placement")]
pub(crate) struct PlacementArgs {
    /// Only on nodes with this label, e.g. zone=eu-1; repeatable, and then only on nodes with all of them
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = value::pair)]
    pub labels: Vec<(String, String)>,
    /// Only on this node [default: the least loaded of those that will do]
    #[arg(long, value_name = "NODE")]
    pub node: Option<NodeId>,
    /// Start so many, named NAME-0, NAME-1 and so on, spread over the nodes
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(REPLICAS_MAX)))]
    pub replicas: Option<u32>,
    /// What becomes of it when its node is lost: leave, or restart-elsewhere
    #[arg(long, value_name = "ANSWER", default_value_t = OnNodeLoss::Leave)]
    pub on_node_loss: OnNodeLoss,
}

/// Most replicas that one start asks for.
pub(crate) const REPLICAS_MAX: u32 = 1000;

impl PlacementArgs {
    /// The placement that the flags describe.
    ///
    /// # Errors
    /// A label breaks a rule or is given twice.
    pub(crate) fn placement(&self) -> Result<Placement, Invalid> {
        Ok(Placement {
            node: self.node.clone(),
            labels: value::labels(&self.labels)?,
            group: None,
            on_node_loss: self.on_node_loss,
        })
    }
}

impl Definition {
    /// The spec of an instance that runs `digest` and is never started again.
    ///
    /// # Errors
    /// The first value that breaks a rule.
    pub(crate) fn spec(
        &self,
        default_name: InstanceName,
        digest: Digest,
        args: Vec<String>,
    ) -> Result<InstanceSpec, Invalid> {
        let mut spec = InstanceSpec::new(self.name.clone().unwrap_or(default_name), digest);
        spec.executor = self.executor;
        spec.args = args;
        spec.env = self.env.iter().cloned().collect();
        spec.config = self.config.iter().cloned().collect();
        for grant in &self.grants {
            spec.grants.assign(grant.clone())?;
        }
        spec.limits = self.limits.limits();
        spec.validate()?;
        Ok(spec)
    }
}

impl LimitArgs {
    fn limits(&self) -> Limits {
        let default = Limits::default();
        Limits {
            memory_bytes_max: self.memory.unwrap_or(default.memory_bytes_max),
            table_elements_max: self.table_elements.unwrap_or(default.table_elements_max),
            handles_max: self.handles.unwrap_or(default.handles_max),
            wall_time_max: self.wall_time.or(default.wall_time_max),
            cpu_millis_per_second: self.cpu.unwrap_or(default.cpu_millis_per_second),
            log_lines_per_second: self.log_lines_per_second.unwrap_or(default.log_lines_per_second),
            // What does not fit the type is over the limit's ceiling by far; validation says so.
            log_line_bytes_max: self
                .log_line_bytes
                .map_or(default.log_line_bytes_max, |bytes| u32::try_from(bytes).unwrap_or(u32::MAX)),
            log_lines_kept: self.log_lines_kept.unwrap_or(default.log_lines_kept),
        }
    }
}

impl Restart {
    /// The policy that the flags describe; whether its waits make sense together is checked with the spec.
    pub(crate) fn policy(&self) -> RestartPolicy {
        let default = RestartPolicy::with_mode(self.restart);
        let backoff_initial = self.backoff_initial.unwrap_or(default.backoff_initial);
        RestartPolicy {
            mode: self.restart,
            backoff_initial,
            // Only an explicit maximum can contradict an explicit beginning.
            backoff_max: self.backoff_max.unwrap_or(default.backoff_max.max(backoff_initial)),
            jitter_percent: self.backoff_jitter.unwrap_or(default.jitter_percent),
            restarts_max: self.restart_max.or(default.restarts_max),
            reset_after: self.restart_reset.unwrap_or(default.reset_after),
        }
    }
}
