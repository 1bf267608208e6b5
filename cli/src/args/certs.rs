//! What `certs` takes.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, builder::FalseyValueParser};
use wasmatrix_identity::{Host, Role};

use crate::value;

/// `certs`
#[derive(Debug, Subcommand)]
pub(crate) enum CertsVerb {
    /// Make a cluster's authority, and certificates for its control plane and for you
    Init(CertsInit),
    /// Make one certificate, signed by the cluster's authority
    Issue(CertsIssue),
    /// Say of whom certificates are, until when, and what is wrong with them
    #[command(after_help = "Example:\n  wasmatrix certs show -o wide")]
    Show {
        /// Their directory, or the directory of several [default: certs in the data directory]
        #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

/// `certs init`
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  wasmatrix certs init --host 10.0.0.1 --host control.example
  wasmatrix control-plane --cluster-listen 10.0.0.1:7118

`wasmatrix up --cluster-listen` and `wasmatrix control-plane --cluster-listen` do this by themselves. What is there
stays as it is.")]
pub(crate) struct CertsInit {
    /// Where to [default: certs in the data directory]
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// A name or address at which the control plane is reached, beside localhost; repeatable
    #[arg(long = "host", value_name = "HOST")]
    pub hosts: Vec<Host>,
}

/// `certs issue`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmatrix certs issue viewer --name monitoring --out ./monitoring
  wasmatrix certs issue operator --name alice --valid-for 30d --out ./alice
  wasmatrix certs issue control-plane --host 10.0.0.1 --force

admin may do everything; operator may change what runs; viewer may look. A node gets its certificate by itself, with
`wasmatrix join`; node/NAME makes one where that can't be. Copy the whole directory to its holder, and name it there
with --certs or WASMATRIX_CERTS. A process that uses it takes the new one without a restart.")]
pub(crate) struct CertsIssue {
    /// Whose it is: admin, operator, viewer, node/NAME or control-plane
    #[arg(value_name = "ROLE")]
    pub role: Role,
    /// What its holder is called in logs [default: the role]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// A name or address at which the holder is reached; repeatable, for a control plane
    #[arg(long = "host", value_name = "HOST")]
    pub hosts: Vec<Host>,
    /// How long it is good [default: 90d for users, 30d for nodes, 365d for a control plane]
    #[arg(long, value_name = "TIME", value_parser = value::duration)]
    pub valid_for: Option<Duration>,
    /// Where it is written [default: beside the authority, named like the role]
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// Where the directory `authority` lies [default: certs in the data directory]
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// Replace the one that is there
    #[arg(short, long, value_parser = FalseyValueParser::new())]
    pub force: bool,
}
