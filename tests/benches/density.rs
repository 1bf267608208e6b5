//! How many instances one node carries, what each costs, and whether anything stays behind:
//! `cargo bench -p wasmatrix-tests --bench density`.
//!
//! Everything is measured in one process and one run, so that ratios mean something on a noisy machine; absolute
//! figures are for orientation. It fails if open files or threads stay behind. Arguments: `-- [PART…]`, of `crowd` and
//! `cycles` or an executor's name, `instances=N`, `cycles=N`.
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use wasmatrix_agent::Config;
use wasmatrix_model::ExecutorKind;
use wasmatrix_tests::{
    Case, Node, executors,
    measure::{Arguments, Holdings, Samples, micros},
};

/// Starts and stops under way at a time.
const AT_A_TIME: usize = 8;
/// Facts that the node keeps. Few, so that the record is full before anything is measured.
const FACTS_KEPT: usize = 1000;
/// Times that a list is asked for.
const LISTS: usize = 51;
/// What the pool and tokio may hold more or less of after the cycles than before: machines of a few files and threads
/// each. Not one of each cycle.
const SLACK: usize = 100;

async fn node() -> Node {
    let config = Config::new("bench".parse().expect("a legal name"));
    Node::with(Config { facts_kept: FACTS_KEPT, ..config }).await
}

/// Does something `count` times, some at a time, and takes the time of each and of all.
async fn each(range: std::ops::Range<usize>, work: impl AsyncFn(usize)) -> (Duration, Samples) {
    let begun = Instant::now();
    let samples = stream::iter(range)
        .map(async |index| {
            let begun = Instant::now();
            work(index).await;
            begun.elapsed()
        })
        .buffer_unordered(AT_A_TIME)
        .fold(Samples::new(), async |mut samples, time| {
            samples.add(time);
            samples
        })
        .await;
    (begun.elapsed(), samples)
}

async fn start(node: &Node, case: &Case, name: &str) {
    node.start(&case.clone().name(name)).await.expect("it starts");
}

async fn end(node: &Node, name: &str) {
    node.agent.stop(name, Duration::ZERO).await.expect("it stops");
    node.agent.remove(name).await.expect("it is forgotten");
}

/// How long it takes to list everything.
fn list(node: &Node, count: usize) -> Samples {
    let mut samples = Samples::new();
    for _ in 0..LISTS {
        let begun = Instant::now();
        let listed = node.agent.list(None, count + 1);
        samples.add(begun.elapsed());
        assert_eq!(listed.len(), count);
    }
    samples
}

async fn crowd(executor: ExecutorKind, count: usize) {
    const FEW: usize = 10;
    let (node, case) = (node().await, Case::of(executor, "sleeper"));
    let name = |index: usize| format!("crowd-{index}");
    println!("{executor} crowd: {count} idle instances, {AT_A_TIME} starts at a time");
    let begun = Instant::now();
    start(&node, &case, &name(0)).await;
    println!("  first start, compilation included      {:>9.0} µs", micros(begun.elapsed()));

    each(1..FEW, async |index| start(&node, &case, &name(index)).await).await;
    let few = list(&node, FEW).median() / FEW as f64;
    let before = Holdings::now();
    let (all, starts) = each(FEW..count, async |index| start(&node, &case, &name(index)).await).await;
    let after = Holdings::now();
    let more = (count - FEW) as f64;
    println!(
        "  one more start                         {:>9.0} µs from call to answer, {:.0} a second",
        starts.median(),
        more / all.as_secs_f64()
    );
    let per = |after: u64, before: u64| after.saturating_sub(before) as f64 / more;
    println!(
        "  memory of an idle instance             {:>9.0} KiB, and {:.0} KiB of the kernel's for it",
        per(after.memory_kib, before.memory_kib),
        per(after.kernel_kib, before.kernel_kib)
    );
    println!(
        "  open files, threads of each            {:>9.2}, {:.2}",
        per(after.files as u64, before.files as u64),
        per(after.threads, before.threads)
    );
    let many = list(&node, count).median() / count as f64;
    println!(
        "  listing, for each listed               {many:>9.2} µs, {:.2} times that among {FEW}",
        many / few
    );
    let (all, stops) = each(0..count, async |index| end(&node, &name(index)).await).await;
    println!(
        "  stop and remove                        {:>9.0} µs, {:.2} times a start; {:.0} a second",
        stops.median(),
        stops.median() / starts.median(),
        count as f64 / all.as_secs_f64()
    );
}

async fn cycles(executor: ExecutorKind, count: usize) {
    let (node, case) = (node().await, Case::of(executor, "sleeper"));
    let cycle = async |index: usize| {
        let name = format!("cycle-{index}");
        start(&node, &case, &name).await;
        end(&node, &name).await;
    };
    let warm = (count / 5).max(FACTS_KEPT / 2);
    each(0..warm, cycle).await;
    let before = Holdings::now();
    let (all, _) = each(warm..warm + count, cycle).await;
    let after = Holdings::now();
    println!("{executor} cycles: {count} times start, stop, remove, after {warm} to warm up");
    println!("  a cycle                                {:>9.0} µs", micros(all) / count as f64);
    println!(
        "  memory afterwards                      {:>9.3} times that before ({} KiB to {} KiB, {:+.0} bytes a cycle)",
        after.memory_kib as f64 / before.memory_kib as f64,
        before.memory_kib,
        after.memory_kib,
        (after.memory_kib as f64 - before.memory_kib as f64) * 1024.0 / count as f64
    );
    println!(
        "  kernel memory afterwards               {} KiB, {} KiB before",
        after.kernel_kib, before.kernel_kib
    );
    println!(
        "  open files, threads afterwards         {}, {}; {}, {} before",
        after.files, after.threads, before.files, before.threads
    );
    assert!(after.files <= before.files + SLACK, "open files stay behind");
    assert!(after.threads <= before.threads + SLACK as u64, "threads stay behind");
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::here();
    for executor in executors().iter().copied() {
        let cycles_default = match executor {
            ExecutorKind::Wasmtime => 10_000,
            ExecutorKind::Microvm => 1000,
        };
        if arguments.want(&format!("{executor} crowd")) {
            crowd(executor, arguments.size("instances", 1000)).await;
        }
        if arguments.want(&format!("{executor} cycles")) {
            cycles(executor, arguments.size("cycles", cycles_default)).await;
        }
    }
}
