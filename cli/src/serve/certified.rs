//! The certificates of a process that serves: made where there is an authority, followed while they are in use, and
//! renewed before they end.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::signal::unix::{self, SignalKind};
use wasmatrix_control_plane::Joining;
use wasmatrix_identity::{
    Credentials, Following, Host, LiveCredentials, Order, Overwrite, Reloaded, Role, credentials::Revoked,
};
use wasmatrix_model::{Clock, SystemClock};

use crate::{certs, error::CliError};

/// How often files of certificates are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often it is asked whether the control plane's certificate is near its end.
const RENEWAL_LOOK_EVERY: Duration = Duration::from_secs(3600);

/// Credentials in use.
pub(super) struct Certified {
    pub(super) credentials: LiveCredentials,
    _following: Following,
}

impl Certified {
    /// Reads the credentials in `dir`, and follows them from now on.
    ///
    /// # Errors
    /// They can't be used; the message says why and what to do.
    pub(super) fn open(dir: &Path) -> Result<Self, CliError> {
        let credentials = LiveCredentials::open(dir, Arc::new(SystemClock))
            .map_err(|error| CliError::certificate(&error))?;
        let following = credentials.follow(LOOK_EVERY);
        Ok(Self { credentials, _following: following })
    }

    /// Reads the files at each SIGHUP too. Where that means that a terminal was closed, it ends the process, as it
    /// would have without this.
    pub(super) fn reload_on_hangup(&self) {
        if std::io::stderr().is_terminal() {
            return;
        }
        let Ok(mut hangups) = unix::signal(SignalKind::hangup()) else {
            tracing::warn!("SIGHUP can't be listened for; files of certificates are followed all the same");
            return;
        };
        let credentials = self.credentials.clone();
        tokio::spawn(async move {
            while hangups.recv().await.is_some() {
                let credentials = credentials.clone();
                let read = tokio::task::spawn_blocking(move || credentials.reload_now()).await;
                // Why files are not taken is logged where it is found out.
                if let Ok(Ok(Reloaded::Unchanged)) = read {
                    tracing::info!("the certificates were read again and are what they were");
                }
            }
        });
    }
}

/// The certificates of a control plane: its own, those of the user who runs it, and what signs those of nodes.
pub(super) struct ControlCerts {
    dir: PathBuf,
    pub(super) certified: Certified,
    pub(super) joining: Arc<Joining>,
    /// The user's.
    pub(super) admin: PathBuf,
}

impl ControlCerts {
    /// Makes what is missing in `certs`, and a new certificate for the control plane: the addresses at which it is
    /// reached may be others than before.
    ///
    /// # Errors
    /// Half an authority is there, or something can't be read or written.
    pub(super) fn prepare(
        certs: &Path,
        hosts: &[Host],
        nodes_valid_for: Option<Duration>,
    ) -> Result<Self, CliError> {
        let (authority, _) = certs::authority(certs)?;
        let own = certs.join(certs::CONTROL_PLANE);
        certs::issue(&authority, &certs::control_plane(hosts), &own, Overwrite::Replace)?;
        let admin = certs.join(certs::ADMIN);
        if is_due(&admin, &own) {
            certs::issue(&authority, &Order::new(Role::Admin), &admin, Overwrite::Replace)?;
        }
        let joining = Joining::new(authority, Arc::new(SystemClock)).valid_for(nodes_valid_for);
        let joining = Arc::new(joining);
        Ok(Self { dir: certs.to_owned(), certified: Certified::open(&own)?, joining, admin })
    }

    /// Renews the control plane's certificate before it ends, for as long as the process lives.
    pub(super) fn renew(&self, hosts: Vec<Host>) {
        let (certs, credentials) = (self.dir.clone(), self.certified.credentials.clone());
        tokio::spawn(async move {
            let mut looks = tokio::time::interval(RENEWAL_LOOK_EVERY);
            loop {
                looks.tick().await;
                if !credentials.current().identity().renewal_due(credentials.clock().now()) {
                    continue;
                }
                let order = certs::control_plane(&hosts);
                let issued = certs::authority(&certs).and_then(|(authority, _)| {
                    certs::issue(&authority, &order, credentials.dir(), Overwrite::Replace)
                });
                if let Err(error) = issued {
                    tracing::error!(%error, "the control plane's certificate could not be renewed");
                }
            }
        });
    }
}

/// Whether there is no certificate in `dir` that is good for a while, and that the control plane, whose own are in
/// `judge`, would let in.
fn is_due(dir: &Path, judge: &Path) -> bool {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Ok(credentials) = Credentials::load(dir, &clock) else { return true };
    let identity = credentials.identity();
    let revoked = Revoked::in_dir(judge).is_ok_and(|revoked| revoked.contains(identity.fingerprint));
    revoked || identity.renewal_due(clock.now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_control_plane_makes_its_certificates_once_and_its_own_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let prepare = || ControlCerts::prepare(dir.path(), &["10.0.0.1".parse().unwrap()], None).unwrap();
        let (first, again) = (prepare(), prepare());
        let authority = |certs: &ControlCerts| certs.joining.token(None, None).unwrap().authority();
        assert_eq!(authority(&first), authority(&again));
        let own = |certs: &ControlCerts| certs.certified.credentials.current().identity().clone();
        assert_eq!(own(&first).role, Role::ControlPlane);
        assert_ne!(own(&first).fingerprint, own(&again).fingerprint);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        assert_eq!(Credentials::load(&first.admin, &clock).unwrap().identity().role, Role::Admin);
        // Half an authority is not taken for none: a new one would lock all nodes out.
        std::fs::remove_file(dir.path().join(certs::AUTHORITY).join("ca-key.pem")).unwrap();
        assert!(ControlCerts::prepare(dir.path(), &[], None).is_err());
    }
}
