//! A simulated node: a machine on the network, that can crash and begin anew.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Server};

use crate::{
    Link, Net, SimClock,
    attend::Attendance,
    machine::{Machine, Traits},
    service::SimAgent,
};

/// A node that lives in this process, whether it is up or down at the moment. Ends with the value.
#[derive(Debug)]
pub struct SimNode {
    traits: Traits,
    net: Net,
    link: Option<Link>,
    clock: Arc<SimClock>,
    control_plane: String,
    shared: Option<Channel>,
    mischief: Arc<Mischief>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What to listen as, next time too.
    name: String,
    boots: u32,
    run: Option<Run>,
    /// Tasks of the run before, that may still be about to end.
    dying: JoinSet<()>,
}

/// From a start of the node to its crash.
#[derive(Debug)]
struct Run {
    machine: Arc<Machine>,
    address: String,
    life: CancellationToken,
    // Aborted when dropped.
    tasks: JoinSet<()>,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.life.cancel();
    }
}

/// What goes wrong with a node's answers.
#[derive(Debug)]
pub(crate) struct Mischief {
    /// So many answers are lost, their requests done.
    lost_answers: AtomicU32,
    link: Option<Link>,
}

impl Mischief {
    /// To be waited for before an answer is given. Loses it, if that is due: the connection is cut, and this never ends.
    pub(crate) async fn before_an_answer(&self) {
        let lose = |left: u32| left.checked_sub(1);
        if self.lost_answers.fetch_update(Relaxed, Relaxed, lose).is_ok() {
            if let Some(link) = &self.link {
                link.cut();
            }
            std::future::pending::<()>().await;
        }
    }
}

impl SimNode {
    /// A node that is down. `control_plane` is where it attends, e.g. `http://127.0.0.1:7117`; a simulated network
    /// knows it by the name it listens as. With a link, everything from and to the node goes over it.
    pub fn new(
        traits: Traits,
        net: Net,
        link: Option<Link>,
        clock: Arc<SimClock>,
        control_plane: &str,
    ) -> Self {
        let mischief = Arc::new(Mischief { lost_answers: AtomicU32::new(0), link: link.clone() });
        let state = State { name: traits.id.to_string(), boots: 0, run: None, dying: JoinSet::new() };
        let control_plane = control_plane.to_owned();
        Self { traits, net, link, clock, control_plane, shared: None, mischief, state: Mutex::new(state) }
    }

    /// Lets it attend over a connection that it shares with others, as nodes behind a proxy do.
    #[must_use]
    pub fn sharing(self, connection: Channel) -> Self {
        Self { shared: Some(connection), ..self }
    }

    /// Lets it begin: listen, attend the control plane, and live. One that is up begins anew.
    ///
    /// # Errors
    /// It can't listen where it did before.
    pub async fn boot(&self) -> io::Result<()> {
        self.boot_with(|_| {}).await
    }

    /// As [`SimNode::boot`], with something done on the machine before anybody can reach it.
    ///
    /// # Errors
    /// As [`SimNode::boot`].
    pub async fn boot_with(&self, prepare: impl FnOnce(&Machine)) -> io::Result<()> {
        self.crash();
        let (name, boots, mut dying) = {
            let mut state = self.lock();
            state.boots += 1;
            (state.name.clone(), state.boots, std::mem::take(&mut state.dying))
        };
        // The name, or the port, is free again only then.
        dying.shutdown().await;
        let listener = self.net.listen(&name).await?;
        let address = listener.address().to_owned();
        let name = listener
            .port()
            .filter(|_| matches!(self.net, Net::Loopback))
            .map_or(name, |port| port.to_string());
        let mut traits = self.traits.clone();
        traits.seed = traits.seed.of(boots);
        let rng = traits.seed.of("attend").rng();
        let machine = Arc::new(Machine::new(traits, Arc::clone(&self.clock)));
        prepare(&machine);
        let life = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let service = SimAgent::server(Arc::clone(&machine), &address, Arc::clone(&self.mischief));
        let incoming = listener.incoming(self.link.clone(), life.clone());
        tasks.spawn(async move {
            if let Err(error) = Server::builder().add_service(service).serve_with_incoming(incoming).await {
                tracing::debug!(%error, "a simulated node's service ended");
            }
        });
        let attendance = Attendance {
            net: self.net.clone(),
            link: self.link.clone(),
            control_plane: self.control_plane.clone(),
            address: address.clone(),
            shared: self.shared.clone(),
        };
        tasks.spawn(attendance.attend(Arc::clone(&machine), rng));
        let living = Arc::clone(&machine);
        tasks.spawn(async move { living.live().await });
        let mut state = self.lock();
        state.name = name;
        state.run = Some(Run { machine, address, life, tasks });
        Ok(())
    }

    /// Ends it as a power failure would: connections break, and all that it held is gone.
    pub fn crash(&self) {
        let mut state = self.lock();
        if let Some(mut run) = state.run.take() {
            state.dying = std::mem::take(&mut run.tasks);
            state.dying.abort_all();
        }
    }

    /// Loses the next so many answers of the node: what is asked is done, and the connection ends without a word.
    pub fn lose_answers(&self, count: u32) {
        self.mischief.lost_answers.store(count, Relaxed);
    }

    /// Its present run; `None`: it is down.
    pub fn machine(&self) -> Option<Arc<Machine>> {
        self.lock().run.as_ref().map(|run| Arc::clone(&run.machine))
    }

    /// Where it listens; `None`: it is down.
    pub fn address(&self) -> Option<String> {
        self.lock().run.as_ref().map(|run| run.address.clone())
    }

    /// Its line.
    pub const fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// Its clock.
    pub fn clock(&self) -> &SimClock {
        &self.clock
    }

    /// What it is.
    pub const fn traits(&self) -> &Traits {
        &self.traits
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
