//! The processes: a control plane, agents and an etcd, each on a machine of its own, killed, frozen and begun again at
//! the same addresses.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use wasmatrix_model::NodeStatus;

use crate::net::{Machine, Net};

/// The nodes: as many as there are letters here.
pub(crate) const NODES: [&str; 3] = ["a", "b", "c"];
/// The timetable, as the control plane is told it.
const TIMES: &[&str] =
    &["--heartbeat", "200ms", "--suspect-after", "2s", "--lost-after", "4s", "--settle", "2s"];
/// The same as [`TIMES`] says.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(4);
/// Longest wait for what must happen at the beginning.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at what has not happened yet.
const PAUSE: Duration = Duration::from_millis(200);

/// A process of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Who {
    Control,
    Node(usize),
    Etcd,
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Control => f.write_str("the control plane"),
            Self::Node(number) => write!(f, "node {}", NODES[*number]),
            Self::Etcd => f.write_str("etcd"),
        }
    }
}

impl Who {
    /// Where it runs.
    pub(crate) const fn machine(self) -> Machine {
        match self {
            Self::Control | Self::Etcd => Machine::Control,
            Self::Node(number) => Machine::Node(number),
        }
    }
}

/// See the module's head. All of it ends with the value.
#[derive(Debug)]
pub(crate) struct Cluster {
    processes: Mutex<Processes>,
    pub(crate) net: Net,
    dir: PathBuf,
}

#[derive(Debug, Default)]
struct Processes {
    control: Option<Running>,
    etcd: Option<Running>,
    nodes: [Option<Running>; NODES.len()],
}

/// A process that is killed with the value.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

impl Running {
    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id().cast_signed()).expect("it is a process id");
        kill_process(pid, signal).expect("whoever is not waited for can be told");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Processes {
    fn of(&mut self, who: Who) -> &mut Option<Running> {
        match who {
            Who::Control => &mut self.control,
            Who::Etcd => &mut self.etcd,
            Who::Node(number) => &mut self.nodes[number],
        }
    }
}

/// The binary under test, with none of the caller's settings.
pub(crate) fn binary() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_wasmatrix")))
}

fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WASMATRIX_")) {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

impl Cluster {
    /// Begins all of it, with its files in `dir`, and waits until every node is ready. To be called by a user.
    pub(crate) async fn begin(net: Net, dir: &Path) -> Self {
        let cluster = Self { processes: Mutex::default(), net, dir: dir.to_owned() };
        cluster.start(Who::Etcd);
        cluster.start(Who::Control);
        for (number, node) in NODES.iter().enumerate() {
            let token = cluster.until("a token", || cluster.tell(&["token", "create", "--node", node])).await;
            cluster.spawn(Who::Node(number), &cluster.join(number, Some(token.trim())));
        }
        cluster.until("every node is ready", || cluster.all_ready()).await;
        cluster
    }

