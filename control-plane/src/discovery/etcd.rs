//! Nodes and providers in etcd, for whoever wants to see them there; and for a control plane that has just begun.
//!
//! ```text
//! PREFIXnodes/NODE                 {"address": "https://10.0.0.2:7119", "version": "0.1.0"}
//! PREFIXproviders/NODE/CAPABILITY  {"backend": "redb", "phase": "running"}
//! ```
//!
//! All of them are under one lease of the control plane: they vanish some time after it does, and long after that they
//! would say nothing true. Nothing else is ever written, see [`key`].
//!
//! etcd is a convenience. When it can't be reached, that is said once in the log, and nothing else happens: no instance,
//! no node and no request depends on it. When it is back, even with nothing in it, everything is written again and what
//! changed meanwhile is told.
//!
//! | module | what it does |
//! |---|---|
//! | [`key`] | the only keys that there are |
//! | [`store`] | the only way to etcd, by those keys |
//! | [`published`] | what is to stand there |
//! | [`session`] | a connection with a lease, for as long as both last |

mod key;
mod published;
mod session;
mod store;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Uri;
use wasmatrix_model::{NodeId, Registration, failure::Invalid};

use super::{Discovery, Known, Sighting, sightings};
pub use key::Prefix;
use published::Published;
use session::Supervisor;

/// Where etcd is, and how it is used.
#[derive(Clone, Debug)]
pub struct Config {
    /// At least one of its members, e.g. `https://10.0.0.9:2379`.
    pub endpoints: Vec<String>,
    /// What every key begins with.
    pub prefix: Prefix,
    /// How long what was written stays after this process has ended, or lost etcd. In whole seconds.
    pub lease: Duration,
    /// How long etcd may take for an answer. At most half the lease.
    pub patience: Duration,
    /// What both ends prove themselves with. `None`: plain text.
    pub tls: Option<Tls>,
    /// Whether plain text beyond loopback is taken: whoever is on the way can read and change everything.
    pub plaintext_beyond_loopback: bool,
}

/// Certificates for the way to etcd: files in PEM, read at each connection, so that new ones are taken up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Of the authority that signed etcd's.
    pub authority: PathBuf,
    /// The certificate and the key that this process shows. `None`: it shows none.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Config {
    /// Default of [`Config::lease`]: long enough for a control plane to be restarted.
    pub const LEASE: Duration = Duration::from_secs(60);
    /// Default of [`Config::patience`].
    pub const PATIENCE: Duration = Duration::from_secs(5);
    /// Shortest lease: etcd makes shorter ones as long.
    pub const LEASE_MIN: Duration = Duration::from_secs(2);
    /// Longest lease.
    pub const LEASE_MAX: Duration = Duration::from_secs(86_400);
    /// Shortest patience.
    pub const PATIENCE_MIN: Duration = Duration::from_millis(100);
    /// Most endpoints.
    pub const ENDPOINTS_MAX: usize = 32;

    /// etcd at these endpoints, used as usual.
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            prefix: Prefix::default(),
            lease: Self::LEASE,
            patience: Self::PATIENCE,
            tls: None,
            plaintext_beyond_loopback: false,
        }
    }

    /// Checks what the types leave open.
    ///
    /// # Errors
    /// The first field that breaks a rule.
    pub fn validate(&self) -> Result<(), Invalid> {
        if !(1..=Self::ENDPOINTS_MAX).contains(&self.endpoints.len()) {
            let problem = format!("name 1 to {} members of the etcd cluster", Self::ENDPOINTS_MAX);
            return Err(Invalid::new("endpoints", problem));
        }
        self.endpoints.iter().try_for_each(|endpoint| self.validate_endpoint(endpoint))?;
        let (least, most) = (Self::LEASE_MIN, Self::LEASE_MAX);
        if !(least..=most).contains(&self.lease) || self.lease.subsec_nanos() != 0 {
            let problem =
                format!("{:?} is out of range: take whole seconds, {least:?} to {most:?}", self.lease);
            return Err(Invalid::new("lease", problem));
        }
        if self.patience < Self::PATIENCE_MIN || self.patience > self.lease / 2 {
            let least = Self::PATIENCE_MIN;
            let problem = format!("{:?} is out of range: take {least:?} to half the lease", self.patience);
            return Err(Invalid::new("patience", problem));
        }
        Ok(())
    }

    fn validate_endpoint(&self, endpoint: &str) -> Result<(), Invalid> {
        let shown: String = endpoint.chars().take(200).collect();
        let objection = |problem: &str| Err(Invalid::new("endpoints", format!("`{shown}` {problem}")));
        let Ok(uri) = endpoint.parse::<Uri>() else { return objection("is no URL") };
        match (uri.scheme_str(), &self.tls) {
            (Some("https"), Some(_)) => Ok(()),
            (Some("https"), None) => objection(
                "is spoken to over TLS, which needs the certificate of the authority that signed etcd's",
            ),
            (Some("http"), Some(_)) => objection("is plain text, and there are certificates: write https"),
            (Some("http"), None) => {
                let host = uri.host().unwrap_or_default();
                let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
                let loopback = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
                if loopback || self.plaintext_beyond_loopback {
                    return Ok(());
                }
                objection("is plain text beyond loopback: give certificates, or insist on plain text")
            }
            _ => objection("is no endpoint: write https://HOST:PORT"),
        }
    }
}

/// See the module's head. Ends when it is dropped; what it wrote stays until its lease ends.
#[derive(Debug)]
pub struct Etcd {
    known: watch::Sender<Known>,
    published: Arc<Published>,
    reached: watch::Receiver<bool>,
    _until_dropped: DropGuard,
}

impl Etcd {
    /// Begins to look for etcd and never stops. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The configuration breaks a rule. That etcd can't be reached is no error.
    pub fn begin(config: Config) -> Result<Self, Invalid> {
        config.validate()?;
        let known = watch::Sender::new(Known::default());
        let published = Arc::new(Published::default());
        let (reaching, reached) = watch::channel(false);
        let ending = CancellationToken::new();
        let supervisor =
            Supervisor { config, known: known.clone(), published: Arc::clone(&published), reached: reaching };
        let ended = ending.clone();
        tokio::spawn(async move { ended.run_until_cancelled(supervisor.supervise()).await });
        Ok(Self { known, published, reached, _until_dropped: ending.drop_guard() })
    }

    /// Whether etcd is reached: what is published stands there, and what stands there is seen.
    pub fn reached(&self) -> watch::Receiver<bool> {
        self.reached.clone()
    }
}

impl Discovery for Etcd {
    fn watch(&self) -> BoxStream<'static, Sighting> {
        sightings(self.known.subscribe())
    }

    fn publish(&self, registration: &Registration) {
        self.published.publish(registration);
    }

    fn withdraw(&self, node: &NodeId) {
        self.published.withdraw(node);
    }
}
