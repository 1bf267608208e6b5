//! The host, asked in types. It is believed: an answer of the wrong kind ends the machine.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use wasmatrix_microvm_abi::{End, KvAnswer, KvRequest, LastWords, Request, Response, Start};

use crate::sys;

/// Asks, and waits for the answer.
fn ask(request: &Request<'_>) -> Response {
    believe(sys::exchange(&request.encode()))
}

/// Asks for what is to be done next. The answer may come in another machine, made from what this one has written.
fn park(request: &Request<'_>) -> Response {
    loop {
        match believe(sys::park(&request.encode())) {
            Response::Touch { stretches } => stretches.iter().for_each(|(at, bytes)| sys::touch(*at, *bytes)),
            response => return response,
        }
    }
}

fn believe(answer: &[u8]) -> Response {
    match Response::parse(answer) {
        Ok(response) => response,
        Err(malformed) => fail(&malformed),
    }
}

fn ask_whether(request: &Request<'_>) -> bool {
    match ask(request) {
        Response::Yes => true,
        Response::No => false,
        other => fail(&alloc::format!("the host gave an answer of the wrong kind: {other:?}")),
    }
}

/// Waits for code, and says how many bytes it has.
pub(crate) fn ready() -> u64 {
    match park(&Request::Ready) {
        Response::Load { artifact_bytes } => artifact_bytes,
        other => fail(&alloc::format!("the host gave an answer of the wrong kind: {other:?}")),
    }
}

/// Waits for a run. `None`: the code is to be instantiated ahead of it.
pub(crate) fn loaded() -> Option<Start> {
    match park(&Request::Loaded) {
        Response::Start(start) => Some(start),
        Response::Instantiate => None,
        other => fail(&alloc::format!("the host gave an answer of the wrong kind: {other:?}")),
    }
}

/// Waits for a run of what is instantiated already, and has so much.
pub(crate) fn instantiated(memory_bytes: u64, table_elements: u64) -> Start {
    match park(&Request::Instantiated { memory_bytes, table_elements }) {
        Response::Start(start) => start,
        other => fail(&alloc::format!("the host gave an answer of the wrong kind: {other:?}")),
    }
}

/// Says that the program begins.
pub(crate) fn started() {
    ask_whether(&Request::Started);
}

/// Makes memory present. False: there is none left.
pub(crate) fn commit(address: u64, bytes: u64) -> bool {
    ask_whether(&Request::Commit { address, bytes })
}

/// Writes to a standard output. False: nobody reads it any more.
pub(crate) fn write(to_stderr: bool, bytes: &[u8]) -> bool {
    ask_whether(&Request::Write { to_stderr, bytes })
}

/// Reads standard input; empty if there is nothing yet, `None` at its end.
pub(crate) fn read(bytes_max: u32, wait: bool) -> Option<Vec<u8>> {
    match ask(&Request::Read { bytes_max, wait }) {
        Response::Bytes(bytes) => Some(bytes),
        Response::No => None,
        other => fail(&alloc::format!("the host gave an answer of the wrong kind: {other:?}")),
    }
}

/// Waits for the time, or for standard input if that is wanted. True: input is there, or at its end.
pub(crate) fn wait(deadline_nanos: Option<u64>, stdin: bool) -> bool {
    ask_whether(&Request::Wait { deadline_nanos, stdin })
}

/// Nanoseconds since the run began.
pub(crate) fn monotonic_clock() -> u64 {
    match ask(&Request::MonotonicClock) {
        Response::Number(nanos) => nanos,
        other => fail(&alloc::format!("the host gave an answer of the wrong kind: {other:?}")),
    }
}

/// Seconds and nanoseconds since 1970.
pub(crate) fn wall_clock() -> (u64, u32) {
    match ask(&Request::WallClock) {
        Response::Time { seconds, nanoseconds } => (seconds, nanoseconds),
        other => fail(&alloc::format!("the host gave an answer of the wrong kind: {other:?}")),
    }
}

/// Random bytes, fit for keys.
pub(crate) fn random(bytes: u32) -> Vec<u8> {
    match ask(&Request::Random { bytes }) {
        Response::Bytes(random) if random.len() == bytes as usize => random,
        other => fail(&alloc::format!("the host gave an answer of the wrong kind: {other:?}")),
    }
}

/// Logs a line.
pub(crate) fn log(level: u8, context: &str, message: &str) {
    ask_whether(&Request::Log { level, context, message });
}

/// Calls key-value storage.
pub(crate) fn kv(request: KvRequest<'_>) -> KvAnswer {
    match ask(&Request::Kv(request)) {
        Response::Kv(answer) => answer,
        other => fail(&alloc::format!("the host gave an answer of the wrong kind: {other:?}")),
    }
}

/// Says how the run ended. The host does not come back.
pub(crate) fn end(end: End) -> ! {
    sys::exchange(&Request::End(end).encode());
    sys::halt()
}

/// Ends the machine because its own runtime failed.
pub(crate) fn fail(reason: &dyn core::fmt::Display) -> ! {
    // What is shown may fail in its turn; the second time it is not tried again.
    static FAILING: AtomicBool = AtomicBool::new(false);
    if !FAILING.swap(true, Relaxed) {
        sys::exchange(LastWords::of(reason).request());
    }
    sys::halt()
}

#[panic_handler]
fn panicked(info: &core::panic::PanicInfo<'_>) -> ! {
    // Where files lay when this was built is nobody's business.
    let place =
        info.location().map(|place| (place.file().rsplit('/').next().unwrap_or_default(), place.line()));
    let (file, line) = place.unwrap_or_default();
    fail(&format_args!("{} ({file}:{line})", info.message()))
}
