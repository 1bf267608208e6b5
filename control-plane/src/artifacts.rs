//! The bytes of artifacts whose instances may be restarted elsewhere, in memory and bounded.
//!
//! They are kept as they pass through. After a restart of the control plane, or when there was no room, an agent that
//! runs one is asked for them: each keeps those of its own. The ones used longest ago go first.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmatrix_model::{Digest, InstanceStatus, NodeId, OnNodeLoss};
use wasmatrix_wire::v1;

use crate::{cluster::Cluster, nodes::Link};

/// Largest artifact that is fetched: the most that an agent takes in.
const ARTIFACT_BYTES_MAX: usize = 128 << 20;
/// How long an agent may take to hand one over.
const FETCH_MAX: Duration = Duration::from_secs(60);
/// Artifacts that are being fetched at one time.
const FETCHES_MAX: usize = 2;
/// Nodes that are remembered for one artifact.
const HOLDERS_MAX: usize = 16;
/// Artifacts whose holders are remembered.
const HELD_MAX: usize = 100_000;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Artifacts {
    inner: Mutex<Inner>,
    bytes_max: usize,
    /// A permit for each byte that passes through and is to be kept.
    passing: Arc<Semaphore>,
    fetches: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Inner {
    kept: HashMap<Digest, Bytes>,
    /// The one used longest ago first.
    used: VecDeque<Digest>,
    bytes: usize,
    holders: HashMap<Digest, Vec<NodeId>>,
    fetching: HashSet<Digest>,
}

/// Room for the bytes of an artifact on its way.
#[derive(Debug)]
pub(crate) struct Passing {
    permit: OwnedSemaphorePermit,
    free: Arc<Semaphore>,
}

impl Passing {
    /// Takes room for so many bytes more. `false`: there is none.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let more = u32::try_from(bytes).ok();
        let more = more.and_then(|bytes| Arc::clone(&self.free).try_acquire_many_owned(bytes).ok());
        more.map(|more| self.permit.merge(more)).is_some()
    }
}

