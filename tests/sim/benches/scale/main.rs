//! How one control plane carries many nodes and instances: `cargo xtask bench -- scale`.
//!
//! ```text
//! this process: the user, the clock ── control plane: a process ── nodes: simulated, in processes of their own
//! ```
//!
//! Sizes are measured in one run, so that their ratios mean something on a noisy machine; everything shares its
//! processors, so absolute figures are for orientation. Arguments: `-- [scale…] nodes=N instances=N rounds=N`; with
//! `nodes=N` that size alone.
//!
//! Nodes are as real ones to the control plane, each with an agent at an address of its own; but where the limit of open
//! files forbids a connection of its own for each to attend by, some attend in pairs, as behind a proxy, and that is
//! said. What is forbidden even so is made smaller.
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

mod measure;
mod roles;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{task::JoinSet, time::Instant};
use wasmatrix_model::{InstanceSpec, NodePhase, SystemClock};
use wasmatrix_sim::{Net, User};
use wasmatrix_wire::protocol::control_plane;

use measure::{Figures, Table};

/// Sizes: nodes, and instances on all of them together.
const SIZES: [(usize, usize); 2] = [(1_000, 100_000), (10_000, 1_000_000)];
/// Nodes that attend over one connection, where files are scarce.
const SHARERS: usize = 2;
/// Files that a simulated node opens: those two, and where it listens.
const FILES_PER_SIMULATED_NODE: usize = 3;
/// Files that a process opens besides.
const FILES_BESIDES: usize = 500;
/// Starts that are measured, and how many are under way at a time.
const STARTS: usize = 5_000;
const AT_A_TIME: usize = 64;
/// Connections of users.
const CONNECTIONS: usize = 8;
/// Beats that all nodes together offer in a second, to see how many are handled.
const BEATS_OFFERED: usize = 200_000;
/// The shortest interval that a control plane takes.
const BEAT_EVERY_MIN: Duration = Duration::from_millis(10);
/// How long beats are counted.
const BEATS_FOR: Duration = Duration::from_secs(5);
/// The pause between looks whether all is known: as long as the last look took, within these.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const LOOK_EVERY_MAX: Duration = Duration::from_secs(1);
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(900);

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-'));
    let first = words.next().unwrap_or_default();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be built");
    if let Some(role) = first.strip_prefix("role=") {
        return runtime.block_on(roles::play(role, words));
    }
    let words: Vec<String> = std::iter::once(first).chain(words).filter(|word| !word.is_empty()).collect();
    let parts = || words.iter().filter(|word| !word.contains('='));
    if parts().next().is_some() && !parts().any(|word| "scale".contains(word.as_str())) {
        return;
    }
    let size = |name: &str| {
        let given = words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        given.map(|number| number.parse::<usize>().expect("a size is a number"))
    };
    let files = open_more_files();
    let sizes = match size("nodes") {
        Some(nodes) => vec![(nodes, size("instances").unwrap_or(100 * nodes))],
        None => SIZES.to_vec(),
    };
    let mut table = Table::default();
    for _ in 0..size("rounds").unwrap_or(1) {
        for (nodes, instances) in &sizes {
            let size = Size::allowed(*nodes, *instances, files);
            table.add(size.nodes, runtime.block_on(measure(size, files)));
        }
    }
    table.print();
}

/// Takes as many open files as this process may have, and says how many.
fn open_more_files() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    const WANTED: u64 = 64_000;
    // More than the maximum is for those who may.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(WANTED), maximum: maximum.max(Some(WANTED)) })
        .or_else(|_| setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }));
    let now = getrlimit(Resource::Nofile).current.or(current).unwrap_or(WANTED);
    usize::try_from(now).unwrap_or(usize::MAX)
}

/// How many there are.
#[derive(Clone, Copy, Debug)]
struct Size {
    nodes: usize,
    instances: usize,
    /// Nodes that share the connection by which they attend.
    sharing: usize,
}

impl Size {
    /// What the limit of open files allows. The control plane opens one for the way to each agent, and one for each
    /// connection by which nodes attend.
    fn allowed(nodes: usize, instances: usize, files: usize) -> Self {
        let most = files.saturating_sub(FILES_BESIDES) * SHARERS / (SHARERS + 1);
        let size =
            Self { nodes: nodes.min(most), instances: instances / nodes * nodes.min(most), sharing: 0 };
        if size.nodes < nodes {
            println!("{most} nodes instead of {nodes}: a process may open {files} files here");
        }
        let scarce = (2 * size.nodes + FILES_BESIDES).saturating_sub(files);
        let sharing = (scarce * SHARERS).div_ceil(SHARERS - 1).next_multiple_of(SHARERS).min(size.nodes);
        if sharing > 0 {
            println!(
                "{sharing} of {} nodes attend {SHARERS} over one connection, as behind a proxy: a process may open {files} \
                 files here",
                size.nodes
            );
        }
        Self { sharing, ..size }
    }
}

/// A process that plays a role; ends with the value.
struct Player {
    process: Child,
    says: BufReader<ChildStdout>,
    hears: ChildStdin,
}

