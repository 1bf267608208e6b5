//! What the verbs take that are about nodes: `node`, `provider`, `token`.

use std::time::Duration;

use clap::{Args, Subcommand};
use wasmatrix_model::{Capability, NodeId};

use crate::value;

/// `node`
#[derive(Debug, Subcommand)]
pub(crate) enum NodeVerb {
    /// List nodes, what they can run and what they offer
    #[command(visible_alias = "ls", after_help = "Example:\n  wasmatrix node list -o wide")]
    List,
    /// Show one node whole
    #[command(after_help = "Example:\n  wasmatrix node get b -o yaml")]
    Get {
        /// The node
        node: NodeId,
    },
    /// Let a node take no new instances; what runs there goes on
    #[command(after_help = "Example:\n  wasmatrix node cordon b")]
    Cordon {
        /// The node
        node: NodeId,
    },
    /// Let a node take instances again
    #[command(after_help = "Example:\n  wasmatrix node uncordon b")]
    Uncordon {
        /// The node
        node: NodeId,
    },
    /// Cordon a node and end what runs there
    Drain(Drain),
    /// Forget a node that is lost, and the instances that are unknown with it
    #[command(
        visible_alias = "forget",
        after_help = "Example:\n  wasmatrix node rm b\n\nShould it return, it is known again, and so is what runs there."
    )]
    Rm {
        /// The node
        node: NodeId,
    },
}

/// `node drain`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  wasmatrix node drain b && wasmatrix node list

Instances with on-node-loss = restart-elsewhere are stopped and started again on other nodes; the others are stopped.
Ctrl-C ends the drain and leaves the node cordoned: `wasmatrix node drain` goes on, `wasmatrix node uncordon` takes it
back. Exits non-zero if an instance could be neither.")]
pub(crate) struct Drain {
    /// The node
    pub node: NodeId,
    /// How long calls to the host in flight may take, of each instance
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = value::duration)]
    pub grace: Duration,
}

/// `provider`
#[derive(Debug, Subcommand)]
pub(crate) enum ProviderVerb {
    /// List providers
    #[command(visible_alias = "ls", after_help = "Example:\n  wasmatrix provider list")]
    List,
    /// Let a provider answer again
    #[command(after_help = "Example:\n  wasmatrix provider start kv --node b")]
    Start {
        /// What it offers, e.g. kv
        capability: Capability,
        /// On which node [default: the only one there is]
        #[arg(long, value_name = "NODE")]
        node: Option<NodeId>,
    },
    /// Let a provider finish what it has and take nothing new; calls to it are then refused as unavailable
    #[command(after_help = "Example:\n  wasmatrix provider stop kv --drain 2s --node b")]
    Stop {
        /// What it offers, e.g. kv
        capability: Capability,
        /// How long calls in flight may take
        #[arg(long, value_name = "TIME", default_value = "5s", value_parser = value::duration)]
        drain: Duration,
        /// On which node [default: the only one there is]
        #[arg(long, value_name = "NODE")]
        node: Option<NodeId>,
    },
}

/// `token`
#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Make a token with which one machine may join, once
    #[command(after_help = "\
Examples:
  wasmatrix token create
  wasmatrix join 10.0.0.1:7118 --token \"$(wasmatrix token create --node b -o name)\" --node b

It is a secret, good for one machine and until its time is up. It holds the fingerprint of the control plane's
authority too, so that who joins knows whom to believe.")]
    Create {
        /// How long it can be used, at most 24h
        #[arg(long, value_name = "TIME", default_value = "15m", value_parser = value::duration)]
        valid_for: Duration,
        /// The only node that may use it [default: any that has no certificate yet]
        #[arg(long, value_name = "NODE")]
        node: Option<NodeId>,
    },
}
