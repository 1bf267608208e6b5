//! Chaos: one control plane, three agents and an etcd as real processes on machines of their own, killed, frozen and cut
//! off in random order while users start, stop and grant. At the end every acknowledged word is held against what runs.
//!
//! ```text
//!  fate ── kill -9, SIGSTOP, cut links ──► cluster ◄── gRPC over TLS ── load, written down in the ledger
//!                                             │
//!                    watch: ps, get, events ◄─┘──► account: agents, facts, logs, counts
//! ```
//!
//! | room | what is in it |
//! |---|---|
//! | [`net`] | namespaces, wires, and what befalls a wire |
//! | [`cluster`] | the processes |
//! | [`fate`] | what goes wrong, drawn from one number |
//! | [`load`], [`ledger`] | the users, and what was acknowledged to them |
//! | [`watch`] | who looks on, and what must be true all the while |
//! | [`account`], [`agents`] | the reckoning |
//!
//! `WASMATRIX_CHAOS_SECONDS` says for how long things go wrong, `WASMATRIX_CHAOS_SEED` repeats a schedule. It needs root
//! and iproute2; without, it is skipped and says so, unless `WASMATRIX_REQUIRE_NETNS=1`.

#![expect(clippy::panic, clippy::print_stderr, reason = "a test says what it did, and why it can't go on")]

mod account;
mod agents;
mod cluster;
mod fate;
mod ledger;
mod load;
mod net;
mod watch;

use std::{
    str::FromStr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wasmatrix_model::Digest;
use wasmatrix_sim::Seed;

use cluster::{Cluster, NODES};
use fate::Weather;
use ledger::Ledger;
use load::{Program, USERS};
use net::{Machine, Net};
use watch::Events;

/// The variables that say how long, and which fate.
const SECONDS: &str = "WASMATRIX_CHAOS_SECONDS";
const SEED: &str = "WASMATRIX_CHAOS_SEED";
/// With `1` in it, a machine that can't is a failure.
const REQUIRE: &str = "WASMATRIX_REQUIRE_NETNS";
/// For how long things go wrong, unless told.
const SECONDS_DEFAULT: u64 = 75;
/// Findings that are kept; where there are more, the first say enough.
const FINDINGS_MAX: usize = 40;
/// Acknowledged starts in a second of chaos below which nothing was proven. Ten times as many are usual.
const STARTS_PER_SECOND_MIN: f64 = 0.1;
/// How long the nodes may take to be ready when all is healed.
const HEALED_MAX: Duration = Duration::from_secs(60);

/// What everybody shares.
#[derive(Debug)]
struct World {
    cluster: Cluster,
    weather: Weather,
    ledger: Ledger,
    findings: Arc<Findings>,
    program: Program,
    seed: Seed,
    /// The users and those who look on are to end.
    over: CancellationToken,
}

/// What is not as it should be, and what was counted.
#[derive(Debug, Default)]
struct Findings {
    all: Mutex<Vec<String>>,
    figures: Mutex<Vec<String>>,
    looks: AtomicU32,
}

impl Findings {
    fn add(&self, finding: String) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < FINDINGS_MAX {
            let now = ledger::now();
            eprintln!("{now:.3} {finding}");
            all.push(format!("{now:.3} {finding}"));
        }
    }

    fn taken(&self) -> Vec<String> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn figures(&self, line: String) {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

fn setting<T: FromStr>(variable: &str) -> Option<T> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    match text.parse() {
        Ok(value) => Some(value),
        Err(_) => panic!("{variable} is to be a whole number, and is `{text}`"),
    }
}

#[test]
fn real_processes_survive_each_other_with_etcd() {
    if let Err(why) = net::is_possible() {
        assert!(std::env::var_os(REQUIRE).is_none_or(|value| value != "1"), "{REQUIRE}=1, but {why}");
        eprintln!("skipped: {why}");
        return;
    }
    let seed = Seed::new(setting(SEED).unwrap_or_else(|| rand::random_range(0..1_000_000_000)));
    let seconds = setting(SECONDS).unwrap_or(SECONDS_DEFAULT);
    eprintln!("{seconds} s of chaos; to repeat the schedule: {SEED}={seed}");
    let bytes = std::fs::read(wasmatrix_tests::guests::guest("probe")).expect("the guest was just built");
    let program = Program {
        digest: Digest::of(&bytes),
        bytes: bytes.into(),
        executors: wasmatrix_tests::executors().to_vec(),
    };
    // The thread moves to another machine, and all that it begins with it.
    let run = std::thread::spawn(move || play(seed, Duration::from_secs(seconds), program));
    if let Err(panic) = run.join() {
        std::panic::resume_unwind(panic);
    }
}

/// The folder with the files and logs of all processes. It stays if the test fails.
struct Folder(Option<TempDir>);

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(dir) = self.0.take()
        {
            eprintln!("what the processes wrote is kept in {}", dir.keep().display());
        }
    }
}

