//! The only way to etcd: by [`Key`]s, each answer within the configuration's patience.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use etcd_client::{
    Certificate, Client, ConnectOptions, Error, EventType, GetOptions, Identity, KeyValue,
    LeaseKeepAliveStream, LeaseKeeper, PutOptions, TlsOptions, Txn, TxnOp, WatchOptions, WatchStream,
};
use wasmatrix_model::NodeId;

use super::{
    Config, Prefix, Tls,
    key::Key,
    published::{Changes, read_address},
};

/// Changes in one transaction. etcd takes 128.
const CHANGES_PER_TRANSACTION: usize = 100;
/// Nodes in one answer.
const NODES_PER_ANSWER: i64 = 1000;
/// Most nodes that are learned from etcd.
const NODES_MAX: usize = 100_000;
/// How often an idle connection is asked whether its other end is still there. etcd takes more often than 5 s for abuse.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// What went wrong with etcd.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{}", in_words(.0))]
    Client(#[from] Error),
    #[error("{} can't be read: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("it has not answered for {0:?}")]
    Slow(Duration),
    #[error("it has ended the lease")]
    LeaseLost,
    #[error("it has forgotten the changes since revision {0}")]
    Compacted(i64),
    #[error("it has ended the watch: {0}")]
    WatchEnded(String),
    #[error("more than {NODES_MAX} nodes are in it")]
    TooMany,
}

/// A connection to etcd.
pub(super) struct Store {
    client: Client,
    prefix: Prefix,
    patience: Duration,
}

/// A lease, as long as it is asked for again and again.
pub(super) struct Lease {
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
}

/// What changes at the keys of nodes.
pub(super) struct Watching {
    stream: WatchStream,
    prefix: Prefix,
}

/// A change at the key of a node; `None`: it was deleted.
pub(super) type NodeChange = (NodeId, Option<String>);

impl Store {
    pub(super) async fn connect(config: &Config) -> Result<Self, Fault> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(config.patience)
            .with_keep_alive(KEEPALIVE, config.patience)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        if let Some(tls) = &config.tls {
            options = options.with_tls(read(tls).await?);
        }
        let client = within(config.patience, Client::connect(&config.endpoints, Some(options))).await?;
        Ok(Self { client, prefix: config.prefix.clone(), patience: config.patience })
    }

    pub(super) async fn lease(&mut self, lasting: Duration) -> Result<Lease, Fault> {
        let seconds = i64::try_from(lasting.as_secs()).unwrap_or(i64::MAX);
        let granted = within(self.patience, self.client.lease_grant(seconds, None)).await?;
        let (keeper, answers) = within(self.patience, self.client.lease_keep_alive(granted.id())).await?;
        Ok(Lease { keeper, answers })
    }

    /// Writes and deletes, some at a time.
    pub(super) async fn write(&mut self, lease: &Lease, changes: &Changes) -> Result<(), Fault> {
        for some in changes.chunks(CHANGES_PER_TRANSACTION) {
            let operations = some.iter().map(|(key, value)| {
                let key = key.text(&self.prefix);
                match value {
                    Some(value) => {
                        let options = PutOptions::new().with_lease(lease.keeper.id());
                        TxnOp::put(key, value.clone(), Some(options))
                    }
                    None => TxnOp::delete(key, None),
                }
            });
            let transaction = Txn::new().and_then(operations.collect::<Vec<_>>());
            within(self.patience, self.client.txn(transaction)).await?;
        }
        Ok(())
    }

    /// Every node, and the revision at which that was so.
    pub(super) async fn nodes(&mut self) -> Result<(BTreeMap<NodeId, String>, i64), Fault> {
        let prefix = self.prefix.nodes();
        let mut end = prefix.clone().into_bytes();
        // The first key behind all that begin with the prefix: `0` comes after `/`.
        end.pop();
        end.push(b'0');
        let (mut nodes, mut at, mut from) = (BTreeMap::new(), 0, prefix.into_bytes());
        loop {
            let options =
                GetOptions::new().with_range(end.clone()).with_limit(NODES_PER_ANSWER).with_revision(at);
            let answer = within(self.patience, self.client.get(from, Some(options))).await?;
            at = answer.header().map_or(at, |header| if at == 0 { header.revision() } else { at });
            nodes.extend(answer.kvs().iter().filter_map(|entry| node(&self.prefix, entry)));
            if nodes.len() > NODES_MAX {
                return Err(Fault::TooMany);
            }
            match answer.kvs().last() {
                Some(last) if answer.more() => from = [last.key(), b"\0"].concat(),
                Some(_) | None => return Ok((nodes, at)),
            }
        }
    }

    /// Watches the keys of nodes from `revision` on.
    pub(super) async fn watch(&mut self, revision: i64) -> Result<Watching, Fault> {
        let options = WatchOptions::new().with_prefix().with_start_revision(revision);
        let watch = self.client.watch(self.prefix.nodes(), Some(options));
        let stream = within(self.patience, watch).await?;
        Ok(Watching { stream, prefix: self.prefix.clone() })
    }
}

