//! What a micro-VM costs, against KVM itself and against the same guest in this process:
//! `cargo bench -p wasmatrix-tests --bench microvm`.
//!
//! What is compared is measured in turns, so that a busy machine is busy for both. Arguments: `-- [PART…]`, of
//! `launch`, `compute` and `call`, and `rounds=N`.
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

mod floor;

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use floor::Floor;
use wasmatrix_executor_api::{
    Artifact, Capabilities, CapabilityCall, CapabilityError, CapabilityErrorKind, CapabilityReply, Executor,
    Instance, Launch, Prepared,
};
use wasmatrix_executor_microvm::Config;
use wasmatrix_model::{ExecutorKind, InstanceId, Limits};
use wasmatrix_tests::{
    Case, Node,
    guests::guest,
    measure::{Arguments, Samples, Stopwatch},
};

/// Machines in the pool; one launch at a time needs one.
const POOL_MACHINES: u32 = 2;
/// Exits of a bare machine that are timed together, and capability calls.
const CALLS: u32 = 500;

/// Refuses everything: the guest that is launched here asks for nothing.
struct Nothing;

#[async_trait]
impl Capabilities for Nothing {
    async fn call(&self, _: CapabilityCall) -> Result<CapabilityReply, CapabilityError> {
        Err(CapabilityError::new(CapabilityErrorKind::Denied, "nothing is granted"))
    }
}

/// An executor with the guest made ready.
struct Launcher {
    executor: Box<dyn Executor>,
    prepared: Prepared,
}

impl Launcher {
    async fn new(executor: impl Executor + 'static) -> Self {
        let bytes = std::fs::read(guest("hello")).expect("the guest was just built");
        let prepared = executor.prepare(&Artifact::new(bytes.into())).await.expect("the guest can be run");
        Self { executor: Box::new(executor), prepared }
    }

    /// Launches, adds how long it took until the code was instantiated and until its first line arrived, and waits
    /// for the end.
    async fn launch(&self, instantiated: &mut Samples, spoke: &mut Samples) {
        let console = Arc::new(Stopwatch::default());
        let launch = Launch {
            instance: InstanceId::generate(),
            prepared: self.prepared.clone(),
            args: vec!["hello".into()],
            env: Default::default(),
            config: Default::default(),
            limits: Limits::default(),
            capabilities: Arc::new(Nothing),
            console: console.clone(),
        };
        let begun = Instant::now();
        let mut run: Box<dyn Instance> = self.executor.launch(launch).await.expect("it starts");
        instantiated.add(begun.elapsed());
        spoke.add(console.line(0).await.duration_since(begun));
        run.exited().await;
    }
}

/// Machines that are alive in this process, as its open files show.
fn machines() -> usize {
    let files = std::fs::read_dir("/proc/self/fd").expect("Linux tells about open files");
    let is_vcpu = |target: std::path::PathBuf| target.to_string_lossy().contains("kvm-vcpu");
    files
        .flatten()
        .filter_map(|file| std::fs::read_link(file.path()).ok())
        .filter(|target| is_vcpu(target.clone()))
        .count()
}

