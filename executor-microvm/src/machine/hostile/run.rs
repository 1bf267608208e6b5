//! Hostile guests in whole runs, out of the pool and with all that serves a run: each ends with a reason, alone.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use proptest::{prelude::*, sample::select, strategy::ValueTree as _, test_runner::TestRunner};
use tokio::sync::Semaphore;
use wasmatrix_executor_api::{
    Capabilities, CapabilityCall, CapabilityError, CapabilityErrorKind, CapabilityReply, Closed, Console,
    Instance as _, Launch, Output, Prepared,
};
use wasmatrix_microvm_abi::{
    Request,
    layout::{ARTIFACT, HEAP, IMAGE, MEMORIES, PAGE_BYTES, REQUEST, RESPONSE, STACK, SUPERVISOR},
};
use wasmatrix_model::{Digest, ExitCause, InstanceId, Limits, LogLevel};

use super::{
    CONSTANTS, JUMP, PRIVILEGED, READ_RBX, UD2, WRITE_RBX,
    assembly::{Assembly, hypercall, with_rax},
    hypervisor, image, machine, runs,
};
use crate::{
    compile::Code,
    fuzzing,
    machine::Step,
    pool::Pool,
    run,
    sys::{Kicker, Shared},
    templates::Templates,
};

/// Linear memory that a guest may have, in bytes.
const MEMORY_BYTES_MAX: u64 = 1 << 20;
/// How long a guest may go on before it is stopped.
const PATIENCE: Duration = Duration::from_millis(50);

/// A console and capabilities that have nothing to give.
struct Nobody;

#[async_trait]
impl Console for Nobody {
    async fn write(&self, _output: Output, _bytes: bytes::Bytes) -> Result<(), Closed> {
        Err(Closed)
    }

    async fn read(&self, _bytes_max: usize) -> bytes::Bytes {
        bytes::Bytes::new()
    }

    fn log(&self, _level: LogLevel, _context: &str, _message: &str) {}
}

#[async_trait]
impl Capabilities for Nobody {
    async fn call(&self, _call: CapabilityCall) -> Result<CapabilityReply, CapabilityError> {
        Err(CapabilityError::new(CapabilityErrorKind::Denied, "nobody may"))
    }
}

/// A launch that is given nothing but memory.
pub(in crate::machine) fn launch(memory_bytes_max: u64) -> Launch {
    Launch {
        instance: InstanceId::generate(),
        prepared: Prepared::new(Digest::of(&[]), Arc::new(())),
        args: vec!["program".into()],
        env: BTreeMap::new(),
        config: BTreeMap::new(),
        limits: Limits { memory_bytes_max, ..Limits::default() },
        capabilities: Arc::new(Nobody),
        console: Arc::new(Nobody),
    }
}

