//! The directories in which certificates lie, and how those of a cluster are made.
//!
//! ```text
//! certs/
//!   authority/        signs all others: its key belongs on the control plane's machine, and into a backup
//!   control-plane/    what the control plane shows
//!   admin/            what the client's verbs show, unless --certs says otherwise
//!   node/             what the node of this machine shows, from `join`
//! ```

use std::path::{Path, PathBuf};

use wasmatrix_identity::{Authority, AuthorityError, Host, Order, Overwrite, Role};
use wasmatrix_model::{Clock as _, SystemClock};

use crate::{
    dirs,
    error::{CliError, chain},
};

/// The authority's directory.
pub(crate) const AUTHORITY: &str = "authority";
/// The control plane's.
pub(crate) const CONTROL_PLANE: &str = "control-plane";
/// The user's.
pub(crate) const ADMIN: &str = "admin";
/// The node's.
pub(crate) const NODE: &str = "node";
/// All of them, in a data directory.
pub(crate) const DIR: &str = "certs";
/// What an authority is called.
const AUTHORITY_NAME: &str = "Wasmatrix cluster";

/// The directory of all certificates: the one that was named, or the user's own.
///
/// # Errors
/// There is no home directory.
pub(crate) fn dir(named: Option<&Path>) -> Result<PathBuf, CliError> {
    let no_home = || CliError::usage("there is no home directory: say where certificates lie");
    named.map(Path::to_owned).or_else(dirs::certs).ok_or_else(no_home)
}

/// Opens the cluster's authority, or makes it if there is none. Gives whether it was made.
///
/// # Errors
/// It can't be read or made; half of it is there.
pub(crate) fn authority(certs: &Path) -> Result<(Authority, bool), CliError> {
    let dir = certs.join(AUTHORITY);
    let now = SystemClock.now();
    let files = [wasmatrix_identity::authority::CA_FILE, wasmatrix_identity::authority::CA_KEY_FILE];
    let there = files.iter().any(|file| dir.join(file).exists());
    let authority =
        if there { Authority::open(&dir, now) } else { Authority::create(&dir, AUTHORITY_NAME, now) };
    Ok((authority.map_err(refused)?, !there))
}

/// Makes a certificate and its key, and writes them.
///
/// # Errors
/// The order can't be signed, or the files can't be written.
pub(crate) fn issue(
    authority: &Authority,
    order: &Order,
    to: &Path,
    overwrite: Overwrite,
) -> Result<(), CliError> {
    let bundle = authority.issue(order, SystemClock.now()).map_err(refused)?;
    bundle.write(to, overwrite).map_err(|error| CliError::Host { message: chain(&error) })
}

/// What a control plane's certificate says: where it can be reached, this machine included.
pub(crate) fn control_plane(hosts: &[Host]) -> Order {
    let mut hosts = hosts.to_vec();
    hosts.extend([Host::Dns("localhost".to_owned())]);
    hosts.extend([[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()].map(Host::Ip));
    hosts.sort();
    hosts.dedup();
    Order::new(Role::ControlPlane).at(hosts)
}

/// An authority that did not do what it was asked for.
pub(crate) fn refused(error: AuthorityError) -> CliError {
    match error {
        AuthorityError::Order(order) => CliError::usage(order.to_string()),
        error => CliError::Host { message: chain(&error) },
    }
}
