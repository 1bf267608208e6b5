//! What a certificate is to say, by the will of who signs it.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use rustls::pki_types::DnsName;

use super::DAY;
use crate::{certificate::NAME_CHARS_MAX, role::Role};

/// Host names and addresses that one certificate may carry.
const HOSTS_MAX: usize = 64;

/// What a certificate is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub(super) role: Role,
    pub(super) name: String,
    pub(super) hosts: Vec<Host>,
    pub(super) validity: Duration,
}

impl Order {
    /// A certificate of that role, named like it, valid for as long as is usual: 30 days for a node (which renews it
    /// by itself), 90 days for a user, a year for the control plane.
    pub fn new(role: Role) -> Self {
        let validity = match &role {
            Role::Node(_) => 30 * DAY,
            Role::Admin | Role::Operator | Role::Viewer => 90 * DAY,
            Role::ControlPlane => 365 * DAY,
        };
        Self { name: role.to_string(), role, hosts: Vec::new(), validity }
    }

    /// Names the holder, for logs: 1 to 64 printable characters.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The host names and addresses at which the control plane answers. Its clients check them, so it needs at least
    /// one. Nodes are recognized by their id, and need none.
    #[must_use]
    pub fn at(mut self, hosts: impl IntoIterator<Item = Host>) -> Self {
        self.hosts.extend(hosts);
        self
    }

    /// For how long it is valid, from now, at most until the authority expires.
    #[must_use]
    pub fn valid_for(mut self, validity: Duration) -> Self {
        self.validity = validity;
        self
    }

    pub(super) fn check(&self) -> Result<(), BadOrder> {
        legal_name(&self.name)?;
        if self.role == Role::ControlPlane && self.hosts.is_empty() {
            return Err(BadOrder::NoHosts);
        }
        if self.hosts.len() > HOSTS_MAX {
            return Err(BadOrder::TooManyHosts(self.hosts.len()));
        }
        if self.validity < Duration::from_secs(1) || self.validity > super::AUTHORITY_VALIDITY {
            return Err(BadOrder::Validity);
        }
        Ok(())
    }
}

pub(super) fn legal_name(name: &str) -> Result<(), BadOrder> {
    let chars = name.chars().count();
    if chars == 0 || chars > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(BadOrder::Name(name.chars().take(80).filter(|char| !char.is_control()).collect()));
    }
    Ok(())
}

/// What can't be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOrder {
    /// The name is empty, long or unprintable.
    #[error("`{0}` is no name for a certificate: use 1 to {NAME_CHARS_MAX} printable characters")]
    Name(String),
    /// A control plane's certificate says where it answers.
    #[error(
        "a control plane's certificate needs the host names and addresses at which clients and nodes reach it"
    )]
    NoHosts,
    /// More hosts than a certificate is meant to carry.
    #[error("{0} host names and addresses are more than the {HOSTS_MAX} that one certificate may carry")]
    TooManyHosts(usize),
    /// Shorter than a second or longer than an authority's life.
    #[error("a certificate is valid for at least a second and at most ten years")]
    Validity,
}

/// A host name or address in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name, without wildcards.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl FromStr for Host {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<Self, NotAHost> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        match DnsName::try_from(text) {
            Ok(name) => Ok(Self::Dns(name.as_ref().to_ascii_lowercase())),
            Err(_) => Err(NotAHost(text.chars().take(120).filter(|char| !char.is_control()).collect())),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// Text that is neither a host name nor an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a host name nor an IP address")]
pub struct NotAHost(String);
