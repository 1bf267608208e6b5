//! What a micro-VM costs: `cargo bench -p wasmatrix-executor-microvm --bench launch -- [INSTANCES]`, by default 100
//! that live at one time.
//!
//! Everything is measured in one process and one run, and told as a ratio to what KVM itself costs here, because
//! that differs a hundredfold between machines.
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use kvm_ioctls::Kvm;
use tokio::sync::Notify;
use wasmatrix_executor_api::{
    Artifact, Capabilities, CapabilityCall, CapabilityError, CapabilityReply, Closed, Console, Executor as _,
    Instance, KvReply, Launch, Output, Prepared,
};
use wasmatrix_executor_microvm::{Config, MicrovmExecutor};
use wasmatrix_model::{InstanceId, Limits, LogLevel};

const ROUNDS: usize = 50;
/// Calls in one run of the program that only calls.
const CALLS: u32 = 2000;

/// Says one line and waits for input that never comes.
const IDLE: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 16) "up\n")
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 16))
        (i32.store (i32.const 4) (i32.const 3))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// Asks for the time, over and over: the smallest request there is.
const CALLER: &str = r#"(module
    (import "wasi_snapshot_preview1" "clock_time_get" (func $now (param i32 i64 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start") (local $left i32)
        (local.set $left (i32.const CALLS))
        (loop $on
            (drop (call $now (i32.const 1) (i64.const 0) (i32.const 8)))
            (br_if $on (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))"#;

/// A console that says when something was written, and whose input never comes.
#[derive(Default)]
struct Quiet(Notify);

#[async_trait]
impl Console for Quiet {
    async fn write(&self, _output: Output, _bytes: Bytes) -> Result<(), Closed> {
        self.0.notify_one();
        Ok(())
    }

    async fn read(&self, _bytes_max: usize) -> Bytes {
        std::future::pending().await
    }

    fn log(&self, _level: LogLevel, _context: &str, _message: &str) {}
}

struct Nothing;

#[async_trait]
impl Capabilities for Nothing {
    async fn call(&self, _call: CapabilityCall) -> Result<CapabilityReply, CapabilityError> {
        Ok(CapabilityReply::Kv(KvReply::Done))
    }
}

async fn prepare(executor: &MicrovmExecutor, text: &str) -> Prepared {
    let bytes = wat::parse_str(text).expect("the program is legal");
    executor.prepare(&Artifact::new(bytes.into())).await.expect("it can be prepared")
}

async fn launch(executor: &MicrovmExecutor, prepared: &Prepared, console: &Arc<Quiet>) -> Box<dyn Instance> {
    let launch = Launch {
        instance: InstanceId::generate(),
        prepared: prepared.clone(),
        args: vec!["program".into()],
        env: BTreeMap::new(),
        config: BTreeMap::new(),
        limits: Limits::default(),
        capabilities: Arc::new(Nothing),
        console: Arc::clone(console) as Arc<dyn Console>,
    };
    executor.launch(launch).await.expect("it starts")
}

/// The middle of several times from launch to first output.
async fn first_output(executor: &MicrovmExecutor, prepared: &Prepared, pause: Duration) -> Duration {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        tokio::time::sleep(pause).await;
        let console = Arc::<Quiet>::default();
        let begun = Instant::now();
        let mut instance = launch(executor, prepared, &console).await;
        console.0.notified().await;
        times.push(begun.elapsed());
        instance.stop().await;
    }
    median(times)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// What KVM takes to make a machine with a processor and unmake it.
fn floor() -> Duration {
    let kvm = Kvm::new().expect("KVM can be used");
    let times = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        let vm = kvm.create_vm().expect("a machine");
        drop(vm.create_vcpu(0).expect("a processor"));
        drop(vm);
        begun.elapsed()
    });
    median(times.collect())
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells about processes");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("and about their memory");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("in KiB")
}

async fn memory(executor: &MicrovmExecutor, prepared: &Prepared, count: usize) -> f64 {
    let mut crowd = Vec::new();
    let before = resident_kib();
    for _ in 0..count {
        let console = Arc::<Quiet>::default();
        crowd.push(launch(executor, prepared, &console).await);
        console.0.notified().await;
    }
    let each = (resident_kib() - before) as f64 / count as f64;
    for mut instance in crowd {
        instance.stop().await;
    }
    each
}

#[tokio::main]
async fn main() {
    let cold = Config { pool_machines_max: 0, ..Config::default() }.build();
    if let Some(reason) = &cold.capacity().unavailable {
        println!("nothing to measure: {reason}");
        return;
    }
    let floor = floor();
    let ratio = |time: Duration| time.as_secs_f64() / floor.as_secs_f64();
    println!("a machine made and unmade by KVM  {floor:>10.1?}");
    let program = prepare(&cold, IDLE).await;
    let time = first_output(&cold, &program, Duration::ZERO).await;
    println!("cold launch to first output       {time:>10.1?}  {:.1} times that", ratio(time));
    let count = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(100);
    let each = memory(&cold, &program, count).await;
    println!("memory of each of {count:>4} idle       {each:>7.0} KiB");

    let pooled = Config::default().build();
    let program = prepare(&pooled, IDLE).await;
    let time = first_output(&pooled, &program, Duration::from_millis(30)).await;
    println!("pooled launch to first output     {time:>10.1?}  {:.1} times that", ratio(time));

    let program = prepare(&pooled, &CALLER.replace("CALLS", &CALLS.to_string())).await;
    let begun = Instant::now();
    launch(&pooled, &program, &Arc::default()).await.exited().await;
    println!("a request and its answer          {:>10.1?}", begun.elapsed() / CALLS);
}
