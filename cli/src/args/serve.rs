//! What the verbs take that serve: `up`, `join`, `control-plane`, `agent`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, builder::FalseyValueParser};
use wasmatrix_identity::Host;
use wasmatrix_model::NodeId;

use super::{CacheArgs, KvPlace};
use crate::value;

/// What a node is made of.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "The node")]
pub(crate) struct NodeArgs {
    /// What it is called [default: what its certificate says, or what it was called before, or a name after the host;
    /// `local`, if it is the only one]
    #[arg(long, value_name = "NAME")]
    pub node: Option<NodeId>,
    /// What is said of it, e.g. zone=eu-1, for `start --label`; repeatable
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = value::pair)]
    pub labels: Vec<(String, String)>,
    /// Where key-value data is kept instead of kv.redb in the data directory: `memory`, or the path of a file
    #[arg(long, value_name = "PLACE")]
    pub kv: Option<KvPlace>,
    /// Where compiled programs are kept.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Most instances listed at one time [default: as many as the node can hold]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub instances_max: Option<u32>,
    /// Most memory that the limits of its instances may add up to, e.g. 8GiB [default: any sum]
    #[arg(long, value_name = "SIZE", value_parser = value::size)]
    pub memory_max: Option<u64>,
    /// Where /metrics, /livez and /readyz are served over HTTP [default: nowhere]
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics_listen: Option<SocketAddr>,
}

/// Where the files of a process that serves lie, and how it ends.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlaceArgs {
    /// Where its files lie: key-value data, certificates, the node's name [default: $XDG_DATA_HOME/wasmatrix]
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub data_dir: Option<PathBuf>,
    /// How long requests in flight, and instances, may take to end when it ends
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = value::duration)]
    pub grace: Duration,
}

/// What a control plane is made of.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "The control plane")]
pub(crate) struct ControlArgs {
    /// Where it listens for clients and agents on this machine, in plain text
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7117")]
    pub listen: SocketAddr,
    /// Where it listens for clients and agents on other machines, over TLS with certificates on both ends [default:
    /// nowhere]
    #[arg(long, value_name = "ADDR:PORT")]
    pub cluster_listen: Option<SocketAddr>,
    /// A name or address at which other machines reach it, beside that of --cluster-listen; repeatable
    #[arg(long = "host", value_name = "HOST")]
    pub hosts: Vec<Host>,
    /// How long the certificates of nodes are good, 10 s to 365 d: each renews its own when a third is left [default: 30d]
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    pub node_certs_valid_for: Option<Duration>,
    /// How often nodes say that they are there
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = value::duration)]
    pub heartbeat: Duration,
    /// After how much silence a node takes no new instances
    #[arg(long, value_name = "TIME", default_value = "6s", value_parser = value::duration)]
    pub suspect_after: Duration,
    /// After how much silence a node is lost: its instances are unknown, or restarted elsewhere
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = value::duration)]
    pub lost_after: Duration,
}

/// `up`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmatrix up
  wasmatrix up --listen 127.0.0.1:7200 --data-dir ./data --metrics-listen 127.0.0.1:9117
  wasmatrix up --cluster-listen 10.0.0.1:7118

With --cluster-listen other machines can join: it makes the certificates that this takes, in the data directory, and
prints what to type on the other machine.

