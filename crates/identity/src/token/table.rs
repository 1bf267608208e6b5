//! The control plane's tokens, in its memory: made, redeemed once, remembered for a while after their end.
//!
//! ```text
//! created ──redeemed as often as it may──► used ────┐
//!    └────────its time is over───────────► expired ─┴─ a day later ─► forgotten
//! ```
//!
//! Nothing is on a disk, so a restarted control plane has no tokens: whoever was about to join asks for another.

use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use wasmatrix_model::{Clock, NodeId, Timestamp};

use super::{For, Malformed, Token, TokenId};
use crate::{accept::Source, bucket::Bucket, certificate::Fingerprint};

/// Tokens that can be redeemed, at a time.
pub(super) const OUTSTANDING_MAX: usize = 1024;
/// Tokens that can't be any more and are still known, so that a replay is called one.
pub(super) const ENDED_MAX: usize = 4096;
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest that a token may be good for.
const TTL_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How often one token may be redeemed at most.
const USES_MAX: u32 = 1000;
/// Failed attempts of one source: so many at once, then so many a minute.
pub(super) const FAILURES_BURST: u32 = 10;
const FAILURES_PER_MINUTE: u32 = 10;
/// Sources whose failures are counted, at a time.
pub(super) const SOURCES_MAX: usize = 4096;

/// What a new token is to be.
#[derive(Clone, Debug)]
pub struct TokenOrder {
    /// For how long it is good: a second to seven days.
    pub ttl: Duration,
    /// How often it may be redeemed: 1 to 1000.
    pub uses: NonZeroU32,
    /// For whom.
    pub whom: For,
}

impl Default for TokenOrder {
    /// One hour, once, any node.
    fn default() -> Self {
        Self { ttl: Duration::from_secs(60 * 60), uses: NonZeroU32::MIN, whom: For::AnyNode }
    }
}

/// The tokens of one cluster.
#[derive(Debug)]
pub struct Tokens {
    clock: Arc<dyn Clock>,
    authority: Fingerprint,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tokens: HashMap<TokenId, Entry>,
    failures: HashMap<Source, Bucket>,
}

#[derive(Debug)]
struct Entry {
    /// Of the secret, so that a look into this memory gives none away.
    secret_sha256: [u8; 32],
    whom: For,
    expires: Timestamp,
    uses_left: u32,
}

/// A token as it is listed: without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInfo {
    /// What it is called.
    pub id: TokenId,
    /// For whom it is good.
    pub whom: For,
    /// Until when.
    pub expires: Timestamp,
    /// How often it may still be redeemed.
    pub uses_left: u32,
}

/// A token was good: the node may have a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redeemed {
    /// Which token, for the log.
    pub id: TokenId,
    /// Which node may have a certificate, and no other.
    pub node: NodeId,
}

/// Why no token was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// A lifetime that a token can't have.
    #[error("a join token is good for 1 second to {} days", TTL_MAX.as_secs() / 86_400)]
    Ttl,
    /// More uses than a token can have.
    #[error("a join token can be used {USES_MAX} times at most")]
    Uses,
    /// Too many can still be redeemed.
    #[error(
        "{OUTSTANDING_MAX} join tokens are waiting to be used, which is as many as there may be: revoke some"
    )]
    TooMany,
}

/// Why a token was not redeemed. To be logged with the peer's address, all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedeemError {
    /// It is no token.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It is of another cluster.
    #[error("the join token belongs to another cluster: it names the authority {0}")]
    AnotherCluster(Fingerprint),
    /// There is no such token, or its secret is another. Which of both is not said.
    #[error("the join token is not known: ask for a new one (a restarted control plane forgets its tokens)")]
    Unknown,
    /// It was used as often as it may be.
    #[error("the join token {0} was used before and is good no more: ask for a new one")]
    Used(TokenId),
    /// Its time is over.
    #[error("the join token {id} expired at {at}: ask for a new one")]
    Expired {
        /// Which.
        id: TokenId,
        /// When.
        at: Timestamp,
    },
    /// It is for another node.
    #[error("the join token {id} is for node {whom}, and not for {node}")]
    AnotherNode {
        /// Which.
        id: TokenId,
        /// For whom it is.
        whom: NodeId,
        /// Who came.
        node: NodeId,
    },
    /// This source failed too often.
    #[error("too many join tokens from this address were refused: wait a minute")]
    TooManyFailures,
}

impl Tokens {
    /// No tokens yet, for the cluster of that authority.
    pub fn new(authority: Fingerprint, clock: Arc<dyn Clock>) -> Self {
        Self { clock, authority, state: Mutex::default() }
    }

