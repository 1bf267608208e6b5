//! Nodes that somebody wrote down: the list in the control plane's configuration.

use std::{collections::BTreeMap, sync::Arc};

use futures::stream::BoxStream;
use tokio::sync::watch;
use tonic::transport::Uri;
use wasmatrix_model::{NodeId, Registration, failure::Invalid};

use super::{Discovery, Known, Sighting, sightings};

/// A list that never changes.
#[derive(Debug)]
pub struct Static {
    known: watch::Sender<Known>,
}

impl Static {
    /// Reads entries of the form `NODE=URL`, e.g. `edge-1=https://10.0.0.2:7119`.
    ///
    /// # Errors
    /// An entry has another form, or names a node that another one named.
    pub fn parse(entries: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, Invalid> {
        let mut nodes = BTreeMap::new();
        for entry in entries {
            let (node, address) = read(entry.as_ref())?;
            if nodes.contains_key(&node) {
                return Err(Invalid::new("nodes", format!("the node {node} is written twice")));
            }
            nodes.insert(node, address);
        }
        Ok(Self { known: watch::Sender::new(Arc::new(nodes)) })
    }
}

fn read(entry: &str) -> Result<(NodeId, String), Invalid> {
    let shown: String = entry.chars().take(120).collect();
    let objection = |problem: &str| Invalid::new("nodes", format!("`{shown}` {problem}"));
    let (node, address) = entry
        .split_once('=')
        .ok_or_else(|| objection("is no node: write NODE=URL, e.g. edge-1=https://10.0.0.2:7119"))?;
    let node =
        node.parse().map_err(|invalid: Invalid| objection(&format!("names no node: {}", invalid.problem)))?;
    let uri: Option<Uri> = address.parse().ok();
    let is_complete = |uri: &Uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.port_u16().is_some()
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none()
    };
    if !uri.as_ref().is_some_and(is_complete) {
        return Err(objection("leads nowhere: an agent listens at https://HOST:PORT, or http://HOST:PORT"));
    }
    Ok((node, address.to_owned()))
}

impl Discovery for Static {
    fn watch(&self) -> BoxStream<'static, Sighting> {
        sightings(self.known.subscribe())
    }

    /// Nobody reads a configuration to learn of nodes.
    fn publish(&self, _: &Registration) {}

    /// Somebody wrote it down, and nobody crosses it out.
    fn withdraw(&self, _: &NodeId) {}
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    #[test]
    fn each_entry_is_seen_and_nothing_more() {
        let list = Static::parse(["b=http://127.0.0.1:7119", "a=https://[::1]:7119/"]).unwrap();
        let mut stream = list.watch();
        let mut told = || stream.next().now_or_never().flatten();
        for (node, address) in [("a", "https://[::1]:7119/"), ("b", "http://127.0.0.1:7119")] {
            let (node, address) = (node.parse().unwrap(), address.to_owned());
            assert_eq!(told(), Some(Sighting::Seen { node, address }));
        }
        assert_eq!(told(), None);
    }

    #[test]
    fn what_is_no_node_is_refused_in_words() {
        for (entry, word) in [
            ("edge-1", "write NODE=URL"),
            ("Edge=http://h:1", "names no node"),
            ("edge=h:1", "leads nowhere"),
            ("edge=ftp://h:1", "leads nowhere"),
            ("edge=http://h", "leads nowhere"),
            ("edge=http://h:1/path", "leads nowhere"),
            ("edge=", "leads nowhere"),
        ] {
            let refused = Static::parse([entry]).unwrap_err();
            assert!(refused.problem.contains(word), "{entry}: {refused}");
        }
        assert!(Static::parse(["a=http://h:1", "a=http://h:2"]).unwrap_err().problem.contains("twice"));
        assert!(Static::parse(Vec::<String>::new()).is_ok());
    }
}
