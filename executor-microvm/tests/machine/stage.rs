//! What a run is given in a test: programs in text form, a console that records, capabilities that record.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use wasmatrix_executor_api::{
    Artifact, Capabilities, CapabilityCall, CapabilityError, CapabilityReply, Closed, Console, Error,
    Executor, Instance, Launch, Output,
};
use wasmatrix_executor_microvm::{Config, MicrovmExecutor};
use wasmatrix_model::{ExitCause, InstanceId, Limits, LogLevel};

/// Longer than anything here takes, on a machine that is busy with other things.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// The executor; `None` on a machine without KVM that need not have it.
pub(crate) fn executor() -> Option<MicrovmExecutor> {
    let executor = Config { pool_machines_max: 1, ..Config::default() }.build();
    let Some(reason) = &executor.capacity().unavailable else { return Some(executor) };
    let required = std::env::var_os("WASMATRIX_REQUIRE_KVM").is_some_and(|value| value == "1");
    assert!(!required, "KVM is required here: {reason}");
    eprintln!("skipped, for want of KVM: {reason}");
    None
}

/// A console that keeps what it is given and gives what it was told to.
#[derive(Default)]
pub(crate) struct Recorder {
    heard: Mutex<Heard>,
    pub(crate) changed: Notify,
}

#[derive(Default)]
struct Heard {
    out: Vec<u8>,
    err: Vec<u8>,
    log: Vec<(LogLevel, String, String)>,
    input: VecDeque<Bytes>,
    closed: bool,
}

impl Recorder {
    pub(crate) fn with_input(parts: &[&str]) -> Arc<Self> {
        let recorder = Self::default();
        recorder.heard.lock().unwrap().input =
            parts.iter().map(|part| Bytes::from(part.to_string())).collect();
        Arc::new(recorder)
    }

    pub(crate) fn closed() -> Arc<Self> {
        let recorder = Self::default();
        recorder.heard.lock().unwrap().closed = true;
        Arc::new(recorder)
    }

    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap().out).into_owned()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap().err).into_owned()
    }

    pub(crate) fn log(&self) -> Vec<(LogLevel, String, String)> {
        self.heard.lock().unwrap().log.clone()
    }
}

#[async_trait]
impl Console for Recorder {
    async fn write(&self, output: Output, bytes: Bytes) -> Result<(), Closed> {
        let mut heard = self.heard.lock().unwrap();
        if heard.closed {
            return Err(Closed);
        }
        match output {
            Output::Stdout => heard.out.extend_from_slice(&bytes),
            Output::Stderr => heard.err.extend_from_slice(&bytes),
        }
        self.changed.notify_waiters();
        Ok(())
    }

    async fn read(&self, bytes_max: usize) -> Bytes {
        let mut heard = self.heard.lock().unwrap();
        match heard.input.front_mut() {
            Some(part) if part.len() > bytes_max => part.split_to(bytes_max),
            Some(_) => heard.input.pop_front().unwrap_or_default(),
            None => Bytes::new(),
        }
    }

    fn log(&self, level: LogLevel, context: &str, message: &str) {
        self.heard.lock().unwrap().log.push((level, context.into(), message.into()));
    }
}

/// Capabilities that keep the calls and answer from a list.
#[derive(Default)]
pub(crate) struct Gate {
    pub(crate) calls: Mutex<Vec<CapabilityCall>>,
    pub(crate) answers: Mutex<VecDeque<Result<CapabilityReply, CapabilityError>>>,
}

#[async_trait]
impl Capabilities for Gate {
    async fn call(&self, call: CapabilityCall) -> Result<CapabilityReply, CapabilityError> {
        self.calls.lock().unwrap().push(call);
        self.answers.lock().unwrap().pop_front().expect("a call that no answer was prepared for")
    }
}

/// A launch of one program in text form.
pub(crate) struct Scene<'a> {
    pub(crate) executor: &'a MicrovmExecutor,
    pub(crate) console: Arc<Recorder>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) limits: Limits,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) config: BTreeMap<String, String>,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(executor: &'a MicrovmExecutor) -> Self {
        Self {
            executor,
            console: Arc::default(),
            gate: Arc::default(),
            limits: Limits::default(),
            args: vec!["program".into()],
            env: BTreeMap::new(),
            config: BTreeMap::new(),
        }
    }

    pub(crate) async fn launch(&self, text: &str) -> Result<Box<dyn Instance>, Error> {
        let artifact = Artifact::new(wat::parse_str(text).expect("the program is legal").into());
        let prepared = self.executor.prepare(&artifact).await?;
        self.executor
            .launch(Launch {
                instance: InstanceId::generate(),
                prepared,
                args: self.args.clone(),
                env: self.env.clone(),
                config: self.config.clone(),
                limits: self.limits.clone(),
                capabilities: Arc::clone(&self.gate) as Arc<dyn Capabilities>,
                console: Arc::clone(&self.console) as Arc<dyn Console>,
            })
            .await
    }

    /// Runs a program to its end.
    pub(crate) async fn run(&self, text: &str) -> ExitCause {
        let mut instance = self.launch(text).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        tokio::time::timeout(LONG, instance.exited()).await.expect("the run ends")
    }
}

/// A preview-1 program whose `_start` has this body, with the functions that these tests need.
pub(crate) fn program(body: &str) -> String {
    format!(
        r#"(module $prog
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 1024) "hello, micro-VM\n")
            (func $print (param $fd i32) (param $at i32) (param $bytes i32)
                (i32.store (i32.const 0) (local.get $at))
                (i32.store (i32.const 4) (local.get $bytes))
                (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
            {body})"#
    )
}
