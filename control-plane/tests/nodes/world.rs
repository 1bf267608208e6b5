//! A cluster within a test: one control plane, some nodes whose lines can be cut, and a user.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Channel};
use wasmatrix_control_plane::{Config, ControlPlane, Dial, serve};
use wasmatrix_model::{
    Clock as _, Digest, Fact, FactKind, Failure, InstanceSpec, InstanceStatus, NodeId, NodePhase, NodeStatus,
    OnNodeLoss, SystemClock,
};
use wasmatrix_sim::{Direction, Link, Net, Seed, SimClock, SimNode, Traits};
use wasmatrix_wire::{
    StartRequest,
    failure::from_status,
    protocol::{StampedClient, control_plane},
    start_parts, v1,
};

/// What stands for an artifact: nothing runs it.
pub(crate) const ARTIFACT: &[u8] = b"not even Wasm";
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(300);
/// Where the control plane listens.
const CONTROL_PLANE: &str = "control-plane";

/// See the module's head.
pub(crate) struct World {
    pub(crate) nodes: Vec<SimNode>,
    net: Net,
    config: Config,
    running: Option<Running>,
}

struct Running {
    control_plane: ControlPlane,
    life: CancellationToken,
    serving: JoinHandle<()>,
}

/// Dials over the simulated network, and over the line of the node that is meant.
#[derive(Debug)]
struct Over(Net);

impl Dial for Over {
    fn dial(&self, _: &NodeId, address: &str) -> Result<Channel, String> {
        Ok(self.0.channel(address, None))
    }
}

impl World {
    /// A control plane, and so many nodes, `node-0` and so on, that are ready.
    pub(crate) async fn of(nodes: usize) -> Self {
        let net = Net::memory();
        let clock = Arc::new(SimClock::new());
        let config = Config { clock: clock.clone(), dial: Arc::new(Over(net.clone())), ..Config::default() };
        let mut world = Self { nodes: Vec::new(), net, config, running: None };
        world.begin().await;
        for index in 0..nodes {
            let id = format!("node-{index}").parse().unwrap();
            let traits = Traits::new(id, Seed::new(1));
            let at = format!("http://{CONTROL_PLANE}");
            let node =
                SimNode::new(traits, world.net.clone(), Some(Link::new()), Arc::new(clock.fork()), &at);
            node.boot().await.unwrap();
            world.nodes.push(node);
        }
        for index in 0..nodes {
            world.until_node(index, |node| node.phase == NodePhase::Ready && node.reason.is_none()).await;
        }
        world
    }

    /// Begins the control plane, anew if it was killed.
    pub(crate) async fn begin(&mut self) {
        let control_plane = self.config.clone().begin().unwrap();
        let life = CancellationToken::new();
        let incoming = self.net.listen(CONTROL_PLANE).await.unwrap().incoming(None, life.clone());
        let served = control_plane.clone();
        let serving = tokio::spawn(async move {
            let _ = serve(Box::pin(incoming), served, std::future::pending(), Duration::ZERO).await;
        });
        self.running = Some(Running { control_plane, life, serving });
    }

    /// Ends the control plane as `kill -9` would: connections break, and all that it knew is gone.
    pub(crate) async fn kill(&mut self) {
        let Running { control_plane, life, serving } = self.running.take().unwrap();
        life.cancel();
        serving.abort();
        let _ = serving.await;
        drop(control_plane);
        tokio::task::yield_now().await;
    }

    /// A user who speaks to the control plane.
    pub(crate) fn user(&self) -> StampedClient {
        control_plane(self.running.as_ref().unwrap().control_plane.in_process())
    }

    pub(crate) async fn start(&self, request: impl Into<StartRequest>) -> Result<InstanceStatus, Failure> {
        let parts = start_parts(request, Bytes::from_static(ARTIFACT));
        let answer = self.user().start_instance(tokio_stream::iter(parts)).await.map_err(failure)?;
        Ok(answer.into_inner().instance.unwrap().try_into().unwrap())
    }

