//! What is to stand in etcd: the nodes that attend, and their providers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use wasmatrix_model::{Capability, NodeId, ProviderPhase, Registration};

use super::key::Key;

/// Most keys that are written, or remembered to be deleted. What is over is not published.
const KEYS_MAX: usize = 200_000;
/// Longest text of a registration that is written, in bytes: a longer one is cut.
const TEXT_BYTES_MAX: usize = 512;
/// Longest value that is read, in bytes.
const VALUE_BYTES_MAX: usize = 4096;

/// What stands at a node's key.
#[derive(Debug, Serialize, Deserialize)]
struct NodeValue {
    address: String,
    #[serde(default)]
    version: String,
}

/// What stands at a provider's key.
#[derive(Debug, Serialize)]
struct ProviderValue<'a> {
    backend: &'a str,
    phase: ProviderPhase,
}

/// The address in a node's value. `None`: it is none of ours, or of a node that only its own process can reach.
pub(super) fn read_address(value: &[u8]) -> Option<String> {
    if value.len() > VALUE_BYTES_MAX {
        return None;
    }
    let value: NodeValue = serde_json::from_slice(value).ok()?;
    Some(value.address).filter(|address| (1..=TEXT_BYTES_MAX).contains(&address.len()))
}

/// What is to stand in etcd, and what of it is not there yet.
#[derive(Debug, Default)]
pub(super) struct Published {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// `None`: the key is to be deleted, if it is there.
    wanted: BTreeMap<Key, Option<Vec<u8>>>,
    unwritten: BTreeSet<Key>,
}

/// Keys with what is to stand at them; `None`: nothing.
pub(super) type Changes = Vec<(Key, Option<Vec<u8>>)>;

impl Published {
    pub(super) fn publish(&self, registration: &Registration) {
        let node = &registration.id;
        let mut state = self.lock();
        let value = NodeValue { address: cut(&registration.address), version: cut(&registration.version) };
        state.want(Key::Node(node.clone()), json(&value));
        for capability in Capability::ALL {
            let provider = registration.providers.iter().find(|provider| provider.capability == capability);
            let value = provider.and_then(|provider| {
                json(&ProviderValue { backend: &cut(&provider.backend), phase: provider.phase })
            });
            state.want(Key::Provider(node.clone(), capability), value);
        }
        self.changed.notify_one();
    }

    pub(super) fn withdraw(&self, node: &NodeId) {
        let mut state = self.lock();
        state.want(Key::Node(node.clone()), None);
        for capability in Capability::ALL {
            state.want(Key::Provider(node.clone(), capability), None);
        }
        self.changed.notify_one();
    }

    /// Everything, for an etcd of which nothing is known. All of it counts as written from now on.
    pub(super) fn take_all(&self) -> Changes {
        let mut state = self.lock();
        state.unwritten.clear();
        state.wanted.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// What changed since it was last taken. It counts as written from now on.
    pub(super) fn take_changed(&self) -> Changes {
        let mut state = self.lock();
        let keys = std::mem::take(&mut state.unwritten);
        keys.into_iter().filter_map(|key| state.wanted.get(&key).cloned().map(|value| (key, value))).collect()
    }

    /// These changes are in etcd: what was deleted need not be remembered.
    pub(super) fn written(&self, changes: &Changes) {
        let mut state = self.lock();
        for (key, value) in changes {
            if value.is_none() && state.wanted.get(key).is_some_and(Option::is_none) {
                state.wanted.remove(key);
            }
        }
    }

    /// Waits until something has changed since this was last waited for.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is made whole by one call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn want(&mut self, key: Key, value: Option<Vec<u8>>) {
        match self.wanted.get(&key) {
            Some(known) if *known == value => return,
            // It was never there.
            None if value.is_none() => return,
            None if self.wanted.len() >= KEYS_MAX => return,
            Some(_) | None => {}
        }
        self.unwritten.insert(key.clone());
        self.wanted.insert(key, value);
    }
}

fn json(value: &impl Serialize) -> Option<Vec<u8>> {
    serde_json::to_vec(value).ok()
}

/// As much of a text as is written.
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(node: &str) -> Key {
        Key::Node(node.parse().unwrap())
    }

    #[test]
    fn only_what_is_new_is_written_and_what_is_deleted_is_forgotten() {
        let published = Published::default();
        let (a, b): (NodeId, NodeId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let registration = |node: &NodeId| crate::discovery::etcd::tests::registration(node, "http://h:1");
        published.publish(&registration(&a));
        published.publish(&registration(&b));
        assert_eq!(published.take_changed().len(), 4, "a node and a provider each");
        published.publish(&registration(&a));
        assert_eq!(published.take_changed(), []);

        published.withdraw(&a);
        published.withdraw(&"never-seen".parse().unwrap());
        let changes = published.take_changed();
        assert_eq!(changes.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>()[0], key("a"));
        assert!(changes.len() == 2 && changes.iter().all(|(_, value)| value.is_none()));
        assert_eq!(published.take_all().len(), 4, "the deletions are not there yet");
        published.written(&changes);
        assert_eq!(published.take_all().len(), 2);
        // Published again while the deletion was under way.
        published.withdraw(&b);
        let changes = published.take_changed();
        published.publish(&registration(&b));
        published.written(&changes);
        assert_eq!(published.take_changed().len(), 2);
    }

    #[test]
    fn values_of_others_are_read_with_care() {
        assert_eq!(read_address(br#"{"address":"http://h:1","more":[]}"#).as_deref(), Some("http://h:1"));
        let long = format!(r#"{{"address":"{}"}}"#, "x".repeat(513));
        let longer = format!(r#"{{"address":"x","more":"{}"}}"#, "x".repeat(4096));
        for bad in ["", "{}", "[]", "null", "{\"address\":1}", "{\"address\":\"\"}", &long, &longer] {
            assert_eq!(read_address(bad.as_bytes()), None);
        }
        assert_eq!(cut(&"é".repeat(300)).len(), 512);
        assert_eq!(cut(&format!("x{}", "é".repeat(300))).len(), 511);
    }
}