fn play(seed: Seed, time: Duration, program: Program) {
    let dir = tempfile::Builder::new().prefix("wasmatrix-chaos-").tempdir();
    let folder = Folder(Some(dir.expect("there is room for a folder")));
    let net = Net::lay(NODES.len());
    net.enter(Machine::Users);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime can be built");
    let path = folder.0.as_ref().map(|dir| dir.path().to_owned()).unwrap_or_default();
    let world = runtime.block_on(async {
        let cluster = Cluster::begin(net, &path).await;
        let world = Arc::new(World {
            cluster,
            weather: Weather::default(),
            ledger: Ledger::default(),
            findings: Arc::default(),
            program,
            seed,
            over: CancellationToken::new(),
        });
        chaos(&world, time).await;
        world
    });
    let (figures, findings) = (world.figures(), world.findings.taken());
    eprintln!("{figures}");
    assert!(
        findings.is_empty(),
        "{SEED}={seed}, {} s; what went wrong, on purpose:\n{}\n\n{} findings:\n{}",
        time.as_secs(),
        world.weather.story(),
        findings.len(),
        findings.join("\n"),
    );
    let acknowledged = world.ledger.counts().get("starts acknowledged").copied().unwrap_or_default();
    assert!(
        f64::from(acknowledged) >= time.as_secs_f64() * STARTS_PER_SECOND_MIN,
        "only {acknowledged} starts were acknowledged: that proves little\n{}",
        world.weather.story()
    );
}

/// Lets it all happen, heals it, and takes stock.
async fn chaos(world: &Arc<World>, time: Duration) {
    let schedule = fate::schedule(&mut world.seed.of("fate").rng(), time);
    let mut events = Events::follow(world);
    let mut tasks = JoinSet::new();
    for number in 0..USERS {
        tasks.spawn(load::work(Arc::clone(world), number));
    }
    tasks.spawn(watch::look_on(Arc::clone(world)));
    fate::befall(&world.cluster, &world.weather, &schedule).await;
    world.over.cancel();
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            world.findings.add(format!("a user or somebody who looks on failed: {error}"));
        }
    }
    let healed = async {
        while world.cluster.all_ready().is_none() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    if tokio::time::timeout(HEALED_MAX, healed).await.is_err() {
        world.findings.add(format!("not every node is ready {HEALED_MAX:?} after all was healed"));
        return;
    }
    account::account(world, &mut events).await;
}

impl World {
    /// What came up, in lines.
    fn figures(&self) -> String {
        let counts = |counts: Vec<(String, u32)>| -> String {
            counts.into_iter().map(|(what, count)| format!("  {count:>6}  {what}\n")).collect()
        };
        let asked = self.ledger.counts().into_iter().map(|(what, count)| (what.to_owned(), count)).collect();
        let befell = self.weather.counts().into_iter().collect();
        let looks = self.findings.looks.load(Relaxed);
        let more = self.findings.figures.lock().unwrap_or_else(PoisonError::into_inner).join("\n  ");
        format!(
            "what was asked:\n{}what went wrong, on purpose:\n{}what was seen:\n  {looks:>6}  answers of ps, node \
             list and get looked at\n  {more}",
            counts(asked),
            counts(befell)
        )
    }
}
