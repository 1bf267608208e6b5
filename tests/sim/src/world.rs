//! A whole cluster in one process: a real control plane, simulated nodes, and a network between them and their users.
//!
//! ```text
//! users ── control plane ── net ── links ── nodes       killed and begun again, cut and healed, at any moment
//! ```

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use wasmatrix_control_plane::{Config, ControlPlane, Dial, dial::patient, serve};
use wasmatrix_model::NodeId;
use wasmatrix_wire::MESSAGE_BYTES_MAX;

use crate::{Link, Lives, Net, Schedule, Seed, SimClock, SimNode, Traits, User};

/// Where the control plane listens, on a network in memory.
const CONTROL_PLANE: &str = "control-plane";

/// See the module's head. Everything in it ends with it.
#[derive(Debug)]
pub struct World {
    net: Net,
    clock: Arc<SimClock>,
    config: Config,
    /// The nodes, `node-0` and so on.
    pub nodes: Vec<SimNode>,
    control: Mutex<Option<Control>>,
}

/// One life of the control plane.
#[derive(Debug)]
struct Control {
    // Ends when the last clone is dropped.
    _plane: ControlPlane,
    life: CancellationToken,
    serving: JoinHandle<()>,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.life.cancel();
        self.serving.abort();
    }
}

/// Dials simulated nodes.
#[derive(Debug)]
struct SimDial(Net);

impl Dial for SimDial {
    fn dial(&self, _: &NodeId, address: &str) -> Result<Channel, String> {
        let endpoint = patient(Endpoint::from_static("http://simulated.invalid"));
        Ok(self.0.channel_with(endpoint, address, None))
    }
}

impl World {
    /// So many nodes that live so, all up, and a control plane with its defaults that knows them.
    ///
    /// # Panics
    /// Something can't listen, though the network is its own.
    pub async fn new(seed: Seed, nodes: usize, lives: &Lives) -> Self {
        let traits = |number| {
            let id = format!("node-{number}").parse().expect("a legal name");
            Traits { lives: lives.clone(), ..Traits::new(id, seed) }
        };
        Self::of((0..nodes).map(traits).collect()).await
    }

    /// These nodes, all up, and a control plane with its defaults that knows them.
    ///
    /// # Panics
    /// As [`World::new`].
    pub async fn of(nodes: Vec<Traits>) -> Self {
        let (net, clock) = (Net::memory(), Arc::new(SimClock::new()));
        let config = Config {
            clock: Arc::<SimClock>::clone(&clock),
            dial: Arc::new(SimDial(net.clone())),
            ..Config::default()
        };
        let node = |traits| {
            let control_plane = format!("http://{CONTROL_PLANE}");
            SimNode::new(traits, net.clone(), Some(Link::new()), Arc::new(clock.fork()), &control_plane)
        };
        let nodes = nodes.into_iter().map(node).collect();
        let world = Self { net, clock, config, nodes, control: Mutex::new(None) };
        world.begin_control_plane().await;
        for node in &world.nodes {
            node.boot().await.expect("its name is free");
        }
        world.until_known().await;
        world
    }

    /// Begins the control plane; one that lives is killed first.
    ///
    /// # Panics
    /// It can't listen.
    pub async fn begin_control_plane(&self) {
        self.kill_control_plane().await;
        let plane = self.config.clone().begin().expect("the timetable is in order");
        let listener = self.net.listen(CONTROL_PLANE).await.expect("nobody else listens there");
        let life = CancellationToken::new();
        let incoming = listener.incoming(None, life.clone());
        let served = plane.clone();
        let serving = tokio::spawn(async move {
            let ended = serve(incoming, served, std::future::pending(), Duration::ZERO).await;
            tracing::debug!(?ended, "the control plane's service ended");
        });
        *self.control() = Some(Control { _plane: plane, life, serving });
    }

    /// Ends the control plane as `kill -9` does. Nothing of it is left.
    pub async fn kill_control_plane(&self) {
        let Some(mut control) = self.control().take() else { return };
        control.life.cancel();
        control.serving.abort();
        let _ = (&mut control.serving).await; // it was aborted
    }

    /// Whether a control plane lives.
    pub fn has_control_plane(&self) -> bool {
        self.control().is_some()
    }

    fn control(&self) -> MutexGuard<'_, Option<Control>> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A user of this cluster, with a connection of his own.
    pub fn user(&self) -> User {
        self.user_over(None)
    }

    /// A channel to the control plane, whichever lives.
    pub fn channel(&self) -> Channel {
        self.net.channel(&format!("http://{CONTROL_PLANE}"), None)
    }

    /// A user behind a line that can fail too.
    pub fn user_over(&self, link: Option<&Link>) -> User {
        let channel = self.net.channel(&format!("http://{CONTROL_PLANE}"), link);
        let client = wasmatrix_wire::protocol::control_plane(channel)
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        User::new(client, Arc::<SimClock>::clone(&self.clock))
    }

    /// The clock of the control plane.
    pub fn clock(&self) -> &SimClock {
        &self.clock
    }

    /// Waits until the control plane has heard of every node that is up, and of all its instances.
    ///
    /// # Panics
    /// That takes more than a minute.
    pub async fn until_known(&self) {
        let mut user = self.user();
        let known = async {
            let up =
                || self.nodes.iter().filter_map(SimNode::machine).map(|machine| machine.traits().id.clone());
            loop {
                let nodes = user.nodes().await.unwrap_or_default();
                let is_known = |id| nodes.iter().any(|node| node.id == id && node.reason.is_none());
                if up().all(is_known) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), known)
            .await
            .expect("every node is heard within a minute");
    }

    /// Makes everything right again, and waits until the control plane knows it: for what is past to have had its
    /// consequences, so long as the timetable takes to give a node up and what follows that.
    ///
    /// # Panics
    /// As [`World::new`] and [`World::until_known`].
    pub async fn heal(&self) {
        Schedule::end(&self.nodes).await.expect("names are free");
        if !self.has_control_plane() {
            self.begin_control_plane().await;
        }
        tokio::time::sleep(2 * self.config.timetable.lost_after).await;
        self.until_known().await;
    }
}
