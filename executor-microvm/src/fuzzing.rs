//! What fuzz targets call: a guest's requests, from the bytes in the shared pages to the capability call and back, with
//! everything of a run but KVM.
//!
//! A script stands for a hostile guest. It is a sequence of turns: two bytes with the length of what it writes into the
//! request's pages, those bytes, and then the hypercall. A length of [`LIE`] is followed by four bytes instead, the
//! length that the guest claims, and nothing is written.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::runtime::Runtime;
use wasmatrix_executor_api::{
    Capabilities, CapabilityCall, CapabilityError, CapabilityErrorKind, CapabilityReply, Closed, Console,
    KvCall, KvReply, Launch, Meter, Output, Page, Prepared, Swapped, Version, Versioned,
};
use wasmatrix_microvm_abi::{
    End, KvRequest, Request, Response, StackFrame,
    engine::BACKTRACE_FRAMES_MAX,
    kv::{BATCH_ENTRIES_MAX, Operation},
    layout::{CALL_BYTES_MAX, MEMORIES, PAGE_BYTES, REQUEST_BYTES_MAX},
};
use wasmatrix_model::{Digest, ExitCause, InstanceId, Key, Limits, LogLevel};

use crate::{
    ending,
    machine::GuestMemory,
    run::Control,
    serve::{Host, Served, Unserved},
};

/// In place of a length: a claim without bytes.
pub const LIE: u16 = u16::MAX;
/// Linear memory that the guest may have, in bytes.
const MEMORY_BYTES_MAX: u64 = 2 << 20;
/// Longest end that is told, in bytes: the guest's text, and ours around it.
const END_BYTES_MAX: usize = 8 << 10;

/// Plays a script to its end, or to the end of the run.
///
/// # Panics
/// The host does something that it promises never to do.
pub fn hypercalls(script: &[u8]) {
    let _runtime = runtime().enter();
    let mut memory = GuestMemory::alone(MEMORY_BYTES_MAX).expect("there is address space");
    let (mut host, start) =
        Host::new(launch(), u32::MAX, false, Arc::<Control>::default(), Arc::<Meter>::default());
    assert!(memory.answer(&Response::Start(start)));
    let mut rest = script;
    let mut buffer = Vec::new();
    while let Some(length) = turn(&mut rest, &mut memory) {
        let Ok(length) = memory.fetch(length, &mut buffer) else { return };
        let bytes = &buffer[..length];
        let Ok(request) = Request::parse(bytes) else { return };
        assert_eq!(request.encode(), bytes, "there is one way to write a request");
        if takes_time(&request) {
            continue;
        }
        let had = memory.memory_bytes();
        match host.serve(&mut memory, request) {
            Ok(Served::Answer(answer)) if !memory.answer(&answer) => return,
            Ok(Served::Answer(_) | Served::Started) => {}
            Ok(Served::End(end)) => return check_end(ending::cause(end)),
            Err(Unserved::Violation(violation)) => return check_end(ending::violated(&violation)),
            Err(Unserved::Cut(cut)) => return check_end(cut.into()),
        }
        if memory.memory_bytes() != had {
            memory.check();
        }
    }
}

/// The next turn, with its bytes written. `None`: there is none.
fn turn(rest: &mut &[u8], memory: &mut GuestMemory) -> Option<u32> {
    let (length, after) =
        rest.split_first_chunk().map(|(length, after)| (u16::from_le_bytes(*length), after))?;
    if length == LIE {
        let (claim, after) = after.split_first_chunk()?;
        *rest = after;
        let claim = u32::from_le_bytes(*claim);
        // Megabytes of zeroes take long to read, and say no more than a page of them.
        return Some(if claim <= REQUEST_BYTES_MAX { claim % 5000 } else { claim });
    }
    let (bytes, after) = after.split_at(after.len().min(length.into()));
    *rest = after;
    memory.write_request(bytes);
    u32::try_from(bytes.len()).ok()
}

