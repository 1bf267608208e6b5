//! What a control plane is made of, as one value with defaults, and the control plane itself.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::Channel;
use wasmatrix_model::{Clock, FactKind, NodeId, SystemClock, failure::Invalid};

use crate::{
    access::{Refusals, record_handshakes},
    artifacts::Artifacts,
    cluster::Cluster,
    dial::{Dial, PlainText},
    discovery::Discovery,
    enroll::Joining,
    liveness::Timetable,
    mirror::Mirror,
    nodes::Nodes,
    placing::Placing,
    record::{CONTROL_PLANE, Record},
    server,
    start::Starts,
    succession::Successions,
};

/// How a control plane is to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// The version of Wasmatrix that it says it is.
    pub version: String,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// How often nodes are to be heard, and what their silence means.
    pub timetable: Timetable,
    /// For how long after its begin a name that is not known may be one that a node has not told yet: starts of such
    /// names wait, and so do listings. Zero: until the nodes of this process have told.
    pub settle: Duration,
    /// How agents are dialled.
    pub dial: Arc<dyn Dial>,
    /// Nodes in this process, and the ways to their agents. They attend by [`ControlPlane::in_process`].
    pub local: BTreeMap<NodeId, Channel>,
    /// What signs certificates for machines that join by a token. `None`: they can't.
    pub joining: Option<Arc<Joining>>,
    /// Where else nodes are known. `None`: only those are known that attend.
    pub discovery: Option<Arc<dyn Discovery>>,
    /// Most nodes that are known at one time.
    pub nodes_max: usize,
    /// Most starts that are under way at one time.
    pub starts_max: usize,
    /// Facts kept for those who watch late, of all nodes together.
    pub facts_kept: usize,
    /// Most bytes of artifacts kept for instances that may be restarted elsewhere.
    pub artifact_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            clock: Arc::new(SystemClock),
            timetable: Timetable::default(),
            settle: Self::SETTLE,
            dial: Arc::new(PlainText::default()),
            local: BTreeMap::new(),
            joining: None,
            discovery: None,
            nodes_max: 20_000,
            starts_max: 10_000,
            facts_kept: 100_000,
            artifact_bytes_max: 512 << 20,
        }
    }
}

impl Config {
    /// Default of [`Config::settle`]: longer than agents take to attend again.
    pub const SETTLE: Duration = Duration::from_secs(3);

    /// For one process that is control plane and node: nothing is waited for but that node.
    pub fn of_one_process(node: NodeId, agent: Channel) -> Self {
        Self { settle: Duration::ZERO, local: [(node, agent)].into(), ..Self::default() }
    }

    /// Begins the control plane. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The timetable's times are out of order, or a node of this process is called as the control plane is.
    pub fn begin(self) -> Result<ControlPlane, Invalid> {
        self.timetable.validate().map_err(|invalid| invalid.within("timetable"))?;
        let own: NodeId = CONTROL_PLANE.parse()?;
        if self.local.contains_key(&own) {
            return Err(Invalid::new(
                "node",
                format!("`{own}` is the control plane itself: call the node otherwise"),
            ));
        }
        let placing = Placing::default();
        let cluster = Arc::new(Cluster {
            record: Record::new(Arc::clone(&self.clock), own.clone(), self.facts_kept),
            own,
            version: self.version.clone(),
            clock: self.clock,
            timetable: self.timetable,
            nodes: Nodes::new(self.nodes_max, placing.clone()),
            mirror: Mirror::new(placing),
            starts: Starts::new(self.starts_max),
            artifacts: Artifacts::new(self.artifact_bytes_max),
            successions: Successions::default(),
            dial: self.dial,
            locals: self.local,
            settled: watch::Sender::new(false),
            sessions: AtomicU64::new(1),
            tasks: TaskTracker::new(),
            refusals: Refusals::default(),
            joining: self.joining,
            discovery: self.discovery.clone(),
            runtime: tokio::runtime::Handle::current(),
            ending: CancellationToken::new(),
        });
        cluster.record.record(FactKind::ControlPlaneStarted { version: self.version });
        cluster.spawn(Arc::clone(&cluster).watch_over());
        cluster.spawn(Arc::clone(&cluster).settle(self.settle));
        if let Some(discovery) = self.discovery {
            cluster.spawn(Arc::clone(&cluster).discover(discovery));
        }
        Ok(ControlPlane(Arc::new(Whole { cluster })))
    }
}

/// A control plane. Cheap to clone; it ends when the last clone is dropped. Instances never notice.
#[derive(Clone, Debug)]
pub struct ControlPlane(Arc<Whole>);

#[derive(Debug)]
struct Whole {
    cluster: Arc<Cluster>,
}

impl ControlPlane {
    /// A channel to it within this process: the same gRPC that goes between machines, over a pipe in memory. The node of
    /// this process attends by it; it is also the way for a client that is not to open a port.
    pub fn in_process(&self) -> Channel {
        server::in_process(Arc::clone(&self.0.cluster))
    }

    /// Makes facts of handshakes that are refused at a socket, if it is for the certificate that was shown: `refusals` are
    /// those of a `wasmatrix_identity::Incoming` that it is served on.
    pub fn record_refusals(&self, refusals: wasmatrix_identity::Refusals) {
        let cluster = self.cluster();
        cluster.spawn(record_handshakes(Arc::clone(cluster), refusals));
    }

    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.0.cluster
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        self.cluster.ending.cancel();
    }
}
