//! Where a control plane learns of nodes, beside those that attend by themselves: a list on the command line, or etcd.

use std::sync::Arc;

use wasmatrix_control_plane::discovery::{Discovery, Static};

use crate::{
    args::{ControlPlane, Global},
    error::CliError,
};

/// What the flags name; `None`: nothing.
///
/// # Errors
/// An entry of the list is none, a rule for etcd is broken, or this build knows nothing of etcd.
pub(super) fn discovery(
    args: &ControlPlane,
    global: &Global,
) -> Result<Option<Arc<dyn Discovery>>, CliError> {
    if !args.etcd.is_empty() {
        return etcd(args, global).map(Some);
    }
    if args.nodes.is_empty() {
        return Ok(None);
    }
    let list = Static::parse(&args.nodes)
        .map_err(|invalid| CliError::usage(format!("--static: {}", invalid.problem)))?;
    Ok(Some(Arc::new(list)))
}

#[cfg(feature = "etcd")]
fn etcd(args: &ControlPlane, global: &Global) -> Result<Arc<dyn Discovery>, CliError> {
    use std::path::PathBuf;

    use wasmatrix_control_plane::discovery::{
        Etcd,
        etcd::{Config, Tls},
    };
    use wasmatrix_identity::credentials::{CA_FILE, CERT_FILE, KEY_FILE};

    let there = |path: PathBuf| match std::fs::File::open(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(CliError::file(path, &error)),
    };
    let tls = match &args.etcd_certs {
        None => None,
        Some(dir) => {
            let [authority, certificate, key] = [CA_FILE, CERT_FILE, KEY_FILE].map(|file| dir.join(file));
            // Whoever asks for no certificate is shown none.
            let shows = certificate.exists() || key.exists();
            let identity = if shows { Some((there(certificate)?, there(key)?)) } else { None };
            Some(Tls { authority: there(authority)?, identity })
        }
    };
    // What helps, by the names that it has here.
    let hint = match &tls {
        None if args.etcd.iter().any(|url| url.contains("://")) => {
            "; --etcd-certs names a folder of certificates, and --insecure-plaintext-i-trust-this-network insists on plain text"
        }
        _ => "",
    };
    let config = Config {
        tls,
        plaintext_beyond_loopback: global.insecure_plaintext_i_trust_this_network,
        ..Config::new(args.etcd.clone())
    };
    let etcd = Etcd::begin(config)
        .map_err(|invalid| CliError::usage(format!("--etcd: {}{hint}", invalid.problem)))?;
    Ok(Arc::new(etcd))
}

#[cfg(not(feature = "etcd"))]
fn etcd(_: &ControlPlane, _: &Global) -> Result<Arc<dyn Discovery>, CliError> {
    Err(CliError::usage(
        "this wasmatrix was built without etcd: build it with `cargo build -p wasmatrix --features etcd`, or leave --etcd \
         out; nodes that attend are known without it",
    ))
}
