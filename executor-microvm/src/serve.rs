//! What the host does for a guest: one request at a time, on the thread that runs its vCPU.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::FutureExt;
use tokio::{
    runtime::Handle,
    time::{sleep, sleep_until},
};
use wasmatrix_executor_api::{Capabilities, Console, Launch, Meter, Output, Share};
use wasmatrix_microvm_abi::{End, Request, Response, Start, layout::CALL_BYTES_MAX};
use wasmatrix_model::{Clock, LogLevel, SystemClock};

use self::rate::Rate;
use crate::{
    computing::Computing,
    machine::{GuestMemory, Violation},
    run::{Control, Cut},
};

mod kv;
mod rate;

/// Bytes fetched from the console at a time.
const READ_BYTES_MAX: usize = 64 << 10;
/// Levels of `wasi:logging`, in its order.
const LEVELS: [LogLevel; 6] =
    [LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error, LogLevel::Critical];

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Served {
    /// It has an answer.
    Answer(Response),
    /// The program begins.
    Started,
    /// The run is over.
    End(End),
}

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum Unserved {
    /// The run was cut short while the guest waited.
    Cut(Cut),
    /// The request breaks a rule.
    Violation(Violation),
}

impl From<Violation> for Unserved {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<Cut> for Unserved {
    fn from(cut: Cut) -> Self {
        Self::Cut(cut)
    }
}

/// What stands behind one run's requests.
pub(crate) struct Host {
    runtime: Handle,
    control: Arc<Control>,
    capabilities: Arc<dyn Capabilities>,
    console: Arc<dyn Console>,
    meter: Arc<Meter>,
    /// What its thread computes.
    pub(crate) computing: Computing,
    begun: Instant,
    rate: Rate,
    /// Standard input that was fetched and not yet read.
    input: Bytes,
    input_ended: bool,
    started: bool,
}

impl Host {
    /// For a launch that begins now, with all that its guest is told. `started`: its code is instantiated already.
    pub(crate) fn new(
        launch: Launch,
        requests_per_second_max: u32,
        started: bool,
        control: Arc<Control>,
        meter: Arc<Meter>,
    ) -> (Self, Start) {
        let (stdin, stdout, stderr) = launch.console.terminals();
        let start = Start {
            args: launch.args,
            env: launch.env.into_iter().collect(),
            config: launch.config.into_iter().collect(),
            memory_bytes_max: launch.limits.memory_bytes_max,
            table_elements_max: launch.limits.table_elements_max,
            handles_max: launch.limits.handles_max,
            terminals: [stdin, stdout, stderr],
        };
        let host = Self {
            runtime: Handle::current(),
            control,
            capabilities: launch.capabilities,
            console: launch.console,
            computing: Computing::new(Arc::clone(&meter), Share::new(launch.limits.cpu_millis_per_second)),
            meter,
            begun: Instant::now(),
            rate: Rate::new(requests_per_second_max),
            input: Bytes::new(),
            input_ended: false,
            started,
        };
        (host, start)
    }

    /// Time since the run began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How long the guest is to rest from now on, because it has computed more than it may.
    pub(crate) fn rest(&mut self) -> Option<Duration> {
        if self.computing.is_limited() { self.computing.rest(self.begun.elapsed()) } else { None }
    }

