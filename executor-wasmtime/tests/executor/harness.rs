//! What the cases run guests with: an executor, a console that remembers, and capabilities that remember.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::sync::watch;
use wasmatrix_executor_api::{
    Artifact, Capabilities, CapabilityCall, CapabilityError, CapabilityErrorKind, CapabilityReply, Closed,
    Console, Error, Executor, Instance, Launch, Output, Prepared,
};
use wasmatrix_executor_wasmtime::{Config, WasmtimeExecutor};
use wasmatrix_model::{ExitCause, InstanceId, Limits, LogLevel};

/// A small executor.
pub(crate) fn config() -> Config {
    Config { instances_max: 8, ..Config::default() }
}

/// A WASI preview-1 module from its text. `$write (ptr, len)` and `$exit (code)` are there for it, and a page of
/// memory, of which the first 64 bytes are theirs.
pub(crate) fn module(body: &str) -> Artifact {
    artifact(&format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (func $write (param $fd i32) (param $ptr i32) (param $len i32)
                (i32.store (i32.const 0) (local.get $ptr))
                (i32.store (i32.const 4) (local.get $len))
                (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
            {body})"#
    ))
}

/// An artifact from its text.
pub(crate) fn artifact(text: &str) -> Artifact {
    Artifact::new(wat::parse_str(text).expect("the text is WebAssembly").into())
}

/// A console that remembers what it was given.
#[derive(Default)]
pub(crate) struct Memory {
    input: Mutex<Bytes>,
    written: watch::Sender<Vec<(Output, Bytes)>>,
    pub(crate) logged: Mutex<Vec<(LogLevel, String, String)>>,
    terminal: bool,
}

impl Memory {
    pub(crate) fn on_terminal(terminal: bool) -> Arc<Self> {
        Arc::new(Self { terminal, ..Self::default() })
    }

    pub(crate) fn with_input(input: &'static str) -> Arc<Self> {
        Arc::new(Self { input: Mutex::new(input.into()), ..Self::default() })
    }

    /// All that came out of that output.
    pub(crate) fn text(&self, of: Output) -> String {
        let mut all = BytesMut::new();
        for (output, bytes) in self.written.borrow().iter() {
            if *output == of {
                all.extend_from_slice(bytes);
            }
        }
        String::from_utf8(all.into()).expect("the cases write text")
    }

    /// Waits until something was written.
    pub(crate) async fn spoken(&self) {
        self.written.subscribe().wait_for(|written| !written.is_empty()).await.expect("the sender is here");
    }
}

#[async_trait]
impl Console for Memory {
    async fn write(&self, output: Output, bytes: Bytes) -> Result<(), Closed> {
        self.written.send_modify(|written| written.push((output, bytes)));
        Ok(())
    }

    async fn read(&self, bytes_max: usize) -> Bytes {
        let mut input = self.input.lock().unwrap();
        let count = bytes_max.min(input.len());
        input.split_to(count)
    }

    fn log(&self, level: LogLevel, context: &str, message: &str) {
        self.logged.lock().unwrap().push((level, context.into(), message.into()));
    }

    fn terminals(&self) -> (bool, bool, bool) {
        (self.terminal, self.terminal, self.terminal)
    }
}

type Answer = Result<CapabilityReply, CapabilityError>;

/// Capabilities that remember every call and answer in the order in which they were told; then they deny.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) calls: Mutex<Vec<CapabilityCall>>,
    pub(crate) answers: Mutex<Vec<Answer>>,
}

#[async_trait]
impl Capabilities for Recorder {
    async fn call(&self, call: CapabilityCall) -> Answer {
        self.calls.lock().unwrap().push(call);
        let mut answers = self.answers.lock().unwrap();
        if answers.is_empty() {
            return Err(CapabilityError::new(CapabilityErrorKind::Denied, "no grant covers it"));
        }
        answers.remove(0)
    }
}

/// A launch to be.
pub(crate) struct Job {
    pub(crate) artifact: Artifact,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) limits: Limits,
    pub(crate) console: Arc<Memory>,
    pub(crate) capabilities: Arc<dyn Capabilities>,
}

impl Job {
    pub(crate) fn new(artifact: Artifact) -> Self {
        Self {
            artifact,
            args: vec!["job".into()],
            env: BTreeMap::new(),
            config: BTreeMap::new(),
            limits: Limits::default(),
            console: Arc::default(),
            capabilities: Arc::new(Recorder::default()),
        }
    }

    /// A launch of it.
    pub(crate) fn launch(&self, prepared: Prepared) -> Launch {
        Launch {
            instance: InstanceId::generate(),
            prepared,
            args: self.args.clone(),
            env: self.env.clone(),
            config: self.config.clone(),
            limits: self.limits.clone(),
            capabilities: Arc::clone(&self.capabilities),
            console: Arc::clone(&self.console) as Arc<dyn Console>,
        }
    }

    pub(crate) async fn start(&self, executor: &WasmtimeExecutor) -> Result<Box<dyn Instance>, Error> {
        executor.launch(self.launch(executor.prepare(&self.artifact).await?)).await
    }

    /// Runs it to its end on an executor of its own.
    pub(crate) async fn run(&self) -> ExitCause {
        let executor = config().build().unwrap();
        self.start(&executor).await.unwrap().exited().await
    }

    /// Tries to start it, on an executor of its own, and says why it can't be.
    pub(crate) async fn refused(&self) -> Error {
        let executor = config().build().unwrap();
        self.start(&executor).await.map(drop).expect_err("it can't be started")
    }
}