/// Waits until no run is left and the pool is full.
async fn until_full() {
    while machines() != POOL_MACHINES as usize {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

async fn launches(floor: &Floor, rounds: usize) {
    let pooled =
        Launcher::new(Config { pool_machines_max: POOL_MACHINES, ..Config::default() }.build()).await;
    let cold = Launcher::new(Config { pool_machines_max: 0, ..Config::default() }.build()).await;
    let [mut bare, mut pool_ready, mut pool_spoke, mut cold_ready, mut cold_spoke] =
        [const { Samples::new() }; 5];
    for _ in 0..rounds {
        until_full().await;
        let begun = Instant::now();
        let mut machine = floor.machine().expect("KVM makes a machine");
        machine.exit();
        drop(machine);
        bare.add(begun.elapsed());
        pooled.launch(&mut pool_ready, &mut pool_spoke).await;
        until_full().await;
        cold.launch(&mut cold_ready, &mut cold_spoke).await;
    }
    println!("launch, {rounds} in turns");
    println!(
        "  bare machine, created, run to one exit, dropped  {:>8.0} µs (best {:.0})",
        bare.median(),
        bare.best()
    );
    for (what, samples) in [
        ("pooled, until instantiated", &pool_ready),
        ("pooled, until its first line", &pool_spoke),
        ("cold, until instantiated", &cold_ready),
        ("cold, until its first line", &cold_spoke),
    ] {
        println!(
            "  {what:<48} {:>8.0} µs, {:.2} times the bare machine (best {:.0}, {:.2} times)",
            samples.median(),
            samples.ratio(&bare),
            samples.best(),
            samples.best() / bare.best()
        );
    }
}

/// The time between the guest's first two lines.
async fn work(node: &Node, executor: ExecutorKind, args: [&str; 2]) -> std::time::Duration {
    let case = Case::of(executor, "bench").args(args).grants(&["kv:read"]);
    let spec = node.spec(&case);
    let name = spec.name.to_string();
    let console = Arc::new(Stopwatch::default());
    node.agent.start_attached(spec, Some(case.artifact), console.clone()).await.expect("it starts");
    let time = console.line(1).await.duration_since(console.line(0).await);
    node.agent.wait(&name).await.expect("it ends");
    node.agent.remove(&name).await.expect("it is forgotten");
    time
}

/// Short and many: some of both kinds are undisturbed then, and the best of each can be compared on a busy machine.
async fn compute(rounds: usize) {
    let node = Node::new().await;
    println!("compute, {rounds} in turns");
    for args in [["hash", "10000000"], ["primes", "4"], ["touch", "4"]] {
        let (mut inside, mut outside) = (Samples::new(), Samples::new());
        for _ in 0..rounds {
            outside.add(work(&node, ExecutorKind::Wasmtime, args).await);
            inside.add(work(&node, ExecutorKind::Microvm, args).await);
        }
        println!(
            "  {:<8} in process {:>8.1} ms, in a micro-VM {:>8.1} ms: {:.3} times (best against best {:.3} times)",
            args[0],
            outside.median() / 1e3,
            inside.median() / 1e3,
            inside.ratio(&outside),
            inside.best() / outside.best()
        );
    }
}

async fn calls(floor: &Floor, rounds: usize) {
    let node = Node::new().await;
    let [mut exit, mut inside, mut outside] = [const { Samples::new() }; 3];
    let mut machine = floor.machine().expect("KVM makes a machine");
    machine.exit();
    let count = CALLS.to_string();
    for _ in 0..rounds {
        let begun = Instant::now();
        (0..CALLS).for_each(|_| machine.exit());
        exit.add(begun.elapsed() / CALLS);
        inside.add(work(&node, ExecutorKind::Microvm, ["get", &count]).await / CALLS);
        outside.add(work(&node, ExecutorKind::Wasmtime, ["get", &count]).await / CALLS);
    }
    println!("call, {rounds} times {CALLS} in turns");
    println!("  exit of a bare machine      {:>8.2} µs", exit.median());
    println!(
        "  kv.get from a micro-VM      {:>8.2} µs, {:.2} bare exits (best {:.2})",
        inside.median(),
        inside.ratio(&exit),
        inside.best() / exit.best()
    );
    println!(
        "  kv.get in process           {:>8.2} µs, 1/{:.1} of that",
        outside.median(),
        inside.ratio(&outside)
    );
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::here();
    let Some(floor) = Floor::new() else {
        println!("micro-VMs can't be measured: there is no usable /dev/kvm (`wasmatrix doctor` says why)");
        return;
    };
    if arguments.want("launch") {
        launches(&floor, arguments.size("rounds", 101)).await;
    }
    if arguments.want("compute") {
        compute(arguments.size("rounds", 101)).await;
    }
    if arguments.want("call") {
        calls(&floor, arguments.size("rounds", 31)).await;
    }
}
