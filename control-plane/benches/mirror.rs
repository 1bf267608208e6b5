//! What an instance costs in the control plane's view, and what a placement costs, from few to very many:
//! `cargo bench -p wasmatrix-control-plane --bench mirror`.
//!
//! Each crowd is measured in a process of its own, so that none inherits another's memory. Absolute figures are for
//! orientation; what counts is how they grow. Arguments: `-- [PART…]`, of `alike`, `unlike` and `placement`, and
//! `instances=N` for one size alone.
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a benchmark that can't go on stops there")]

use std::{fs, hint::black_box, process::Command, time::Instant};

use wasmatrix_control_plane::{
    placement::{self, Candidate, Request},
    view::{Source, View},
};
use wasmatrix_model::{
    Capacity, Digest, ExecutorKind, ExecutorStatus, InstanceId, InstanceSpec, InstanceStatus, Labels, Load,
    NodeId, NodePhase, Phase, RunId, Timestamp, Usage,
};

const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];
const NODES: [usize; 3] = [100, 1_000, 10_000];
const NODES_OF_A_CROWD: usize = 1000;
/// Times that a thing is done for its median.
const SAMPLES: usize = 201;

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let size = arguments.iter().find_map(|argument| argument.strip_prefix("instances="));
    let size: Option<usize> = size.map(|size| size.parse().expect("instances=N is a number"));
    let parts: Vec<&str> =
        arguments.iter().filter(|argument| !argument.contains('=')).map(String::as_str).collect();
    let want = |part| parts.is_empty() || parts.contains(&part);
    for part in ["alike", "unlike"].into_iter().filter(|part| want(part)) {
        match size {
            Some(size) => crowd(part == "alike", size),
            None => SIZES.into_iter().for_each(|size| in_a_process_of_its_own(part, size)),
        }
    }
    if want("placement") {
        NODES.into_iter().for_each(placements);
    }
}

fn in_a_process_of_its_own(part: &str, size: usize) {
    let mut again = Command::new(std::env::current_exe().expect("this program has a path"));
    let ended = again.args([part, &format!("instances={size}")]).status().expect("it runs again");
    assert!(ended.success(), "{part} of {size} failed");
}

/// A running instance as agents tell of it.
fn status(alike: bool, node: &NodeId, number: usize) -> InstanceStatus {
    let mut spec =
        InstanceSpec::new(format!("instance-{number:07}").parse().unwrap(), Digest::of(b"artifact"));
    spec.grants = ["kv:read", "kv:write"].iter().map(|grant| grant.parse().unwrap()).collect();
    if !alike {
        spec.env.insert("NUMBER".to_owned(), number.to_string());
    }
    let now = Timestamp::now();
    InstanceStatus {
        id: InstanceId::generate(),
        node: node.clone(),
        grants: spec.grants.clone(),
        spec,
        phase: Phase::Running,
        created_at: now,
        started_at: Some(now),
        last_exit: None,
        restart_count: 0,
        next_restart_at: None,
        usage: Usage { memory_bytes: 1 << 20, memory_bytes_peak: 1 << 21, ..Usage::default() },
        generation: 1,
        predecessor: None,
        idempotency_key: None,
        revision: number as u64 + 1,
        unknown: None,
    }
}

fn crowd(alike: bool, size: usize) {
    let nodes: Vec<(NodeId, RunId)> = (0..NODES_OF_A_CROWD)
        .map(|number| (format!("node-{number:04}").parse().unwrap(), RunId::generate()))
        .collect();
    let mut view = View::default();
    let before = resident_bytes();
    let begun = Instant::now();
    for number in 0..size {
        // Not in the order of names, as nodes tell of theirs at one time.
        let number = number * 7_919 % size;
        let (node, run) = &nodes[number % nodes.len()];
        view.upsert(node, *run, Source::Stream, status(alike, node, number));
    }
    let built = begun.elapsed();
    for (node, run) in &nodes {
        assert_eq!(view.synced(node, *run, u64::MAX), []);
    }
    assert_eq!(view.len(), size);
    let bytes = (resident_bytes() - before) / size;
    let middle = view.page(None, 1, None);
    let name = format!("instance-{:07}", size / 2);
    let page = median(|| view.page(middle.next.as_ref(), 500, None).instances.len());
    let find = median(|| view.find(&name));
    let load = median(|| view.load(&nodes[0].0));
    let update = {
        let (node, run) = &nodes[0];
        let told = view.page(None, 1, Some(node)).instances.remove(0);
        let mut revision = told.revision;
        median(|| {
            revision += 1;
            view.upsert(node, *run, Source::Stream, InstanceStatus { revision, ..told.clone() })
        })
    };
    println!(
        "{} {size:>9}: {bytes:>4} bytes each, told in {:>6.2} s ({:>5.2} µs each), update {update:>6.2} µs, find \
         {find:>6.2} µs, page of 500 {page:>8.1} µs, load of a node {load:>5.2} µs",
        if alike { "alike " } else { "unlike" },
        built.as_secs_f64(),
        built.as_secs_f64() * 1e6 / size as f64,
    );
}

fn placements(count: usize) {
    let ids: Vec<NodeId> = (0..count).map(|number| format!("node-{number:05}").parse().unwrap()).collect();
    let executors = ExecutorKind::ALL.map(|kind| ExecutorStatus { kind, unavailable: None });
    let labels = Labels::default();
    let load = |number: usize| Load {
        instances: (number % 97) as u32,
        instances_live: (number % 97) as u32,
        memory_bytes_committed: (number % 89) as u64 * (256 << 20),
    };
    let spec = InstanceSpec::new("web".parse().unwrap(), Digest::of(b"web"));
    let (ids, executors, labels) = (&ids, &executors, &labels);
    let candidates = |instances_max| {
        ids.iter().enumerate().map(move |(number, node)| Candidate {
            node,
            phase: NodePhase::Ready,
            unreachable: None,
            cordoned: false,
            labels,
            executors,
            providers: &[],
            capacity: Capacity { instances_max, memory_bytes_max: None, memory_bytes_total: 64 << 30 },
            load: load(number),
            group_members: (number % 3) as u32,
        })
    };
    let request = Request { spec: &spec, avoid: &[] };
    let fits = median(|| placement::place(candidates(1000), &request).unwrap());
    let full = median(|| placement::place(candidates(0), &request).unwrap_err().to_string());
    println!(
        "placement among {count:>6} nodes: {fits:>8.1} µs ({:>5.1} ns a node), {full:>8.1} µs if none will do",
        fits * 1e3 / count as f64
    );
}

/// The median of what something takes, in microseconds.
fn median<T>(mut work: impl FnMut() -> T) -> f64 {
    let mut samples: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            let begun = Instant::now();
            black_box(work());
            begun.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    samples.sort_unstable_by(f64::total_cmp);
    samples[SAMPLES / 2]
}

/// What this process has in memory.
fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells of processes");
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<usize>().ok()).expect("Linux tells what a process has in memory") << 10
}
