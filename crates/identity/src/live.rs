//! Credentials that follow their files: read once at the start, and again whenever the files change.
//!
//! ```text
//!            reload_now (SIGHUP, a test)
//!                     │
//! files ──stamps──► prove ──good──► current ──► new handshakes, both ways
//!  every few seconds  └──bad──► the old stay, and the reason is logged once
//! ```
//!
//! Connections that are open keep the certificates they were made with; each new one takes the current ones.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle};
use wasmatrix_model::Clock;

use crate::credentials::{self, Credentials, CredentialsError, Stamps};

/// How often the files are looked at, unless somebody says otherwise.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How many days before its end a certificate is complained about, once a day.
const WARN_DAYS: u64 = 7;

/// The credentials in a directory, as they are now. Clones share them.
#[derive(Clone, Debug)]
pub struct LiveCredentials {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    clock: Arc<dyn Clock>,
    current: watch::Sender<Arc<Credentials>>,
    seen: Mutex<Seen>,
}

/// What the last look found, so that nothing is read or said twice.
#[derive(Debug)]
struct Seen {
    stamps: Stamps,
    complaint: Option<String>,
    /// The days left that were last warned about.
    warned: Option<u64>,
}

/// What a look at the files came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The files are good and new connections take them.
    Changed,
    /// They say what they said before.
    Unchanged,
}

impl LiveCredentials {
    /// Reads and proves the credentials in `dir`. Nothing follows the files yet: see [`LiveCredentials::follow`].
    ///
    /// # Errors
    /// As [`Credentials::load`].
    pub fn open(dir: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Result<Self, CredentialsError> {
        let dir = dir.into();
        // Before the files are read: what changes meanwhile is then seen at the next look.
        let stamps = credentials::stamps(&dir);
        let credentials = Credentials::load(&dir, &clock)?;
        let seen = Mutex::new(Seen { stamps, complaint: None, warned: None });
        let current = watch::Sender::new(Arc::new(credentials));
        let live = Self { shared: Arc::new(Shared { dir, clock, current, seen }) };
        live.warn_of_the_end();
        Ok(live)
    }

    /// The credentials that a connection made now would use.
    pub fn current(&self) -> Arc<Credentials> {
        self.shared.current.borrow().clone()
    }

    /// Tells of each change, for those who act on one (a node that was renewed, a test).
    pub fn changes(&self) -> watch::Receiver<Arc<Credentials>> {
        self.shared.current.subscribe()
    }

    /// Where the files are.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// The clock by which validity is judged.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// Reads the files now, whether they changed or not: for SIGHUP, and after writing them. Blocks for a few file
    /// reads. The old credentials stay if the new ones are bad.
    ///
    /// # Errors
    /// The files are bad, or are now somebody else's: a process does not change its role.
    pub fn reload_now(&self) -> Result<Reloaded, CredentialsError> {
        let stamps = credentials::stamps(&self.shared.dir);
        self.reload(stamps)
    }

    fn reload(&self, stamps: Stamps) -> Result<Reloaded, CredentialsError> {
        let proven = self.prove();
        let mut seen = self.seen();
        seen.stamps = stamps;
        let new = match proven {
            Ok(new) => new,
            Err(error) => {
                let complaint = error.to_string();
                if seen.complaint.as_ref() != Some(&complaint) {
                    tracing::error!(dir = %self.shared.dir.display(), %error, "new credentials are not used; the old ones stay");
                }
                seen.complaint = Some(complaint);
                return Err(error);
            }
        };
        seen.complaint = None;
        let old = self.current();
        let same = old.identity() == new.identity() && old.ca_pem() == new.ca_pem();
        if same && old.revocations() == new.revocations() {
            return Ok(Reloaded::Unchanged);
        }
        seen.warned = None;
        drop(seen);
        tracing::info!(identity = %new.identity(), expires = %new.identity().not_after, "new credentials are in use");
        self.shared.current.send_replace(Arc::new(new));
        Ok(Reloaded::Changed)
    }

    fn prove(&self) -> Result<Credentials, CredentialsError> {
        let new = Credentials::load(&self.shared.dir, &self.shared.clock)?;
        let was = self.current().identity().role.clone();
        let is = new.identity().role.clone();
        if was == is {
            Ok(new)
        } else {
            Err(CredentialsError::AnotherRole { dir: self.shared.dir.clone(), was, is })
        }
    }

    /// Looks at the files at that interval from now on, until the handle is dropped. Call it within a tokio runtime.
    #[must_use = "the files are followed until this is dropped"]
    pub fn follow(&self, every: Duration) -> Following {
        let live = self.clone();
        Following(tokio::spawn(async move {
            let mut looks = tokio::time::interval(every);
            looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                looks.tick().await;
                let live = live.clone();
                // Files can be slow, and a look that panicked must not be the last.
                let _ = tokio::task::spawn_blocking(move || live.look()).await;
            }
        }))
    }

    /// One look: reads the files if they changed, and says how long the certificate still lasts.
    fn look(&self) {
        let stamps = credentials::stamps(&self.shared.dir);
        if self.seen().stamps != stamps {
            let _ = self.reload(stamps); // has logged why not
        }
        self.warn_of_the_end();
    }

    /// Once a day in the last week, and once when it is over.
    fn warn_of_the_end(&self) {
        let (now, current) = (self.shared.clock.now(), self.current());
        let identity = current.identity();
        let days = identity.days_left(now);
        let mark = if identity.expired(now) { u64::MAX } else { days };
        let mut seen = self.seen();
        // Short-lived ones are renewed by themselves, and are always in their last week.
        let near = if identity.renewal_due(now) { days < WARN_DAYS } else { false };
        if seen.warned == Some(mark) || !(near || identity.expired(now)) {
            return;
        }
        seen.warned = Some(mark);
        let (dir, expires) = (self.shared.dir.display(), identity.not_after);
        let what_to_do = credentials::another(&identity.role);
        if identity.expired(now) {
            tracing::error!(%dir, %expires, what_to_do, "the certificate has expired: no new connection is accepted or made with it");
        } else {
            tracing::warn!(%dir, %expires, days_left = days, what_to_do, "the certificate expires soon: renew it");
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        // Each field is whole at any moment, so a panic elsewhere spoils nothing.
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The files are followed while this lives.
#[derive(Debug)]
pub struct Following(JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}
