//! What a capability call costs in process, and what part of it is the permission check:
//! `cargo bench -p wasmatrix-tests --bench calls`.
//!
//! Arguments: `-- [PART…]`, of `check` and `guest`, and `rounds=N`.
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::{hint::black_box, sync::Arc, time::Instant};

use wasmatrix_executor_api::{CapabilityCall, KvCall};
use wasmatrix_model::{ExecutorKind, Grants};
use wasmatrix_tests::{
    Case, Node,
    measure::{Arguments, Samples, Stopwatch},
};

/// How many grants an instance holds: one, a few, and the most that it may.
const GRANTS: [usize; 3] = [1, 16, 256];
/// Checks that are timed together.
const CHECKS: u32 = 1000;
/// Calls that a guest makes in a run.
const CALLS: u32 = 20_000;

/// That many grants, of which the last in order covers the key `key` of the bucket `default`.
fn grants(count: usize) -> Vec<String> {
    let others = (1..count).map(|index| format!("kv:read:default/aaa{index:03}/*"));
    others.chain(["kv:read:default/key".to_owned()]).collect()
}

fn check(rounds: usize) {
    let (bucket, key) = ("default".parse().expect("a legal bucket"), "key".parse().expect("a legal key"));
    let get = CapabilityCall::Kv(KvCall::Get { bucket, key });
    println!("check, {rounds} times {CHECKS} each");
    let mut one = None;
    for count in GRANTS {
        let held: Grants = grants(count).iter().map(|grant| grant.parse().expect("a legal grant")).collect();
        assert_eq!(held.iter().len(), count);
        let mut times = Samples::new();
        for _ in 0..rounds {
            let begun = Instant::now();
            for _ in 0..CHECKS {
                black_box(&held).permit(&black_box(&get).required_permission()).expect("it is covered");
            }
            times.add(begun.elapsed());
        }
        let nanos = times.median() * 1e3 / f64::from(CHECKS);
        let first = *one.get_or_insert(nanos);
        println!("  with {count:>3} grants      {nanos:>8.0} ns, {:.1} times that with one", nanos / first);
    }
}

async fn guest(rounds: usize) {
    println!("guest, {rounds} runs of {CALLS} calls of kv.get in process");
    let node = Node::new().await;
    let mut times = GRANTS.map(|_| Samples::new());
    for _ in 0..rounds {
        for (count, times) in GRANTS.into_iter().zip(&mut times) {
            let grants = grants(count);
            let held: Vec<&str> = grants.iter().map(String::as_str).collect();
            let case =
                Case::of(ExecutorKind::Wasmtime, "bench").args(["get", &CALLS.to_string()]).grants(&held);
            let spec = node.spec(&case);
            let name = spec.name.to_string();
            let console = Arc::new(Stopwatch::default());
            node.agent.start_attached(spec, Some(case.artifact), console.clone()).await.expect("it starts");
            times.add(console.line(1).await.duration_since(console.line(0).await) / CALLS);
            node.agent.wait(&name).await.expect("it ends");
            node.agent.remove(&name).await.expect("it is forgotten");
        }
    }
    let first = times[0].median();
    for (count, times) in GRANTS.into_iter().zip(&times) {
        let each = times.median();
        println!(
            "  with {count:>3} grants      {each:>8.2} µs, {:>7.0} a second, {:.2} times that with one",
            1e6 / each,
            each / first
        );
    }
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::here();
    if arguments.want("check") {
        check(arguments.size("rounds", 201));
    }
    if arguments.want("guest") {
        guest(arguments.size("rounds", 7)).await;
    }
}