/// Whether it waits for nothing but time, or makes random bytes for long: time would be lost, and nothing found.
const fn takes_time(request: &Request<'_>) -> bool {
    matches!(
        request,
        Request::Wait { stdin: false, deadline_nanos: None | Some(1_000_000..) }
            | Request::Random { bytes: 4096..=CALL_BYTES_MAX }
    )
}

fn check_end(cause: ExitCause) {
    assert!(cause.to_string().len() <= END_BYTES_MAX, "an end is cut to length");
    if let ExitCause::Trapped { backtrace, .. } = cause {
        assert!(backtrace.len() <= BACKTRACE_FRAMES_MAX.get());
        assert!(backtrace.iter().all(|frame| frame.to_string().len() <= END_BYTES_MAX));
    }
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_time().build().expect("a runtime can be built")
    })
}

fn launch() -> Launch {
    Launch {
        instance: InstanceId::generate(),
        prepared: Prepared::new(Digest::of(&[]), Arc::new(())),
        args: vec!["program".into()],
        env: BTreeMap::new(),
        config: BTreeMap::new(),
        limits: Limits { memory_bytes_max: MEMORY_BYTES_MAX, ..Limits::default() },
        capabilities: Arc::new(Store),
        console: Arc::new(Terminal),
    }
}

/// A console that answers at once: what is written is taken, and there are three bytes to read each time.
struct Terminal;

#[async_trait]
impl Console for Terminal {
    async fn write(&self, output: Output, _bytes: Bytes) -> Result<(), Closed> {
        if output == Output::Stderr { Err(Closed) } else { Ok(()) }
    }

    async fn read(&self, bytes_max: usize) -> Bytes {
        Bytes::from_static(&b"in\n"[..bytes_max.min(3)])
    }

    fn log(&self, _level: LogLevel, _context: &str, _message: &str) {}
}

/// A store whose answers depend on the bucket that was named: some are errors, and some are larger than may be.
struct Store;

#[async_trait]
impl Capabilities for Store {
    async fn call(&self, call: CapabilityCall) -> Result<CapabilityReply, CapabilityError> {
        let CapabilityCall::Kv(call) = call;
        reply(call).map(CapabilityReply::Kv)
    }
}

fn reply(call: KvCall) -> Result<KvReply, CapabilityError> {
    let of = |bucket: &str, key: &Key| match bucket {
        "denied" => Err(CapabilityError::new(CapabilityErrorKind::Denied, key.to_string())),
        "failed" => Err(CapabilityError::new(CapabilityErrorKind::Failed, key.to_string())),
        "none" => Ok(None),
        "large" => Ok(Some(Bytes::from_static(&[7; 20 << 10]))),
        _ => Ok(Some(Bytes::copy_from_slice(key.as_str().as_bytes()))),
    };
    Ok(match call {
        KvCall::Get { bucket, key } => KvReply::Value(of(bucket.as_str(), &key)?),
        KvCall::Exists { bucket, key } => KvReply::Exists(of(bucket.as_str(), &key)?.is_some()),
        KvCall::Set { bucket, key, .. } | KvCall::Delete { bucket, key } => {
            of(bucket.as_str(), &key)?;
            KvReply::Done
        }
        KvCall::List { after, .. } => {
            KvReply::Keys(Page { more: after.is_some(), keys: after.into_iter().collect() })
        }
        KvCall::Increment { delta, .. } => KvReply::Number(delta),
        KvCall::Current { bucket, key } => KvReply::Versioned(
            of(bucket.as_str(), &key)?.map(|value| Versioned { value, version: Version(7) }),
        ),
        KvCall::Swap { expected, .. } => {
            KvReply::Swapped(if expected.is_some() { Swapped::Done } else { Swapped::Stale })
        }
        KvCall::GetMany { bucket, keys } => {
            assert!(keys.len() <= BATCH_ENTRIES_MAX);
            KvReply::Values(keys.iter().map(|key| of(bucket.as_str(), key)).collect::<Result<_, _>>()?)
        }
        KvCall::SetMany { entries, .. } => {
            assert!(entries.len() <= BATCH_ENTRIES_MAX);
            KvReply::Done
        }
        KvCall::DeleteMany { keys, .. } => {
            assert!(keys.len() <= BATCH_ENTRIES_MAX);
            KvReply::Done
        }
    })
}

