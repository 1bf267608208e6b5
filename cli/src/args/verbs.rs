//! What each verb takes beside the global flags.

use std::{ffi::OsString, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, builder::FalseyValueParser};
use wasmatrix_model::{Grant, InstanceName, NodeId};

use super::{Definition, PlacementArgs, Restart};
use crate::value;

/// Where key-value data is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KvPlace {
    /// In memory: gone with the process.
    Memory,
    /// In this file.
    File(PathBuf),
}

impl FromStr for KvPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("write `memory`, or the path of a file".to_owned()),
            "memory" => Ok(Self::Memory),
            path => Ok(Self::File(path.into())),
        }
    }
}

/// Where compiled programs are kept.
#[derive(Clone, Debug, Args)]
pub(crate) struct CacheArgs {
    /// Where compiled programs are kept [default: $XDG_CACHE_HOME/wasmatrix]
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    pub cache_dir: Option<PathBuf>,
    /// Keep no compiled programs
    #[arg(long, value_parser = FalseyValueParser::new())]
    pub no_cache: bool,
}

/// `run`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmatrix run hello.wasm arg1 --flags-here-are-the-guests-own
  wasmatrix run --grant kv:read,kv:write --kv counter.redb counter.wasm
  cat data | wasmatrix run --memory 64MiB --wall-time 10s filter.wasm > out

Everything after FILE goes to the guest. It gets its stdio from you and nothing else that it was not granted.
Exit codes: the guest's own; 124 wall time, 126 can't be run, 134 trap, 137 other limits; `wasmatrix help exit-codes` has all.")]
pub(crate) struct Run {
    /// Where its key-value data is kept: `memory`, or the path of a file
    #[arg(long, value_name = "PLACE", default_value = "memory")]
    pub kv: KvPlace,
    /// Where compiled programs are kept.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// A component or WASI preview-1 module, and the arguments it is given
    #[arg(value_name = "FILE [ARGS]", required = true, trailing_var_arg = true, value_hint = clap::ValueHint::FilePath)]
    pub program: Vec<OsString>,
    // Last, because the heading of its limits holds for all that follows.
    /// What it may do and use.
    #[command(flatten)]
    pub definition: Definition,
}

/// `start`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmatrix start counter.wasm --grant kv:read,kv:write --restart on-failure
  wasmatrix start worker.wasm --name worker-2 --memory 64MiB --cpu 50% -- --queue mail
  wasmatrix start web.wasm --replicas 3 --label zone=eu-1 --on-node-loss restart-elsewhere

Waits until the first run has begun. If it can't begin, says why, exits non-zero, and lists it as crashed.")]
pub(crate) struct Start {
    /// A component or WASI preview-1 module
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
    /// The arguments it is given
    #[arg(last = true)]
    pub args: Vec<String>,
    /// What it may do and use.
    #[command(flatten)]
    pub definition: Definition,
    /// When it is started again.
    #[command(flatten)]
    pub restart: Restart,
    /// Where it may run, and how many of it.
    #[command(flatten)]
    pub placement: PlacementArgs,
}

/// `ps`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmatrix ps -o wide
  wasmatrix ps --node b
  wasmatrix ps --watch -o json | jq -r '.change + \" \" + .instance.spec.name'

With --watch, a terminal shows the list as it is now; elsewhere there is a line for each change.")]
pub(crate) struct Ps {
    /// Go on with what changes, until Ctrl-C
    #[arg(short, long, value_parser = FalseyValueParser::new())]
    pub watch: bool,
    /// Only those on this node
    #[arg(long, value_name = "NODE")]
    pub node: Option<NodeId>,
}

/// `get`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wasmatrix get counter -o yaml")]
pub(crate) struct Get {
    /// Its name or id
    pub name: String,
}

/// `logs`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmatrix logs -f counter
  wasmatrix logs --tail 20 -o wide counter")]