impl Lease {
    /// Asks for more time.
    pub(super) async fn ask(&mut self) -> Result<(), Fault> {
        Ok(self.keeper.keep_alive().await?)
    }

    /// The next answer that grants more time.
    pub(super) async fn granted(&mut self) -> Result<(), Fault> {
        match self.answers.message().await? {
            // One that has ended is granted no time.
            Some(answer) if answer.ttl() > 0 => Ok(()),
            Some(_) | None => Err(Fault::LeaseLost),
        }
    }
}

impl Watching {
    /// Asks for a word, whether anything changed or not.
    pub(super) async fn ask(&mut self) -> Result<(), Fault> {
        Ok(self.stream.request_progress().await?)
    }

    /// The next changes, in order; none, if it was only a word.
    pub(super) async fn changes(&mut self) -> Result<Vec<NodeChange>, Fault> {
        let Some(message) = self.stream.message().await? else {
            return Err(Fault::WatchEnded("without a word".to_owned()));
        };
        if message.compact_revision() != 0 {
            return Err(Fault::Compacted(message.compact_revision()));
        }
        if message.canceled() {
            return Err(Fault::WatchEnded(message.cancel_reason().chars().take(200).collect()));
        }
        let changes = message.events().iter().filter_map(|event| {
            let entry = event.kv()?;
            match event.event_type() {
                EventType::Put => {
                    let (id, address) = node(&self.prefix, entry)?;
                    Some((id, Some(address)))
                }
                EventType::Delete => match Key::read(&self.prefix, entry.key())? {
                    Key::Node(id) => Some((id, None)),
                    Key::Provider(..) => None,
                },
            }
        });
        Ok(changes.collect())
    }
}

async fn read(tls: &Tls) -> Result<TlsOptions, Fault> {
    let authority = read_file(&tls.authority).await?;
    let mut with = TlsOptions::new().ca_certificate(Certificate::from_pem(authority));
    if let Some((certificate, key)) = &tls.identity {
        with = with.identity(Identity::from_pem(read_file(certificate).await?, read_file(key).await?));
    }
    Ok(with)
}

async fn read_file(path: &Path) -> Result<Vec<u8>, Fault> {
    tokio::fs::read(path).await.map_err(|error| Fault::File { path: path.into(), error })
}

/// The node that an entry is about. What others wrote at our keys is left alone.
fn node(prefix: &Prefix, entry: &KeyValue) -> Option<(NodeId, String)> {
    let Key::Node(id) = Key::read(prefix, entry.key())? else { return None };
    Some((id, read_address(entry.value())?))
}

/// An error of the client's, and all that caused it, each once: its own words are for programmers.
fn in_words(error: &Error) -> String {
    let Error::GRpcStatus(status) = error else { return error.to_string() };
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

async fn within<T>(patience: Duration, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Fault> {
    match tokio::time::timeout(patience, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Fault::Slow(patience)),
    }
}
