//! A whole node within a test: an agent with its executors and providers, and guests run to their end.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use wasmatrix_agent::{Agent, Config};
use wasmatrix_executor_api::{Artifact, Closed, Console, Output};
use wasmatrix_model::{
    ExecutorKind, Exit, ExitCause, Fact, Failure, Grants, InstanceSpec, InstanceStatus, Limits, LogLevel,
    RestartPolicy,
};

use crate::guests::guest;

/// A node of its own: nothing on disk, nothing shared with another test.
#[derive(Debug)]
pub struct Node {
    /// The agent itself.
    pub agent: Agent,
    named: AtomicU64,
}

/// What a guest is run with. [`Case::of`] gives it nothing.
#[derive(Clone, Debug)]
pub struct Case {
    /// What to run.
    pub artifact: Artifact,
    /// Where.
    pub executor: ExecutorKind,
    /// Its name; `None` makes one up.
    pub name: Option<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its standard input.
    pub stdin: Vec<u8>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Its configuration.
    pub config: BTreeMap<String, String>,
    /// What it may do.
    pub grants: Grants,
    /// How much it may use.
    pub limits: Limits,
    /// When it is started again.
    pub restart: RestartPolicy,
}

/// How a run ended and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub cause: ExitCause,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
    /// Its calls of `wasi:logging`.
    pub log: Vec<(LogLevel, String, String)>,
}

impl Case {
    /// The example guest of that name on that executor, with nothing granted.
    pub fn of(executor: ExecutorKind, name: &str) -> Self {
        Self::with(executor, std::fs::read(guest(name)).expect("the guest was just built"))
    }

    /// These bytes on that executor, with nothing granted.
    pub fn with(executor: ExecutorKind, bytes: impl Into<Bytes>) -> Self {
        Self {
            artifact: Artifact::new(bytes.into()),
            executor,
            name: None,
            args: Vec::new(),
            stdin: Vec::new(),
            env: BTreeMap::new(),
            config: BTreeMap::new(),
            grants: Grants::default(),
            limits: Limits::default(),
            restart: RestartPolicy::default(),
        }
    }

    /// The same with these arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// The same with these grants.
    #[must_use]
    pub fn grants(mut self, grants: &[&str]) -> Self {
        self.grants =
            grants.iter().map(|grant| grant.parse().expect("the test writes legal grants")).collect();
        self
    }

    /// The same with that name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// The same with those limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

impl Node {
    /// A new node with in-memory storage. Compiled code is kept in no folder, unless `WASMATRIX_TEST_CACHE_DIR` names
    /// one: where compiling takes many times as long as anything else, each guest is compiled once.
    pub async fn new() -> Self {
        let node = "test".parse().expect("a legal name");
        let cache_dir = std::env::var_os("WASMATRIX_TEST_CACHE_DIR").map(Into::into);
        Self::with(Config { cache_dir, ..Config::new(node) }).await
    }

    /// A node built as `config` says.
    pub async fn with(config: Config) -> Self {
        let agent = config.build().await.expect("the node can be built");
        Self { agent, named: AtomicU64::new(0) }
    }

    /// The spec of a case, and its artifact.
    pub fn spec(&self, case: &Case) -> InstanceSpec {
        let made_up = || format!("t{}", self.named.fetch_add(1, Relaxed));
        let name = case.name.clone().unwrap_or_else(made_up).parse().expect("a legal name");
        InstanceSpec {
            executor: case.executor,
            args: case.args.clone(),
            env: case.env.clone(),
            config: case.config.clone(),
            grants: case.grants.clone(),
            limits: case.limits.clone(),
            restart: case.restart.clone(),
            ..InstanceSpec::new(name, case.artifact.digest)
        }
    }

    /// Starts an instance, with its output in its log.
    ///
    /// # Errors
    /// It could not be started.
    pub async fn start(&self, case: &Case) -> Result<InstanceStatus, Failure> {
        self.agent.start(self.spec(case), Some(case.artifact.clone())).await
    }

    /// Runs an instance to its end, forgets it, and gives all that came out of it.
    ///
    /// # Errors
    /// It could not be started.
    pub async fn run(&self, case: Case) -> Result<Outcome, Failure> {
        let console = Arc::new(Tape { stdin: Mutex::new(case.stdin.clone().into()), ..Tape::default() });
        let spec = self.spec(&case);
        let name = spec.name.to_string();
        self.agent.start_attached(spec, Some(case.artifact), console.clone()).await?;
        let status = self.agent.wait(&name).await?;
        self.agent.remove(&name).await?;
        let Exit { cause, .. } = status.last_exit.expect("it has ended");
        let text = |output: usize| {
            String::from_utf8_lossy(&console.outputs[output].lock().expect("nothing panics while it writes"))
                .into_owned()
        };
        let log = console.log.lock().expect("nothing panics while it writes").clone();
        Ok(Outcome { cause, stdout: text(0), stderr: text(1), log })
    }

    /// Every fact so far.
    pub async fn facts(&self) -> Vec<Fact> {
        let facts = self.agent.facts("", false).expect("all facts can be read");
        facts.map(|watched| Fact::clone(&watched.expect("none was lost").fact)).collect().await
    }

    /// Waits until a fact for which `wanted` holds has happened, now or before.
    pub async fn until(&self, mut wanted: impl FnMut(&Fact) -> bool) -> Fact {
        let mut facts = Box::pin(self.agent.facts("", true).expect("all facts can be read"));
        loop {
            let watched = facts.next().await.expect("the record does not end").expect("none was lost");
            if wanted(&watched.fact) {
                return Fact::clone(&watched.fact);
            }
        }
    }
}

/// A console that keeps all it is given.
#[derive(Debug, Default)]
struct Tape {
    stdin: Mutex<Bytes>,
    outputs: [Mutex<Vec<u8>>; 2],
    log: Mutex<Vec<(LogLevel, String, String)>>,
}

#[async_trait]
impl Console for Tape {
    async fn write(&self, output: Output, bytes: Bytes) -> Result<(), Closed> {
        let tape = match output {
            Output::Stdout => &self.outputs[0],
            Output::Stderr => &self.outputs[1],
        };
        tape.lock().expect("nothing panics while it writes").extend_from_slice(&bytes);
        Ok(())
    }

    async fn read(&self, bytes_max: usize) -> Bytes {
        let mut stdin = self.stdin.lock().expect("nothing panics while it writes");
        let count = stdin.len().min(bytes_max);
        stdin.split_to(count)
    }

    fn log(&self, level: LogLevel, context: &str, message: &str) {
        self.log.lock().expect("nothing panics while it writes").push((
            level,
            context.to_owned(),
            message.to_owned(),
        ));
    }
}