The first Ctrl-C or SIGTERM drains: nothing new is taken, and what runs is stopped within the grace period.
The second one ends everything at once. SIGHUP reads the certificates again.")]
pub(crate) struct Up {
    /// Where files lie, and how it ends.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// What the control plane is made of.
    #[command(flatten)]
    pub control: ControlArgs,
    /// What the node is made of.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `control-plane`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmatrix control-plane
  wasmatrix control-plane --cluster-listen 10.0.0.1:7118 --host control.example
  wasmatrix control-plane --static b=http://127.0.0.1:7201

It keeps nothing on disk but its certificates. When it has been restarted, the agents attend again by themselves and it
asks them what there is; one that --static or --etcd names and that does not come is listed as missing. Instances do not
notice.

SIGTERM ends it when the requests in flight are done, within the grace period. SIGHUP reads the certificates again.")]
pub(crate) struct ControlPlane {
    /// A node that is to attend, and its agent's address: listed as missing until it does; repeatable
    #[arg(long = "static", value_name = "NODE=URL", conflicts_with = "etcd")]
    pub nodes: Vec<String>,
    /// A member of an etcd in which nodes and providers are published, and looked for; repeatable
    #[arg(long, value_name = "URL")]
    pub etcd: Vec<String>,
    /// Where the certificates for etcd lie: ca.pem, and cert.pem with key.pem if it asks for them
    #[arg(long, value_name = "DIR", requires = "etcd", value_hint = clap::ValueHint::DirPath)]
    pub etcd_certs: Option<PathBuf>,
    /// How long after its begin starts wait whose names are not known: a node may not have told of them yet
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = value::duration)]
    pub settle: Duration,
    /// Where files lie, and how it ends.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// What it is made of.
    #[command(flatten)]
    pub control: ControlArgs,
}

/// `agent`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmatrix agent --control-plane http://127.0.0.1:7117 --listen 127.0.0.1:7201 --node b --data-dir ./b
  wasmatrix agent --control-plane https://10.0.0.1:7118 --certs /etc/wasmatrix/node --listen 10.0.0.2:7119

A node without a control plane in its process. With https:// it shows the certificate in --certs, which also says what
the node is called; `wasmatrix join` gets one by itself, and `wasmatrix certs issue node/NAME` makes one. It is renewed
by the control plane when a third of its time is left, and kept in --certs; with --no-renew that is left to you, and the
log says in time when it ends. Instances end with the process; what they stored does not.

The first SIGTERM drains, the second one ends everything at once, SIGHUP reads the certificates again.")]
pub(crate) struct Agent {
    /// The control plane
    #[arg(long, value_name = "URL", default_value = super::ADDR_DEFAULT)]
    pub control_plane: String,
    /// Where it listens for the control plane
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7119")]
    pub listen: SocketAddr,
    /// Where the control plane reaches it, if that is not where it listens
    #[arg(long, value_name = "HOST:PORT", value_parser = value::authority)]
    pub advertise: Option<String>,
    /// Leave the certificate as it is, because something else renews it; what is put in its place is taken up
    #[arg(long, value_parser = FalseyValueParser::new())]
    pub no_renew: bool,
    /// Where files lie, and how it ends.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// What the node is made of.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `join`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmatrix join 10.0.0.1:7118 --token wmx1.…
  wasmatrix join 10.0.0.1:7118
  wasmatrix join 10.0.0.1:7118 --token-file ./token --node b --label zone=eu-1 --memory-max 8GiB

`wasmatrix up --cluster-listen` prints the first one whole, and `wasmatrix token create` makes the token. It is needed
once: key and certificate are kept in the data directory, for this user alone.

The first Ctrl-C or SIGTERM drains, the second one ends everything at once, SIGHUP reads the certificates again.")]
pub(crate) struct Join {
    /// Where the control plane listens for other machines, as its --cluster-listen says
    #[arg(value_name = "ADDR:PORT", value_parser = value::authority)]
    pub control_plane: String,
    /// A join token. It is a secret, and others on this machine can read a command line: --token-file, or
    /// WASMATRIX_TOKEN, keeps it from them
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    pub token: Option<String>,
    /// A file that holds the join token; - is standard input
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub token_file: Option<PathBuf>,
    /// Only get the certificate; the node is run by a later `wasmatrix join`, or by `wasmatrix agent`
    #[arg(long, value_parser = FalseyValueParser::new())]
    pub enroll_only: bool,
    /// Where it listens for the control plane [default: port 7119 of the address from which it reaches it]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where the control plane reaches it, if that is not where it listens
    #[arg(long, value_name = "HOST:PORT", value_parser = value::authority)]
    pub advertise: Option<String>,
    /// Where files lie, and how it ends.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// What the node is made of.
    #[command(flatten)]
    pub node: NodeArgs,
}
