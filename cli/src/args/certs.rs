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
    #[command(after_help = "\
Examples:
  wasmatrix certs show -o wide
  wasmatrix certs show --issued")]
    Show {
        /// Their directory, or the directory of several [default: certs in the data directory]
        #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
        dir: Option<PathBuf>,
        /// All that the authority there has signed and is in use, wherever it lies, those of nodes included
        #[arg(long, value_parser = FalseyValueParser::new())]
        issued: bool,
    },
    /// Take certificates back before their end, on open connections too
    Revoke(CertsRevoke),
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

/// `certs revoke`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wasmatrix certs revoke node/b
  wasmatrix certs revoke viewer --name monitoring
  wasmatrix certs revoke 5f6c0e…               a serial number, from `wasmatrix certs show --issued`
  wasmatrix certs revoke sha256:90b1…          a fingerprint, from `wasmatrix certs show -o wide`

Run it on the control plane's machine. It writes the certificates into revoked.txt beside the control plane's own. That
file is followed: within 5 seconds, or at SIGHUP at once, they open nothing any more, and what they opened is shut. A
node that was revoked is lost after the usual silence, and `wasmatrix node rm` gives up what it ran. It comes back with a
new certificate alone, by a token from `wasmatrix token create --node NAME`. A user gets another one by
`wasmatrix certs issue`. To take back what has been taken back already changes nothing. What was revoked by mistake is in
force again when its line is deleted from the file.")]
pub(crate) struct CertsRevoke {
    /// Whose: node/NAME, viewer, operator, admin; or which: a serial number or a fingerprint
    #[arg(value_name = "WHICH", required = true)]
    pub which: Vec<String>,
    /// Of that role, those of the holder with this name
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Of that role, those of all holders
    #[arg(long, conflicts_with = "name", value_parser = FalseyValueParser::new())]
    pub all: bool,
    /// Where the directories `authority` and `control-plane` lie [default: certs in the data directory]
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
    /// The credentials of who is to refuse them [default: control-plane in that directory]
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub list: Option<PathBuf>,
}