    /// Makes a token. Its text is only in what is returned: it can't be asked for again.
    ///
    /// # Errors
    /// The order is beyond a limit, or too many tokens are waiting.
    pub fn create(&self, order: &TokenOrder) -> Result<Token, CreateError> {
        if order.ttl < Duration::from_secs(1) || order.ttl > TTL_MAX {
            return Err(CreateError::Ttl);
        }
        if order.uses.get() > USES_MAX {
            return Err(CreateError::Uses);
        }
        let now = self.clock.now();
        let mut state = self.state();
        state.forget(now);
        if state.tokens.values().filter(|entry| entry.outstanding(now)).count() >= OUTSTANDING_MAX {
            return Err(CreateError::TooMany);
        }
        let mut token = Token::generate(self.authority);
        while state.tokens.contains_key(&token.id) {
            token = Token::generate(self.authority);
        }
        let entry = Entry {
            secret_sha256: Sha256::digest(token.secret.as_slice()).into(),
            whom: order.whom.clone(),
            expires: now.saturating_add(order.ttl).unwrap_or(Timestamp::MAX),
            uses_left: order.uses.get(),
        };
        state.tokens.insert(token.id, entry);
        Ok(token)
    }

    /// Redeems a token for `node`, which came from `from`. It is used up by this and not by what follows, so prove the
    /// certificate request first.
    ///
    /// # Errors
    /// It is not good, or this source was refused too often lately; see [`RedeemError`].
    pub fn redeem(&self, text: &str, node: &NodeId, from: IpAddr) -> Result<Redeemed, RedeemError> {
        let now = self.clock.now();
        let source = Source::of(from);
        let mut state = self.state();
        if state.failures.get_mut(&source).is_some_and(|bucket| !bucket.has_one(now)) {
            return Err(RedeemError::TooManyFailures);
        }
        let redeemed = self.try_redeem(&mut state, text, node, now);
        if redeemed.is_err() {
            state.failed(source, now);
        }
        redeemed
    }

    fn try_redeem(
        &self,
        state: &mut State,
        text: &str,
        node: &NodeId,
        now: Timestamp,
    ) -> Result<Redeemed, RedeemError> {
        let token: Token = text.parse()?;
        if token.authority != self.authority {
            return Err(RedeemError::AnotherCluster(token.authority));
        }
        let id = token.id;
        let shown: [u8; 32] = Sha256::digest(token.secret.as_slice()).into();
        let entry = state.tokens.get_mut(&id).ok_or(RedeemError::Unknown)?;
        if !bool::from(entry.secret_sha256.ct_eq(&shown)) {
            return Err(RedeemError::Unknown);
        }
        // From here on it is the token's holder who is told.
        if entry.uses_left == 0 {
            return Err(RedeemError::Used(id));
        }
        if now >= entry.expires {
            return Err(RedeemError::Expired { id, at: entry.expires });
        }
        match &entry.whom {
            For::Node(whom) if whom != node => {
                Err(RedeemError::AnotherNode { id, whom: whom.clone(), node: node.clone() })
            }
            For::Node(_) | For::AnyNode => {
                entry.uses_left -= 1;
                Ok(Redeemed { id, node: node.clone() })
            }
        }
    }

    /// The tokens that can still be redeemed; those that end first come first.
    pub fn list(&self) -> Vec<TokenInfo> {
        let now = self.clock.now();
        let state = self.state();
        let outstanding = state.tokens.iter().filter(|(_, entry)| entry.outstanding(now));
        let mut infos: Vec<_> = outstanding
            .map(|(id, entry)| TokenInfo {
                id: *id,
                whom: entry.whom.clone(),
                expires: entry.expires,
                uses_left: entry.uses_left,
            })
            .collect();
        infos.sort_by_key(|info| (info.expires, info.id));
        infos
    }

    /// Makes a token worthless. Whether there was one to revoke.
    pub fn revoke(&self, id: TokenId) -> bool {
        let now = self.clock.now();
        self.state().tokens.remove(&id).is_some_and(|entry| entry.outstanding(now))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one assignment, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn outstanding(&self, now: Timestamp) -> bool {
        self.uses_left > 0 && now < self.expires
    }
}

impl State {
    /// Forgets what ended long ago, and of the rest that ended, the earliest beyond the bound.
    fn forget(&mut self, now: Timestamp) {
        self.tokens
            .retain(|_, entry| now <= entry.expires.saturating_add(REMEMBERED).unwrap_or(Timestamp::MAX));
        let mut ended: Vec<_> = self.tokens.iter().filter(|(_, entry)| !entry.outstanding(now)).collect();
        if ended.len() > ENDED_MAX {
            ended.sort_by_key(|(_, entry)| entry.expires);
            let surplus = ended.len() - ENDED_MAX;
            let ids: Vec<TokenId> = ended.into_iter().take(surplus).map(|(id, _)| *id).collect();
            ids.iter().for_each(|id| drop(self.tokens.remove(id)));
        }
    }

    fn failed(&mut self, source: Source, now: Timestamp) {
        if self.failures.len() >= SOURCES_MAX && !self.failures.contains_key(&source) {
            self.failures.retain(|_, bucket| !bucket.is_full(now));
            // That many sources at once is an attack, and the secret is long enough without counting.
            if self.failures.len() >= SOURCES_MAX {
                return;
            }
        }
        let fresh = || Bucket::full(FAILURES_BURST, FAILURES_PER_MINUTE, now);
        self.failures.entry(source).or_insert_with(fresh).take(now);
    }
}

#[cfg(test)]
mod tests;