impl Artifacts {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            inner: Mutex::default(),
            bytes_max,
            passing: Arc::new(Semaphore::new(bytes_max.min(Semaphore::MAX_PERMITS))),
            fetches: Arc::new(Semaphore::new(FETCHES_MAX)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for an artifact that is to be kept on its way.
    pub(crate) fn pass(&self) -> Option<Passing> {
        let permit = Arc::clone(&self.passing).try_acquire_many_owned(0).ok()?;
        Some(Passing { permit, free: Arc::clone(&self.passing) })
    }

    /// Keeps an artifact, if there is room for one of that size at all. `bytes` must be those of `digest`.
    pub(crate) fn keep(&self, digest: Digest, bytes: Bytes) {
        let mut inner = self.lock();
        if bytes.len() > self.bytes_max || inner.kept.contains_key(&digest) {
            return;
        }
        while inner.bytes + bytes.len() > self.bytes_max {
            let Some(oldest) = inner.used.pop_front() else { break };
            if let Some(gone) = inner.kept.remove(&oldest) {
                inner.bytes -= gone.len();
            }
        }
        inner.bytes += bytes.len();
        inner.used.push_back(digest);
        inner.kept.insert(digest, bytes);
    }

    /// The bytes, if they are kept here.
    pub(crate) fn get(&self, digest: Digest) -> Option<Bytes> {
        let mut inner = self.lock();
        let bytes = inner.kept.get(&digest).cloned()?;
        inner.used.retain(|used| *used != digest);
        inner.used.push_back(digest);
        Some(bytes)
    }

    /// An instance was seen: its artifact is fetched in the background, if it may be needed and is not here.
    pub(crate) fn noticed(&self, cluster: &Arc<Cluster>, status: &InstanceStatus, link: &Arc<Link>) {
        if status.spec.placement.on_node_loss != OnNodeLoss::RestartElsewhere {
            return;
        }
        let digest = status.spec.digest;
        let mut inner = self.lock();
        if inner.holders.len() < HELD_MAX || inner.holders.contains_key(&digest) {
            let holders = inner.holders.entry(digest).or_default();
            if !holders.contains(&status.node) && holders.len() < HOLDERS_MAX {
                holders.push(status.node.clone());
            }
        }
        if inner.kept.contains_key(&digest) || !inner.fetching.insert(digest) {
            return;
        }
        drop(inner);
        let (held, link) = (Arc::clone(cluster), Arc::clone(link));
        cluster.spawn(async move {
            if let Ok(_turn) = held.artifacts.fetches.acquire().await
                && let Err(why) = fetch(&held, &link, digest).await
            {
                tracing::warn!(%digest, why, "an artifact that may be needed elsewhere could not be fetched");
            }
            held.artifacts.lock().fetching.remove(&digest);
        });
    }

    /// The bytes, from here or from a node that can be reached. `avoid` is not asked.
    pub(crate) async fn find(&self, cluster: &Arc<Cluster>, digest: Digest, avoid: &NodeId) -> Option<Bytes> {
        if let Some(bytes) = self.get(digest) {
            return Some(bytes);
        }
        let holders = self.lock().holders.get(&digest).cloned().unwrap_or_default();
        for holder in holders.iter().filter(|holder| *holder != avoid) {
            let Some(link) = cluster.nodes.get(holder).and_then(|node| node.link()) else { continue };
            match fetch(cluster, &link, digest).await {
                Ok(bytes) => return Some(bytes),
                Err(why) => {
                    tracing::info!(%digest, node = %holder, why, "the artifact is not to be had there")
                }
            }
        }
        None
    }
}

/// Fetches an artifact from a node and keeps it.
async fn fetch(cluster: &Arc<Cluster>, link: &Arc<Link>, digest: Digest) -> Result<Bytes, String> {
    let transfer = async {
        let request = v1::FetchArtifactRequest { digest: digest.to_string() };
        let answer = link.agent.clone().fetch_artifact(request).await;
        let mut chunks = answer.map_err(|status| status.message().to_owned())?.into_inner();
        let mut bytes = BytesMut::new();
        while let Some(message) = chunks.message().await.map_err(|status| status.message().to_owned())? {
            if bytes.len() + message.chunk.len() > ARTIFACT_BYTES_MAX {
                return Err(format!("it has more than {ARTIFACT_BYTES_MAX} bytes"));
            }
            bytes.extend_from_slice(&message.chunk);
        }
        Ok(bytes.freeze())
    };
    let bytes = tokio::select! {
        () = link.gone.cancelled() => return Err("the node is lost".to_owned()),
        transferred = tokio::time::timeout(FETCH_MAX, transfer) => {
            transferred.map_err(|_| format!("it took longer than {FETCH_MAX:?}"))??
        }
    };
    let hashed = bytes.clone();
    let found = tokio::task::spawn_blocking(move || Digest::of(&hashed)).await;
    if found.ok() != Some(digest) {
        return Err("what came is another artifact".to_owned());
    }
    cluster.artifacts.keep(digest, bytes.clone());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_artifacts_used_longest_ago_make_room() {
        let artifacts = Artifacts::new(10);
        let [a, b, c, huge] = [b"aaaa".as_slice(), b"bbbb", b"cccc", &[0; 11]];
        for bytes in [a, b] {
            artifacts.keep(Digest::of(bytes), Bytes::copy_from_slice(bytes));
        }
        assert!(artifacts.get(Digest::of(a)).is_some(), "used last now");
        artifacts.keep(Digest::of(c), Bytes::copy_from_slice(c));
        artifacts.keep(Digest::of(huge), Bytes::copy_from_slice(huge));
        let kept = [a, b, c, huge].map(|bytes| artifacts.get(Digest::of(bytes)).is_some());
        assert_eq!(kept, [true, false, true, false]);
    }

    #[test]
    fn what_passes_has_a_limit_until_it_has_passed() {
        let artifacts = Artifacts::new(10);
        let (mut one, mut other) = (artifacts.pass().unwrap(), artifacts.pass().unwrap());
        assert!(one.take(6) && other.take(4) && !other.take(1));
        drop(one);
        assert!(other.take(6));
    }
}
