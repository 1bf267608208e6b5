//! The only keys that there are: a node's, and that of a provider on a node.
//!
//! Whoever speaks to etcd here speaks of a [`Key`], and no value of that type stands for anything else: node ids and
//! capabilities have no slash in them. So instances, grants, logs or wishes can't come to be there by mistake.

use std::str::FromStr;

use wasmatrix_model::{Capability, NodeId, failure::Invalid};

/// What every key begins with. 1 to 128 letters, digits and `/ - _ .`, with `/` at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(Box<str>);

impl Default for Prefix {
    fn default() -> Self {
        Self("/wasmatrix/".into())
    }
}

impl Prefix {
    /// Longest prefix, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// What the keys of all nodes begin with.
    pub(super) fn nodes(&self) -> String {
        format!("{}nodes/", self.0)
    }
}

impl FromStr for Prefix {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
        if !text.ends_with('/') || text.len() > Self::BYTES_MAX || !text.bytes().all(legal) {
            let shown: String = text.chars().take(2 * Self::BYTES_MAX).collect();
            let rule = format!("1 to {} letters, digits and / - _ . with / at the end", Self::BYTES_MAX);
            return Err(Invalid::new("prefix", format!("`{shown}` is no prefix: use {rule}")));
        }
        Ok(Self(text.into()))
    }
}

/// What may stand in etcd.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// A node attends.
    Node(NodeId),
    /// A node has a provider.
    Provider(NodeId, Capability),
}

impl Key {
    /// The key as it stands in etcd.
    pub(super) fn text(&self, prefix: &Prefix) -> String {
        let prefix = &prefix.0;
        match self {
            Self::Node(node) => format!("{prefix}nodes/{node}"),
            Self::Provider(node, capability) => format!("{prefix}providers/{node}/{capability}"),
        }
    }

    /// What stands in etcd, if it is a key.
    pub(super) fn read(prefix: &Prefix, text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.strip_prefix(&*prefix.0)?;
        if let Some(node) = text.strip_prefix("nodes/") {
            return node.parse().ok().map(Self::Node);
        }
        let (node, capability) = text.strip_prefix("providers/")?.split_once('/')?;
        Some(Self::Provider(node.parse().ok()?, capability.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_as_itself() {
        let prefix: Prefix = "/a/b.c/".parse().unwrap();
        let node: NodeId = "n-1".parse().unwrap();
        for (key, text) in [
            (Key::Node(node.clone()), "/a/b.c/nodes/n-1"),
            (Key::Provider(node, Capability::Kv), "/a/b.c/providers/n-1/kv"),
        ] {
            assert_eq!(key.text(&prefix), text);
            assert_eq!(Key::read(&prefix, text.as_bytes()), Some(key));
        }
        for other in ["", "/a/b.c/", "/a/b.c/nodes/", "/a/b.c/nodes/n/x", "/a/b.c/instances/x", "/a/nodes/n"]
        {
            assert_eq!(Key::read(&prefix, other.as_bytes()), None, "{other}");
        }
        assert_eq!(Key::read(&prefix, b"/a/b.c/nodes/\xff"), None);
    }

    #[test]
    fn a_prefix_ends_with_a_slash() {
        for bad in ["", "x", "a b/", "ä/", &format!("{}/", "x".repeat(128))] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
        assert_eq!("/wasmatrix/".parse(), Ok(Prefix::default()));
        assert!("/".parse::<Prefix>().is_ok());
    }
}