    fn lock(&self) -> MutexGuard<'_, Processes> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A path below the cluster's folder, as a word.
    pub(crate) fn word(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Where the control plane is.
    pub(crate) fn url() -> String {
        format!("https://{}:7118", Machine::Control.address())
    }

    /// Where a node's agent is.
    pub(crate) fn agent_url(number: usize) -> String {
        format!("https://{}:7119", Machine::Node(number).address())
    }

    /// Begins a process that is not there.
    pub(crate) fn start(&self, who: Who) {
        let words = match who {
            Who::Control => self.control_plane(),
            Who::Node(number) => self.join(number, None),
            Who::Etcd => self.etcd(),
        };
        self.spawn(who, &words);
    }

    fn spawn(&self, who: Who, words: &[String]) {
        let log = |name: &str| {
            let path = self.dir.join(format!("{name}.log"));
            File::options().create(true).append(true).open(path).expect("the folder is ours")
        };
        let (program, name) = match who {
            Who::Etcd => ("etcd".to_owned(), "etcd".to_owned()),
            Who::Control => (env!("CARGO_BIN_EXE_wasmatrix").to_owned(), "control".to_owned()),
            Who::Node(number) => (env!("CARGO_BIN_EXE_wasmatrix").to_owned(), NODES[number].to_owned()),
        };
        let mut command = clean(self.net.command(who.machine(), program));
        command.args(words).stdout(log(&name)).stderr(log(&name));
        let child = command.spawn().expect("the program starts");
        *self.lock().of(who) = Some(Running(child));
    }

    fn control_plane(&self) -> Vec<String> {
        let (tls, data) = (format!("{}:7118", Machine::Control.address()), self.word("control"));
        let doors = ["-v", "control-plane", "--cluster-listen", &tls, "--data-dir", &data];
        let etcd = ["--etcd", "http://127.0.0.1:2379"];
        [&doors[..], TIMES, &etcd].concat().into_iter().map(str::to_owned).collect()
    }

    fn join(&self, number: usize, token: Option<&str>) -> Vec<String> {
        let (node, control) = (NODES[number], format!("{}:7118", Machine::Control.address()));
        let (data, cache) = (self.word(node), self.word("cache"));
        let mut words =
            vec!["-v", "join", &control, "--node", node, "--data-dir", &data, "--cache-dir", &cache];
        words.extend(token.iter().flat_map(|token| ["--token", token]));
        words.into_iter().map(str::to_owned).collect()
    }

    fn etcd(&self) -> Vec<String> {
        let (client, peer) = ("http://127.0.0.1:2379", "http://127.0.0.1:2380");
        let data = self.word("etcd");
        let words = [
            ["--data-dir", &data],
            ["--listen-client-urls", client],
            ["--advertise-client-urls", client],
            ["--listen-peer-urls", peer],
            ["--initial-advertise-peer-urls", peer],
            ["--initial-cluster", "default=http://127.0.0.1:2380"],
            ["--log-level", "error"],
        ];
        words.concat().into_iter().map(str::to_owned).collect()
    }

    /// Ends a process as a power failure would.
    pub(crate) fn kill(&self, who: Who) {
        self.lock().of(who).take();
    }

    /// It does nothing any more, and its connections stay.
    pub(crate) fn freeze(&self, who: Who) {
        if let Some(running) = self.lock().of(who) {
            running.signal(Signal::STOP);
        }
    }

    pub(crate) fn thaw(&self, who: Who) {
        if let Some(running) = self.lock().of(who) {
            running.signal(Signal::CONT);
        }
    }

    /// Throws away what an etcd that is not there kept.
    pub(crate) fn empty_etcd(&self) {
        let _ = std::fs::remove_dir_all(self.dir.join("etcd")); // it may never have begun
    }

    /// Those that ended though nobody killed them.
    pub(crate) fn fallen(&self) -> Vec<Who> {
        let mut processes = self.lock();
        let all = [Who::Control, Who::Etcd].into_iter().chain((0..NODES.len()).map(Who::Node));
        let fallen = |who: &Who| {
            let running = processes.of(*who).as_mut();
            running.is_some_and(|running| !matches!(running.0.try_wait(), Ok(None)))
        };
        all.filter(fallen).collect()
    }

    /// A client's verb, over TLS as an administrator.
    pub(crate) fn verb(&self, words: &[&str]) -> Command {
        let (url, certs) = (Self::url(), self.word("control/certs/admin"));
        let mut command = binary();
        command.args(["--addr", &url, "--certs", &certs]).args(words);
        command
    }

    /// Runs a client's verb. `None`: it failed.
    pub(crate) fn tell(&self, words: &[&str]) -> Option<String> {
        let Output { status, stdout, .. } = self.verb(words).output().expect("the binary starts");
        status.success().then(|| String::from_utf8_lossy(&stdout).into_owned())
    }

    /// Whether every node is ready, and can be asked.
    pub(crate) fn all_ready(&self) -> Option<()> {
        let nodes = crate::watch::items::<NodeStatus>(&self.tell(&["node", "list", "-o", "json"])?).ok()?;
        let is_ready =
            |node: &NodeStatus| node.phase == wasmatrix_model::NodePhase::Ready && node.reason.is_none();
        (nodes.len() == NODES.len() && nodes.iter().all(is_ready)).then_some(())
    }

    /// Waits for something that is to come.
    pub(crate) async fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let found = async {
            loop {
                if let Some(found) = look() {
                    return found;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(found) => found,
            Err(_) => panic!("{what}: not within {PATIENCE:?}"),
        }
    }
}