pub(crate) struct Logs {
    /// Go on with the lines to come, until Ctrl-C
    #[arg(short, long, value_parser = FalseyValueParser::new())]
    pub follow: bool,
    /// Only the last so many of the lines kept
    #[arg(long, value_name = "COUNT")]
    pub tail: Option<u32>,
    /// Its name or id
    pub name: String,
}

/// `events`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmatrix events --instance counter
  wasmatrix events --watch -o json | jq .fact

The JSON of an event holds its resume_token: --since goes on after it.
Should the control plane end and begin again, --watch goes on where it was and says so on standard error.")]
pub(crate) struct Events {
    /// Go on with what happens from now on, until Ctrl-C
    #[arg(short, long, value_parser = FalseyValueParser::new())]
    pub watch: bool,
    /// Only what is about this instance, by name or id
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// Only what came after the event with this resume token
    #[arg(long, value_name = "TOKEN")]
    pub since: Option<String>,
}

/// `stop`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wasmatrix stop counter worker --grace 1s")]
pub(crate) struct Stop {
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// How long calls to the host in flight may take; code that computes is stopped at once
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = value::duration)]
    pub grace: Duration,
}

/// `rm`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wasmatrix rm --force counter")]
pub(crate) struct Remove {
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Stop those first that have not ended
    #[arg(short, long, value_parser = FalseyValueParser::new())]
    pub force: bool,
}

/// `grant` and `revoke`
#[derive(Debug, Args)]
pub(crate) struct Grants {
    /// Its name or id
    pub name: String,
    /// CAPABILITY:ACTION[:BUCKET[/KEYS]], e.g. kv:read or kv:write:settings/ui/*; all or none take effect
    #[arg(required = true, value_name = "GRANT", value_delimiter = ',')]
    pub grants: Vec<Grant>,
}

/// `apply`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  wasmatrix apply -f app.toml

Says of each instance whether it was created, is there unchanged, or is there with another definition (conflict).
Nothing that exists is changed: stop and remove it first. See `wasmatrix validate --help` for what the file holds.")]
pub(crate) struct Apply {
    /// The file; - is standard input
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
}

/// `validate`
#[derive(Debug, Args)]
#[command(after_help = "\
Example of an app.toml:
  [[instance]]
  name = \"counter\"
  file = \"counter.wasm\"            # relative to this file
  executor = \"wasmtime\"
  grants = [\"kv:read\", \"kv:write:settings/*\"]
  env = { GREETING = \"hello\" }
  [instance.limits]
  memory = \"64MiB\"
  wall_time = \"10s\"
  [instance.restart]
  policy = \"on-failure\"
  backoff_initial = \"1s\"
  [instance.placement]
  labels = { zone = \"eu-1\" }       # only nodes with this label
  on_node_loss = \"restart-elsewhere\"

With `replicas = 3` there are counter-0, counter-1 and counter-2, spread over the nodes.")]
pub(crate) struct Validate {
    /// The file; - is standard input
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
}

/// `inspect`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wasmatrix inspect counter.wasm -o yaml")]
pub(crate) struct Inspect {
    /// A Wasm binary
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
}

/// `doctor`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  wasmatrix doctor -o json

Exits 0 if instances can be run on wasmtime here; warnings do not count.")]
pub(crate) struct Doctor {
    /// Where key-value data would lie [default: $XDG_DATA_HOME/wasmatrix]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where compiled programs would lie [default: $XDG_CACHE_HOME/wasmatrix]
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
}

/// `completion`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  source <(wasmatrix completion bash)")]
pub(crate) struct Completion {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// `man`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  wasmatrix man ./man1 && man ./man1/wasmatrix-run.1")]
pub(crate) struct Man {
    /// Where to; it is made if it is not there
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub dir: PathBuf,
}

/// What `start`'s default name is made of, for both verbs that need one.
impl Start {
    /// A name for it, if none was given.
    pub(crate) fn default_name(&self) -> InstanceName {
        value::name_from_file(&self.file)
    }
}
