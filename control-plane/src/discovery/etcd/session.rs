//! A connection to etcd with a lease, for as long as both last; and another one after it.
//!
//! ```text
//!  connect ► lease ► write everything ► list nodes ► watch ─┐
//!     ▲                                                     │ keep the lease, write what changes,
//!     │                                                     │ tell what is seen
//!     └── wait: longer each time, by chance ◄── any fault ──┘
//! ```
//!
//! Every session begins anew, and so makes good for whatever happened since the last: a lost lease, a compaction, an etcd
//! that came back with nothing in it. Everything is written before the nodes are listed, so that a restart of etcd does
//! not look as if our own nodes had gone.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};

use super::{
    Config, Known,
    published::Published,
    store::{Fault, Lease, NodeChange, Store, Watching},
};

/// The first wait after a fault. It doubles from fault to fault.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// The longest wait.
const BACKOFF_MAX: Duration = Duration::from_secs(15);

/// Keeps a session, whatever happens.
pub(super) struct Supervisor {
    pub(super) config: Config,
    pub(super) known: watch::Sender<Known>,
    pub(super) published: Arc<Published>,
    /// Whether there is a session.
    pub(super) reached: watch::Sender<bool>,
}

impl Supervisor {
    pub(super) async fn supervise(self) {
        let mut faults = 0_u32;
        loop {
            let Err(fault) = self.session().await;
            // A session that came about ends the row of faults.
            if self.reached.send_replace(false) {
                faults = 0;
            }
            let endpoints = self.config.endpoints.join(", ");
            if faults == 0 {
                tracing::warn!(
                    etcd = endpoints,
                    error = %fault,
                    "etcd can't be used; what is known of nodes stays, and it is tried until it can"
                );
            } else {
                tracing::debug!(etcd = endpoints, error = %fault, faults, "etcd still can't be used");
            }
            tokio::time::sleep(backoff(faults, rand::random())).await;
            faults = faults.saturating_add(1);
        }
    }

    async fn session(&self) -> Result<Infallible, Fault> {
        let mut store = Store::connect(&self.config).await?;
        let mut lease = store.lease(self.config.lease).await?;
        self.write(&mut store, &lease, self.published.take_all()).await?;
        let (nodes, revision) = store.nodes().await?;
        let mut watching = store.watch(revision + 1).await?;
        tracing::info!(etcd = self.config.endpoints.join(", "), nodes = nodes.len(), "etcd is in use");
        self.known.send_if_modified(|known| {
            let new = **known != nodes;
            if new {
                *known = Arc::new(nodes);
            }
            new
        });
        self.reached.send_replace(true);
        self.keep(&mut store, &mut lease, &mut watching).await
    }

    /// Goes on until something goes wrong: with the lease, with the watch, with a write, or with both ears silent.
    async fn keep(
        &self,
        store: &mut Store,
        lease: &mut Lease,
        watching: &mut Watching,
    ) -> Result<Infallible, Fault> {
        let patience = self.config.patience;
        let mut ask = tokio::time::interval(patience / 2);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lease_until = Instant::now() + patience;
        let mut watch_until = lease_until;
        loop {
            tokio::select! {
                granted = lease.granted() => {
                    granted?;
                    lease_until = Instant::now() + patience;
                }
                changes = watching.changes() => {
                    let changes = changes?;
                    watch_until = Instant::now() + patience;
                    self.see(changes);
                }
                _ = ask.tick() => {
                    // Both wait in queues of their own, which are empty unless etcd is silent.
                    lease.ask().await?;
                    watching.ask().await?;
                }
                () = self.published.changed() => {
                    self.write(store, lease, self.published.take_changed()).await?;
                }
                () = tokio::time::sleep_until(lease_until.min(watch_until)) => return Err(Fault::Slow(patience)),
            }
        }
    }

    async fn write(
        &self,
        store: &mut Store,
        lease: &Lease,
        changes: super::published::Changes,
    ) -> Result<(), Fault> {
        store.write(lease, &changes).await?;
        self.published.written(&changes);
        Ok(())
    }

    fn see(&self, changes: Vec<NodeChange>) {
        if changes.is_empty() {
            return;
        }
        self.known.send_modify(|known| {
            let nodes = Arc::make_mut(known);
            for (node, address) in changes {
                match address {
                    Some(address) => _ = nodes.insert(node, address),
                    None => _ = nodes.remove(&node),
                }
            }
        });
    }
}

/// The wait after so many faults in a row; `chance` is a number from 0 to 1 drawn by lot, and shortens it by up to half.
fn backoff(faults: u32, chance: f64) -> Duration {
    let doubled = 2_u32.checked_pow(faults).and_then(|times| BACKOFF_MIN.checked_mul(times));
    doubled.unwrap_or(BACKOFF_MAX).min(BACKOFF_MAX).mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_chance_shortens_them() {
        assert_eq!(backoff(0, 0.0), BACKOFF_MIN);
        assert_eq!(backoff(3, 0.0), BACKOFF_MIN * 8);
        assert_eq!(backoff(u32::MAX, 0.0), BACKOFF_MAX);
        assert_eq!(backoff(u32::MAX, 1.0), BACKOFF_MAX / 2);
    }
}
