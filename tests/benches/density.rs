//! How many instances one node carries, and what each costs: `cargo bench -p wasmatrix-tests --bench density`.
//!
//! Everything is measured in one process and one run, so that ratios mean something on a noisy machine. Absolute
//! times are printed for orientation. Arguments: `-- [INSTANCES] [CYCLES]`, by default 1000 and 10000.
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use wasmatrix_tests::{Case, EXECUTORS, Node};

/// Starts under way at a time.
const AT_A_TIME: usize = 8;

/// Memory of this process that is in use, in KiB, as the kernel counts it.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells about processes");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("and about their memory");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("in KiB")
}

/// Open files of this process.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux tells about files").count()
}

async fn timed<T>(work: impl Future<Output = T>) -> (Duration, T) {
    let begun = Instant::now();
    let result = work.await;
    (begun.elapsed(), result)
}

async fn crowd(node: &Node, case: &Case, count: usize) {
    let name = |index: usize| format!("crowd-{index}");
    let before = resident_kib();
    let (first, _) = timed(node.start(&case.clone().name("first"))).await;
    let (starting, ()) = timed(stream::iter(0..count).for_each_concurrent(AT_A_TIME, async |index| {
        node.start(&case.clone().name(&name(index))).await.expect("it starts");
    }))
    .await;
    let each = (resident_kib().saturating_sub(before)) as f64 / count as f64;
    let (getting, _) = timed(async { node.agent.get("first") }).await;
    let (listing, listed) = timed(async { node.agent.list(None, count + 1) }).await;
    assert_eq!(listed.len(), count + 1);
    let (stopping, ()) = timed(stream::iter(0..count).for_each_concurrent(AT_A_TIME, async |index| {
        node.agent.stop(&name(index), Duration::ZERO).await.expect("it stops");
        node.agent.remove(&name(index)).await.expect("it is forgotten");
    }))
    .await;
    let per = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
    println!("  first start, cold      {:>10.0} µs", first.as_secs_f64() * 1e6);
    println!(
        "  {count} more starts    {:>10.0} µs each, 1/{:.0} of the first",
        per(starting),
        first.as_secs_f64() * 1e6 / per(starting)
    );
    println!("  memory                 {each:>10.1} KiB for each idle instance");
    println!(
        "  listing all of them    {:>10.2} µs each, {:.1} times a get",
        per(listing),
        per(listing) / (getting.as_secs_f64() * 1e6)
    );
    println!(
        "  stop and remove        {:>10.0} µs each, {:.2} times a start",
        per(stopping),
        per(stopping) / per(starting)
    );
    node.agent.stop("first", Duration::ZERO).await.expect("it stops");
    node.agent.remove("first").await.expect("it is forgotten");
}

async fn cycles(node: &Node, case: &Case, count: usize) {
    let round = async |from: usize, to: usize| {
        stream::iter(from..to)
            .for_each_concurrent(AT_A_TIME, async |index| {
                let name = format!("cycle-{index}");
                node.start(&case.clone().name(&name)).await.expect("it starts");
                node.agent.stop(&name, Duration::ZERO).await.expect("it stops");
                node.agent.remove(&name).await.expect("it is forgotten");
            })
            .await;
    };
    let warm = count / 10;
    round(0, warm).await;
    let (memory, files) = (resident_kib(), descriptors());
    let (time, ()) = timed(round(warm, count)).await;
    let (memory_after, files_after) = (resident_kib(), descriptors());
    println!(
        "  start, stop, remove    {:>10.0} µs each, {} times after {warm} to warm up",
        time.as_secs_f64() * 1e6 / (count - warm) as f64,
        count - warm
    );
    println!(
        "  memory                 {:>10.3} times what it was ({memory} KiB to {memory_after} KiB)",
        memory_after as f64 / memory as f64
    );
    println!("  open files             {files} to {files_after}");
}

#[tokio::main]
async fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let count = numbers.first().copied().unwrap_or(1000);
    let rounds = numbers.get(1).copied().unwrap_or(10_000);
    for executor in EXECUTORS {
        println!("{executor}");
        let node = Node::new().await;
        let case = Case::of(*executor, "sleeper");
        crowd(&node, &case, count).await;
        cycles(&node, &case, rounds).await;
    }
}