/// What a guest does after it has begun. Bytes stand in the constants' page, from the start of which `at` counts.
#[derive(Clone, Debug)]
enum Deed {
    /// Writes bytes into the request's pages, and makes a hypercall with a length of its own choice.
    Say { bytes: Vec<u8>, claim: Option<u32> },
    /// Runs what no program has.
    Execute(&'static [u8]),
    /// Runs anything.
    Stumble(Vec<u8>),
    /// Reads, writes or jumps somewhere.
    Touch { address: u64, access: &'static [u8] },
    /// Does nothing, for ever.
    Spin,
}

fn deed() -> impl Strategy<Value = Deed> {
    let seeds: Vec<Vec<u8>> = fuzzing::requests().iter().map(Request::encode).collect();
    let seeds: Vec<Vec<u8>> = seeds.into_iter().filter(|bytes| bytes.len() < 200).collect();
    let damaged = (select(seeds), any::<prop::sample::Index>(), any::<u8>(), any::<bool>()).prop_map(
        |(mut bytes, at, value, damage)| {
            if damage {
                *at.get_mut(&mut bytes) = value;
            }
            bytes
        },
    );
    let bytes = prop_oneof![4 => damaged, 1 => proptest::collection::vec(any::<u8>(), 0..100)];
    let claim = prop_oneof![
        8 => Just(None),
        1 => any::<u32>().prop_map(Some),
        1 => (0_u32..20_000_000).prop_map(Some),
    ];
    let near =
        select(vec![0, SUPERVISOR, IMAGE, ARTIFACT, REQUEST, RESPONSE, STACK, HEAP, MEMORIES, 1 << 46]);
    let address = prop_oneof![
        3 => (near, 0_u64..0x40_0000).prop_map(|(base, offset)| base + offset),
        1 => any::<u64>(),
    ];
    prop_oneof![
        12 => (bytes, claim).prop_map(|(bytes, claim)| Deed::Say { bytes, claim }),
        1 => (0..PRIVILEGED.len()).prop_map(|index| Deed::Execute(PRIVILEGED[index].1)),
        1 => proptest::collection::vec(any::<u8>(), 1..40).prop_map(Deed::Stumble),
        2 => (address, select(vec![READ_RBX, WRITE_RBX, JUMP]))
            .prop_map(|(address, access)| Deed::Touch { address, access }),
        1 => Just(Deed::Spin),
    ]
}

/// Code that begins well and then does these deeds, and the constants that it counts on.
fn guest(deeds: &[Deed]) -> (Vec<u8>, Vec<u8>) {
    let (mut code, mut constants) = (Assembly::default(), Vec::new());
    code.park();
    code.ask(&Request::Started.encode());
    for deed in deeds {
        match deed {
            Deed::Say { bytes, claim } => {
                let length = bytes.len() as u32;
                code.say(CONSTANTS + constants.len() as u64, length, claim.unwrap_or(length));
                constants.extend(bytes);
            }
            Deed::Execute(bytes) => _ = code.put(bytes),
            Deed::Stumble(bytes) => _ = code.put(bytes),
            Deed::Touch { address, access } => _ = code.put(&with_rax(*address, access)),
            Deed::Spin => _ = code.put(&[0xeb, 0xfe]),
        }
    }
    code.put(UD2);
    (code.0, constants)
}

/// As many guests as `WASMATRIX_HOSTILE_RUNS` says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_runs_end_alone_and_with_a_reason() {
    let Some(beside) = hypervisor() else { return };
    let mut neighbour = machine(&beside, &[&hypercall(0)[..], &[0xeb, 0xf4]].concat());
    let shared = Shared::new(&[0; PAGE_BYTES as usize]).unwrap();
    let code = Arc::new(Code { shared, bytes: PAGE_BYTES, text: 0..PAGE_BYTES, runs_at_instantiation: true });
    let places = Arc::new(Semaphore::new(1));
    let mut runner = TestRunner::default();
    let deeds = proptest::collection::vec(deed(), 1..12);
    let mut reasons = BTreeMap::<&str, u32>::new();
    for _ in 0..runs() {
        let deeds = deeds.new_tree(&mut runner).unwrap().current();
        let (text, constants) = guest(&deeds);
        let templates = Arc::new(Templates::new(hypervisor().unwrap(), image(&text, &constants)));
        let template = Arc::new(templates.make(&code).unwrap());
        let machine = Pool::new(templates, 0).take(&template).await.unwrap();
        let permit = Arc::clone(&places).acquire_owned().await.unwrap();
        let launch = launch(MEMORY_BYTES_MAX);
        let mut run = run::start(machine, &template, launch, u32::MAX, permit).await.unwrap();
        let end = match tokio::time::timeout(PATIENCE, run.exited()).await {
            Ok(end) => end,
            Err(_too_long) => run.stop().await,
        };
        let reason = match &end {
            ExitCause::Exited { .. } => "it says that it exited",
            ExitCause::Trapped { .. } => "it trapped or broke down",
            ExitCause::LimitExceeded { .. } => "a limit",
            ExitCause::StartFailed { .. } => "it says that it did not start",
            ExitCause::StopRequested => "stopped",
            ExitCause::HostFault { message } => {
                panic!("a guest's deeds are no fault of ours: {message}: {deeds:?}")
            }
        };
        assert!(!end.to_string().is_empty(), "{deeds:?}");
        *reasons.entry(reason).or_default() += 1;
    }
    eprintln!("{reasons:?}");
    assert_eq!(neighbour.step(&Kicker::default(), &mut Vec::new()), Ok(Step::Request(0)));
}
