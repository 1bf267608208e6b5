//! How many connections there may be once they are proven: of those who showed no certificate, and with each certificate.
//! Whoever has proven nothing may ask for little, and does not stay.

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    HandshakeLimits, Peer,
    crowd::{Admission, Crowd, Source},
};
use crate::certificate::Fingerprint;

/// A stranger younger than this is not sent away to make room.
const PATIENCE: Duration = Duration::from_secs(1);

/// Those who are served at a listener. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Guests {
    limits: HandshakeLimits,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// Connections with each certificate.
    members: HashMap<Fingerprint, usize>,
    strangers: Crowd<Arc<Notify>>,
}

/// The place of a connection among those that are served, until it is dropped.
pub(super) struct Guest {
    guests: Guests,
    seat: Seat,
    /// When it has to go. `None`: never.
    leaves: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

#[derive(Clone, Copy, Debug)]
enum Seat {
    Member(Fingerprint),
    Stranger(u64),
}

impl Guests {
    pub(super) fn new(limits: HandshakeLimits) -> Self {
        let strangers = Crowd::new(limits.strangers_max);
        Self { limits, state: Arc::new(Mutex::new(State { members: HashMap::new(), strangers })) }
    }

    /// Lets a connection in, or says why not.
    pub(super) fn enter(&self, peer: &Peer, now: Instant) -> Result<Guest, String> {
        match &peer.identity {
            Some(identity) => self.member(identity.fingerprint),
            None => self.stranger(peer.address, now),
        }
    }

    fn member(&self, certificate: Fingerprint) -> Result<Guest, String> {
        let mut state = self.lock();
        let open = state.members.entry(certificate).or_default();
        if *open >= self.limits.per_certificate_max {
            return Err(format!("{open} connections are open with its certificate, as many as there may be"));
        }
        *open += 1;
        Ok(Guest { guests: self.clone(), seat: Seat::Member(certificate), leaves: None })
    }

    fn stranger(&self, address: SocketAddr, now: Instant) -> Result<Guest, String> {
        let mut state = self.lock();
        let source = Source::of(address.ip());
        match state.strangers.admit(source, now, PATIENCE) {
            Admission::Room => {}
            Admission::InPlaceOf { ticket, handshake: other, .. } => {
                other.notify_one();
                state.strangers.leave(ticket);
            }
            Admission::Full => return Err("too many connections without a certificate are open".to_owned()),
        }
        let (ticket, sent_away) = (state.strangers.ticket(), Arc::new(Notify::new()));
        state.strangers.enter(ticket, source, address, now, Arc::clone(&sent_away));
        let stay = self.limits.strangers_for;
        let leaves = Box::pin(async move {
            let _ = tokio::time::timeout(stay, sent_away.notified()).await; // either way it has to go
        });
        Ok(Guest { guests: self.clone(), seat: Seat::Stranger(ticket), leaves: Some(leaves) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is made whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest {
    /// Whether it has to go by now; whoever asks is woken when it has to.
    pub(super) fn has_to_go(&mut self, cx: &mut std::task::Context<'_>) -> bool {
        let gone = self.leaves.as_mut().is_some_and(|leaves| leaves.as_mut().poll(cx).is_ready());
        if gone {
            self.leaves = None;
        }
        gone
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut state = self.guests.lock();
        match self.seat {
            Seat::Stranger(ticket) => state.strangers.leave(ticket),
            Seat::Member(certificate) => {
                if let Some(open) = state.members.get_mut(&certificate) {
                    *open -= 1;
                    if *open == 0 {
                        state.members.remove(&certificate);
                    }
                }
            }
        }
    }
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guest").field("seat", &self.seat).finish_non_exhaustive()
    }
}