    /// Waits for a future on this thread, unless the run is cut short. The thread has to be in the context of the
    /// runtime.
    pub(crate) fn wait_for<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Cut> {
        if let Some(cut) = self.control.verdict() {
            return Err(cut);
        }
        let mut future = pin!(future);
        // Most answers are there at once, and then nothing needs to be set up that could wake this thread.
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Ok(value);
        }
        // It may take long, and the meter is to be right meanwhile.
        self.computing.count(self.begun.elapsed());
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                cut = self.control.cut() => Err(cut),
                value = future => Ok(value),
            }
        })
    }

    /// Serves a request, if need be after a while.
    pub(crate) fn serve(
        &mut self,
        memory: &mut GuestMemory,
        request: Request<'_>,
    ) -> Result<Served, Unserved> {
        let now = self.elapsed();
        self.computing.count_now_and_then(now);
        if let Some(rest) = self.rate.charge(now) {
            self.wait_for(async { sleep(rest).await })?;
        }
        let answer = match request {
            Request::Ready | Request::Loaded | Request::Instantiated { .. } => {
                return Err(Violation::OutOfTurn.into());
            }
            Request::Started if self.started => return Err(Violation::OutOfTurn.into()),
            Request::Started => {
                self.started = true;
                return Ok(Served::Started);
            }
            Request::End(end) => return Ok(Served::End(end)),
            Request::Commit { address, bytes } => {
                let done = memory.commit(address, bytes);
                self.meter.set_memory_bytes(memory.memory_bytes());
                whether(done)
            }
            Request::Write { to_stderr, bytes } => {
                let output = if to_stderr { Output::Stderr } else { Output::Stdout };
                let console = Arc::clone(&self.console);
                whether(self.wait_for(console.write(output, Bytes::copy_from_slice(bytes)))?.is_ok())
            }
            Request::Read { bytes_max, wait } => self.read(bytes_max, wait)?,
            Request::Wait { deadline_nanos, stdin } => self.wait(deadline_nanos, stdin)?,
            Request::MonotonicClock => {
                Response::Number(u64::try_from(self.elapsed().as_nanos()).unwrap_or(u64::MAX))
            }
            Request::WallClock => wall_clock(),
            Request::Random { bytes } => random(bytes)?,
            Request::Log { level, context, message } => {
                let level = LEVELS.get(usize::from(level)).copied().unwrap_or(LogLevel::Info);
                self.console.log(level, context, message);
                Response::Yes
            }
            Request::Kv(request) => self.kv(request)?,
        };
        Ok(Served::Answer(answer))
    }

    fn read(&mut self, bytes_max: u32, wait: bool) -> Result<Response, Cut> {
        if self.input.is_empty() && !self.input_ended {
            let console = Arc::clone(&self.console);
            if wait {
                let bytes = self.wait_for(console.read(READ_BYTES_MAX))?;
                self.take_in(bytes);
            } else {
                // Reading is cancel-safe: what is not there at once is not lost.
                match self.wait_for(async { console.read(READ_BYTES_MAX).now_or_never() })? {
                    Some(bytes) => self.take_in(bytes),
                    None => return Ok(Response::Bytes(Vec::new())),
                }
            }
        }
        if self.input.is_empty() {
            return Ok(Response::No);
        }
        let count = self.input.len().min(bytes_max as usize);
        Ok(Response::Bytes(self.input.split_to(count).into()))
    }

    fn take_in(&mut self, bytes: Bytes) {
        self.input_ended = bytes.is_empty();
        self.input = bytes;
    }

    fn wait(&mut self, deadline_nanos: Option<u64>, stdin: bool) -> Result<Response, Cut> {
        if stdin && (self.input_ended || !self.input.is_empty()) {
            return Ok(Response::Yes);
        }
        // A deadline beyond the clock's end is none.
        let deadline = deadline_nanos.and_then(|nanos| self.begun.checked_add(Duration::from_nanos(nanos)));
        let console = Arc::clone(&self.console);
        let input =
            async { if stdin { console.read(READ_BYTES_MAX).await } else { std::future::pending().await } };
        let time = async {
            match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let arrived = self.wait_for(async {
            tokio::select! {
                biased;
                bytes = input => Some(bytes),
                () = time => None,
            }
        })?;
        if let Some(bytes) = arrived {
            self.take_in(bytes);
            return Ok(Response::Yes);
        }
        Ok(Response::No)
    }
}

fn whether(yes: bool) -> Response {
    if yes { Response::Yes } else { Response::No }
}

fn wall_clock() -> Response {
    let now = SystemClock.now();
    Response::Time {
        seconds: u64::try_from(now.as_second()).unwrap_or(0),
        nanoseconds: u32::try_from(now.subsec_nanosecond()).unwrap_or(0),
    }
}

fn random(count: u32) -> Result<Response, Violation> {
    if count > CALL_BYTES_MAX {
        return Err(Violation::RequestLength(count));
    }
    let mut bytes = vec![0; count as usize];
    rand::fill(&mut bytes);
    Ok(Response::Bytes(bytes))
}