    pub(crate) async fn get(&self, instance: &str) -> Result<InstanceStatus, Failure> {
        let request = v1::GetInstanceRequest { instance: instance.to_owned() };
        let answer = self.user().get_instance(request).await.map_err(failure)?;
        Ok(answer.into_inner().instance.unwrap().try_into().unwrap())
    }

    pub(crate) async fn stop(&self, instance: &str) -> Result<InstanceStatus, Failure> {
        let request = v1::StopInstanceRequest { instance: instance.to_owned(), grace: None };
        let answer = self.user().stop_instance(request).await.map_err(failure)?;
        Ok(answer.into_inner().instance.unwrap().try_into().unwrap())
    }

    pub(crate) async fn remove(&self, instance: &str) -> Result<(), Failure> {
        let request = v1::RemoveInstanceRequest { instance: instance.to_owned() };
        self.user().remove_instance(request).await.map_err(failure)?;
        Ok(())
    }

    pub(crate) async fn list(&self) -> Vec<InstanceStatus> {
        let page =
            self.user().list_instances(v1::ListInstancesRequest::default()).await.unwrap().into_inner();
        page.instances.into_iter().map(|instance| instance.try_into().unwrap()).collect()
    }

    /// Waits until a node is so.
    pub(crate) async fn until_node(&self, index: usize, wanted: impl Fn(&NodeStatus) -> bool) {
        let looking = async {
            loop {
                let all = self.user().list_nodes(v1::ListNodesRequest {}).await.unwrap().into_inner().nodes;
                let id = format!("node-{index}");
                let found = all.into_iter().find(|node| node.id == id).map(|node| node.try_into().unwrap());
                if found.is_some_and(|node| wanted(&node)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.expect("the node becomes so");
    }

    /// Waits until something that `wanted` knows has happened, now or before.
    pub(crate) async fn until(&self, wanted: impl Fn(&Fact) -> bool) -> Fact {
        let request = v1::WatchFactsRequest { follow: true, ..Default::default() };
        let mut facts = self.user().watch_facts(request).await.unwrap().into_inner();
        let looking = async {
            loop {
                let told = facts.message().await.unwrap().expect("the record does not end");
                let fact = Fact::try_from(told.fact.unwrap()).unwrap();
                if wanted(&fact) {
                    return fact;
                }
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.expect("it happens")
    }

    /// Everything that has happened.
    pub(crate) async fn facts(&self) -> Vec<FactKind> {
        let request = v1::WatchFactsRequest::default();
        let mut facts = self.user().watch_facts(request).await.unwrap().into_inner();
        let mut all = Vec::new();
        while let Some(told) = facts.message().await.unwrap() {
            all.push(Fact::try_from(told.fact.unwrap()).unwrap().kind);
        }
        all
    }

    /// Cuts a node off: silence both ways, and nobody is told.
    pub(crate) fn cut_off(&self, index: usize) {
        let link = self.nodes[index].link().unwrap();
        link.hold(Direction::Toward);
        link.hold(Direction::Away);
    }

    /// The node's line is fine again.
    pub(crate) fn heal(&self, index: usize) {
        self.nodes[index].link().unwrap().heal();
    }
}

pub(crate) fn failure(status: Status) -> Failure {
    from_status(&status, SystemClock.now())
}

pub(crate) fn spec(name: &str) -> InstanceSpec {
    InstanceSpec::new(name.parse().unwrap(), Digest::of(ARTIFACT))
}

/// A spec of that name for that node.
pub(crate) fn on(name: &str, node: usize) -> InstanceSpec {
    let mut spec = spec(name);
    spec.placement.node = Some(format!("node-{node}").parse().unwrap());
    spec
}

/// A spec that may be restarted elsewhere.
pub(crate) fn movable(name: &str) -> InstanceSpec {
    let mut spec = spec(name);
    spec.placement.on_node_loss = OnNodeLoss::RestartElsewhere;
    spec
}

/// A request with an idempotency key.
pub(crate) fn keyed(spec: InstanceSpec, key: &str) -> StartRequest {
    StartRequest { idempotency_key: Some(key.to_owned()), ..spec.into() }
}