impl Player {
    fn new(words: &[String]) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program is a file"))
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        let says = BufReader::new(process.stdout.take().expect("it is piped"));
        let hears = process.stdin.take().expect("it is piped");
        Self { process, says, hears }
    }

    fn control_plane(port: u16, heartbeat: Duration) -> (Self, String) {
        let words = [
            "role=control-plane".to_owned(),
            format!("port={port}"),
            format!("heartbeat={}", heartbeat.as_micros()),
        ];
        let mut player = Self::new(&words);
        let address = player.hear();
        (player, address)
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).expect("it speaks");
        line.trim_end().to_owned()
    }

    fn ask(&mut self, what: &str) -> String {
        writeln!(self.hears, "{what}").expect("it listens");
        self.hear()
    }

    fn memory_kib(&self) -> f64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).expect("Linux tells about memory");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("and how much is in use");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("in KiB")
    }

    fn kill(mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it has ended");
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Simulated nodes, in as many processes as open files demand.
fn nodes(size: Size, files: usize, control_plane: &str) -> Vec<Player> {
    let most = files.saturating_sub(FILES_BESIDES) / FILES_PER_SIMULATED_NODE;
    let mut players = Vec::new();
    let mut first = 0;
    while first < size.nodes {
        let here = most.min(size.nodes - first);
        let words = [
            "role=nodes".to_owned(),
            format!("first={first}"),
            format!("count={here}"),
            format!("sharing={}", size.sharing),
            format!("control-plane={control_plane}"),
        ];
        players.push(Player::new(&words));
        first += here;
    }
    for player in &mut players {
        assert_eq!(player.hear(), "up");
    }
    players
}

fn user(address: &str) -> User {
    let channel = Net::Loopback.channel(address, None);
    User::new(control_plane(channel).max_decoding_message_size(usize::MAX), Arc::new(SystemClock))
}

/// Waits until so many nodes are ready and list so many instances, and says how long that took since `begun`.
async fn known(address: &str, begun: Instant, nodes: usize, instances: usize) -> Duration {
    let mut user = user(address);
    let known = async {
        loop {
            let asked = Instant::now();
            if let Ok(all) = user.nodes().await {
                let ready = all.iter().filter(|node| node.phase == NodePhase::Ready && node.reason.is_none());
                let (count, listed) =
                    ready.fold((0, 0), |(count, listed), node| (count + 1, listed + node.load.instances));
                if count == nodes && listed as usize >= instances {
                    return begun.elapsed();
                }
            }
            // Whoever looks all the time sees himself.
            tokio::time::sleep(asked.elapsed().clamp(LOOK_EVERY, LOOK_EVERY_MAX)).await;
        }
    };
    tokio::time::timeout(PATIENCE, known).await.expect("all is known within a quarter of an hour")
}

async fn starts(address: &str) -> f64 {
    let users: Vec<User> = (0..CONNECTIONS).map(|_| user(address)).collect();
    let begun = Instant::now();
    let mut under_way = JoinSet::new();
    for number in 0..STARTS {
        if under_way.len() == AT_A_TIME {
            under_way.join_next().await;
        }
        let mut user = users[number % CONNECTIONS].clone();
        let name = format!("start-{number}").parse().expect("a legal name");
        let spec = InstanceSpec::new(name, roles::digest());
        under_way.spawn(async move {
            user.start(spec.into(), roles::ARTIFACT).await.expect("it starts");
        });
    }
    under_way.join_all().await;
    STARTS as f64 / begun.elapsed().as_secs_f64()
}

async fn measure(size: Size, files: usize) -> Figures {
    let Size { nodes: count, instances, .. } = size;
    let (control_plane, address) = Player::control_plane(0, Duration::from_secs(2));
    let empty = control_plane.memory_kib();
    let begun = Instant::now();
    let mut players = nodes(size, files, &address);
    let attended = known(&address, begun, count, 0).await;
    let with_nodes = control_plane.memory_kib();

    let begun = Instant::now();
    for player in &mut players {
        assert_eq!(player.ask(&format!("fill {}", instances / count)), "filled");
    }
    let filled = known(&address, begun, count, instances).await;
    let with_instances = control_plane.memory_kib();
    let starts = starts(&address).await;

    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("it has a port");
    control_plane.kill();
    let begun = Instant::now();
    let (control_plane, address) = Player::control_plane(port, Duration::from_secs(2));
    let rebuilt = known(&address, begun, count, instances + STARTS).await;
    control_plane.kill();

    // All nodes attend the next one, and beat as often as it says.
    let every = Duration::from_secs(1).mul_f64(count as f64 / BEATS_OFFERED as f64).max(BEAT_EVERY_MIN);
    let (control_plane, address) = Player::control_plane(port, every);
    known(&address, Instant::now(), count, instances + STARTS).await;
    let mut beats =
        || players.iter_mut().map(|player| player.ask("beats").parse::<u64>().expect("a count")).sum::<u64>();
    let (before, begun) = (beats(), Instant::now());
    tokio::time::sleep(BEATS_FOR).await;
    let handled = (beats() - before) as f64 / begun.elapsed().as_secs_f64();
    drop(control_plane);

    Figures {
        attended: attended.as_secs_f64(),
        kib_per_node: (with_nodes - empty) / count as f64,
        changes_per_second: instances as f64 / filled.as_secs_f64(),
        bytes_per_instance: (with_instances - with_nodes) * 1024.0 / instances as f64,
        starts_per_second: starts,
        beats_per_second: handled,
        rebuilt: rebuilt.as_secs_f64(),
        rebuilt_per_second: instances as f64 / rebuilt.as_secs_f64(),
    }
}