/// Scripts to begin from, each with a name: every request there is, alone, and a run that makes them all.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let requests: Vec<Vec<u8>> = requests().iter().map(Request::encode).collect();
    let written = |bytes: &Vec<u8>| [&(bytes.len() as u16).to_le_bytes()[..], bytes].concat();
    let mut seeds: Vec<_> = requests
        .iter()
        .enumerate()
        .map(|(index, request)| (format!("request-{index:02}"), written(request)))
        .collect();
    let endless = requests.iter().filter(|request| request.first() != Some(&10));
    seeds.push(("run".into(), endless.flat_map(written).collect()));
    for (name, claim) in [("nothing", 0_u32), ("a-page", 4096), ("too-much", u32::MAX)] {
        seeds.push((format!("claims-{name}"), [&LIE.to_le_bytes()[..], &claim.to_le_bytes()].concat()));
    }
    seeds
}

pub(crate) fn requests() -> Vec<Request<'static>> {
    let kv = |bucket, operation| Request::Kv(KvRequest { bucket, operation });
    let frame = |name: &str| StackFrame {
        module: Some("module".into()),
        function: Some(name.into()),
        index: 1,
        offset: Some(2),
    };
    let backtrace =
        ["_ZN4core9panicking5panic17h0123456789abcdefE", "_RNvCs1234_7mycrate3foo", "_ZN3foo3barEi", "main"];
    vec![
        Request::Started,
        Request::Commit { address: MEMORIES, bytes: PAGE_BYTES },
        Request::Commit { address: MEMORIES + (4 << 30), bytes: 16 * PAGE_BYTES },
        Request::Write { to_stderr: false, bytes: b"out" },
        Request::Write { to_stderr: true, bytes: b"err" },
        Request::Read { bytes_max: 2, wait: true },
        Request::Read { bytes_max: 4096, wait: false },
        Request::Wait { deadline_nanos: Some(1), stdin: true },
        Request::Wait { deadline_nanos: Some(1), stdin: false },
        Request::MonotonicClock,
        Request::WallClock,
        Request::Random { bytes: 32 },
        Request::Log { level: 3, context: "context", message: "message" },
        kv("default", Operation::Get { key: "key" }),
        kv("none", Operation::Get { key: "key" }),
        kv("denied", Operation::Set { key: "key", value: b"value" }),
        kv("failed", Operation::Delete { key: "key" }),
        kv("default", Operation::Exists { key: "key" }),
        kv("default", Operation::List { after: None }),
        kv("default", Operation::List { after: Some("key") }),
        kv("default", Operation::Increment { key: "key", delta: -1 }),
        kv("default", Operation::Current { key: "key" }),
        kv("default", Operation::Swap { key: "key", expected: Some(7), value: b"value" }),
        kv("default", Operation::GetMany { keys: vec!["a", "b"] }),
        kv("large", Operation::GetMany { keys: vec!["a"; BATCH_ENTRIES_MAX] }),
        kv("default", Operation::SetMany { entries: vec![("a", b"1"), ("b", b"2")] }),
        kv("default", Operation::DeleteMany { keys: vec!["a", "b"] }),
        Request::End(End::Exited { code: 3 }),
        Request::End(End::Trapped {
            trap: "wasm trap: integer divide by zero".into(),
            backtrace: backtrace.map(frame).into(),
        }),
        Request::End(End::LimitReached { limit: 1, message: "limit".into() }),
        Request::End(End::LimitReached { limit: 9, message: "limit".into() }),
        Request::End(End::StartFailed { message: "start".into() }),
        Request::End(End::RuntimeFailed { message: "runtime".into() }),
        Request::Ready,
        Request::Loaded,
        Request::Instantiated { memory_bytes: 1 << 16, table_elements: 1 },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_played_without_a_fault() {
        for (name, script) in seeds() {
            assert!(script.len() > 2, "{name}");
            hypercalls(&script);
            hypercalls(&script[..script.len() - 1]);
        }
    }
}
