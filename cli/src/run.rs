//! `run`: a program in the foreground, on a node of its own that lives as long as the program does.
//!
//! The guest gets our standard streams byte for byte ([`console`]) and nothing else that it was not granted; its exit
//! code becomes ours. Ends that are no exit of its own have codes that shells and other tools know ([`RunExit`]).
//!
//! ```text
//!  start ──► wait ──────────────────────────────► how it ended ──► exit code
//!    │         └─ Ctrl-C: stop, within GRACE ──────────┘
//!    └─ Ctrl-C ───────────┴─ Ctrl-C again ──► 130 at once
//! ```

mod console;
mod signals;

use std::{ffi::OsString, fmt::Write as _, io::Write as _, path::PathBuf, sync::Arc, time::Duration};

use futures::StreamExt as _;
use wasmatrix_agent::{Agent, Config, KvBackend};
use wasmatrix_executor_api::Artifact;
use wasmatrix_model::{ErrorCode, ExitCause, FactKind, InstanceSpec, InstanceStatus, LimitKind, NodeId};

use crate::{
    args::{CacheArgs, Global, KvPlace, Run},
    artifact, dirs,
    error::{CliError, FileProblem, chain},
    output::{human::harmless, stream::backtrace},
    value,
};

pub(crate) use signals::{Signal, Signals};

/// How long a call to the host in flight may take after Ctrl-C.
const GRACE: Duration = Duration::from_millis(500);
/// How long the node may take to close its stores after the guest has ended.
const CLOSE_MAX: Duration = Duration::from_secs(5);
/// Most denied permissions that are told.
const DENIALS_SHOWN_MAX: usize = 8;
/// Where a preview-1 module ends up that has written over the adapter, which lives in the module's own memory.
const ADAPTER_ASSERTION: &str = "wasi_snapshot_preview1::macros::assert_fail";
/// Whose fault that mostly is, and the way out.
const ADAPTER_HINT: &str = "a language that takes all memory to be its own, as Go and AssemblyScript do, writes over \
                            what WASI preview 1 is made of here: build the program for WASI 0.2, Go with TinyGo";

/// What `run` ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunExit {
    /// The guest's own exit code.
    Guest(u8),
    /// It ran out of wall time; the code of timeout(1).
    WallTime,
    /// Wasmatrix failed.
    Fault,
    /// The artifact can't be run; the code of shells for what can't be executed.
    Artifact,
    /// No such file; the code of shells for what can't be found.
    NoFile,
    /// A signal asked for the end.
    Interrupted(Signal),
    /// It trapped; the code of an abort, and of `wasmtime run`.
    Trapped,
    /// It reached a limit; the code of a process that was killed for its memory.
    Limit,
}

impl RunExit {
    /// The exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Guest(code) => code,
            Self::WallTime => 124,
            Self::Fault => 125,
            Self::Artifact => 126,
            Self::NoFile => 127,
            Self::Interrupted(Signal::Interrupt) => 130,
            Self::Trapped => 134,
            Self::Limit => 137,
            Self::Interrupted(Signal::Terminate) => 143,
        }
    }
}

/// The exit code of `run` for what failed before the guest could end by itself.
pub(crate) const fn code_of(error: &CliError) -> u8 {
    match error {
        CliError::Invalid(_) | CliError::Usage { .. } | CliError::Manifest(_) => {
            crate::error::Exit::Usage as u8
        }
        CliError::File { kind: FileProblem::Missing, .. } => RunExit::NoFile.code(),
        CliError::File { kind: FileProblem::Unusable | FileProblem::Artifact, .. } => {
            RunExit::Artifact.code()
        }
        CliError::Refused(failure) => match failure.code {
            ErrorCode::InvalidRequest => crate::error::Exit::Usage as u8,
            ErrorCode::WasmRuntimeError => RunExit::Artifact.code(),
            ErrorCode::ResourceExhausted => RunExit::Limit.code(),
            ErrorCode::Timeout => RunExit::WallTime.code(),
            ErrorCode::InstanceNotFound
            | ErrorCode::PermissionDenied
            | ErrorCode::CapabilityNotFound
            | ErrorCode::ProviderUnavailable
            | ErrorCode::NodeUnavailable
            | ErrorCode::CrashDetected
            | ErrorCode::RestartPolicyViolation
            | ErrorCode::Internal => RunExit::Fault.code(),
        },
        CliError::Unreachable { .. }
        | CliError::Broken { .. }
        | CliError::Deadline { .. }
        | CliError::Answer { .. }
        | CliError::Absent { .. }
        | CliError::Certificate { .. }
        | CliError::Host { .. }
        | CliError::Output(_)
        | CliError::Several { .. } => RunExit::Fault.code(),
    }
}

/// Runs a program and gives the exit code.
///
/// # Errors
/// It could not be started.
pub(crate) async fn run(args: Run, global: &Global) -> Result<u8, CliError> {
    let (file, guest_args) = program(&args.program)?;
    let artifact = artifact::read(&file)?;
    let spec = args.definition.spec(value::name_from_file(&file), artifact.digest, guest_args)?;
    let mut signals = Signals::listen()?;
    let agent = node(&args).await?;
    let exit = supervise(&agent, spec, artifact, &mut signals, global.quiet).await;
    // Nothing of the guest's depends on it; a second signal need not wait for it.
    let closing = tokio::time::timeout(CLOSE_MAX, agent.shutdown(Duration::ZERO));
    tokio::select! {
        _ = closing => {}
        _ = signals.next() => {}
    }
    exit.map(RunExit::code)
}

/// The file and the arguments behind it.
fn program(words: &[OsString]) -> Result<(PathBuf, Vec<String>), CliError> {
    let Some((file, args)) = words.split_first() else {
        return Err(CliError::usage("name the file to run"));
    };
    let text = |arg: &OsString| {
        let text = arg.to_str().map(ToOwned::to_owned);
        text.ok_or_else(|| {
            CliError::usage(format!("{arg:?} is not text in UTF-8, and a guest is given no other"))
        })
    };
    Ok((file.into(), args.iter().map(text).collect::<Result<_, _>>()?))
}

async fn node(args: &Run) -> Result<Agent, CliError> {
    let id: NodeId = "run".parse().expect("it is a legal name");
    let mut config = Config::new(id);
    config.kv = kv_backend(&args.kv);
    config.cache_dir = cache_dir(&args.cache);
    config.instances_max = 1;
    config.build().await.map_err(|error| CliError::Host { message: chain(&error) })
}

/// Where the node keeps key-value data.
pub(crate) fn kv_backend(place: &KvPlace) -> KvBackend {
    match place {
        KvPlace::Memory => KvBackend::Memory,
        KvPlace::File(path) => KvBackend::File(path.clone()),
    }
}

/// Where the node keeps compiled programs, if it does.
pub(crate) fn cache_dir(args: &CacheArgs) -> Option<PathBuf> {
    if args.no_cache { None } else { args.cache_dir.clone().or_else(dirs::cache) }
}

async fn supervise(
    agent: &Agent,
    spec: InstanceSpec,
    artifact: Artifact,
    signals: &mut Signals,
    quiet: bool,
) -> Result<RunExit, CliError> {
    let name = spec.name.to_string();
    let (console, flush) = console::stdio();
    let start = agent.start_attached(spec, Some(artifact), Arc::new(console));
    tokio::select! {
        started = start => { started?; }
        signal = signals.next() => return Ok(RunExit::Interrupted(signal)),
    }
    let mut asked = None;
    let ended = tokio::select! {
        ended = agent.wait(&name) => ended,
        signal = signals.next() => {
            asked = Some(signal);
            tokio::select! {
                ended = agent.stop(&name, GRACE) => ended,
                again = signals.next() => return Ok(RunExit::Interrupted(again)),
            }
        }
    };
    let status = ended?;
    flush.wait().await;
    let exit = exit_of(&status, asked);
    tell(agent, &status, exit, quiet).await;
    Ok(exit)
}

fn exit_of(status: &InstanceStatus, asked: Option<Signal>) -> RunExit {
    match status.last_exit.as_ref().map(|exit| &exit.cause) {
        Some(ExitCause::Exited { code }) => RunExit::Guest(*code),
        Some(ExitCause::Trapped { .. }) => RunExit::Trapped,
        Some(ExitCause::LimitExceeded { limit: LimitKind::WallTime, .. }) => RunExit::WallTime,
        Some(ExitCause::LimitExceeded { .. }) => RunExit::Limit,
        Some(ExitCause::StartFailed { .. }) => RunExit::Artifact,
        Some(ExitCause::StopRequested) => RunExit::Interrupted(asked.unwrap_or(Signal::Terminate)),
        Some(ExitCause::HostFault { .. }) | None => RunExit::Fault,
    }
}

/// Says why it ended, where that is not the guest's own doing, and what it was denied, where it failed.
async fn tell(agent: &Agent, status: &InstanceStatus, exit: RunExit, quiet: bool) {
    let mut text = status.last_exit.as_ref().map_or_else(String::new, |exit| told(&exit.cause));
    if exit != RunExit::Guest(0) && status.usage.calls_denied > 0 && !quiet {
        text.push_str(&denials(agent).await);
    }
    let _ = std::io::stderr().write_all(text.as_bytes()); // with standard error gone there is nobody to tell
}

/// An end in the form of an error with its hint; empty for an end of the guest's own.
fn told(cause: &ExitCause) -> String {
    let (error, hint) = match cause {
        ExitCause::Exited { .. } | ExitCause::StopRequested => return String::new(),
        ExitCause::Trapped { trap, backtrace } => {
            let overwritten = backtrace.iter().any(|frame| frame.function == ADAPTER_ASSERTION);
            let hint = if overwritten {
                Some(ADAPTER_HINT)
            } else {
                trap.contains("unreachable").then_some(
                    "most languages end a failed program by `unreachable`; what it said of it stands above, if it said anything",
                )
            };
            (format!("the guest trapped: {trap}"), hint)
        }
        ExitCause::LimitExceeded { limit, message } => {
            let hint = match limit {
                LimitKind::Memory => "give it more with --memory",
                LimitKind::Table => "give it more with --table-elements",
                LimitKind::Handles => "give it more with --handles",
                LimitKind::WallTime => "give it more with --wall-time",
            };
            (format!("the guest reached its {limit} limit: {message}"), Some(hint))
        }
        ExitCause::StartFailed { message, .. } => {
            (format!("the guest could not be started: {message}"), None)
        }
        ExitCause::HostFault { message } => {
            (format!("a fault of the host ended the guest: {message}"), Some("the guest is not to blame"))
        }
    };
    let mut text = format!("error: {}\n", harmless(&error));
    let frames = backtrace(cause);
    if !frames.is_empty() {
        let _ = write!(text, "backtrace, innermost first:\n{}", harmless(&frames)); // a String takes all
    }
    if let Some(hint) = hint {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

/// What the guest was denied, each permission once.
async fn denials(agent: &Agent) -> String {
    let Ok(facts) = agent.facts("", false) else { return String::new() };
    let denied = facts.filter_map(async |watched| match &watched.ok()?.fact.kind {
        FactKind::CapabilityDenied { operation, permission, .. } => {
            Some((operation.clone(), permission.clone()))
        }
        _ => None,
    });
    let mut denied: Vec<_> = denied.collect().await;
    denied.sort();
    denied.dedup();
    let over = denied.len().saturating_sub(DENIALS_SHOWN_MAX);
    let mut text = String::new();
    for (operation, permission) in denied.iter().take(DENIALS_SHOWN_MAX) {
        let _ = writeln!(text, "note: {operation} was denied: it needs --grant {}", harmless(permission));
    }
    if over > 0 {
        let _ = writeln!(text, "note: and {over} more were denied");
    }
    text
}

#[cfg(test)]
mod tests {
    use wasmatrix_model::Frame;

    use super::*;

    #[test]
    fn a_trap_is_told_with_its_backtrace_and_nothing_to_obey() {
        let cause = ExitCause::Trapped {
            trap: "wasm trap: wasm `unreachable` instruction executed".to_owned(),
            backtrace: vec![Frame {
                module: Some("evil\x1b[2J".to_owned()),
                function: "main".to_owned(),
                offset: Some(16),
            }],
        };
        let text = told(&cause);
        assert!(text.starts_with("error: the guest trapped: wasm trap: wasm `unreachable`"), "{text}");
        assert!(text.contains("     0:     0x10 - evil\\u{1b}[2J!main\n"), "{text}");
        assert!(text.contains("\nhint: "), "{text}");
    }

    #[test]
    fn a_module_that_wrote_over_the_adapter_is_told_so() {
        let frame = |function: &str| Frame { module: None, function: function.to_owned(), offset: None };
        let cause = ExitCause::Trapped {
            trap: "wasm trap: wasm `unreachable` instruction executed".to_owned(),
            backtrace: vec![frame(ADAPTER_ASSERTION), frame("args_sizes_get")],
        };
        let text = told(&cause);
        assert!(text.contains("hint: a language that takes all memory"), "{text}");
        assert_eq!(text.matches("hint: ").count(), 1, "{text}");
    }

    #[test]
    fn every_limit_names_its_flag() {
        for limit in LimitKind::ALL {
            let text = told(&ExitCause::LimitExceeded { limit, message: "64 MiB".to_owned() });
            let flag = match limit {
                LimitKind::Table => "--table-elements".to_owned(),
                limit => format!("--{limit}"),
            };
            assert!(text.contains(&flag), "{text}");
        }
    }

    #[test]
    fn what_the_guest_did_itself_is_not_commented_on() {
        assert_eq!(told(&ExitCause::Exited { code: 3 }), "");
        assert_eq!(told(&ExitCause::StopRequested), "");
    }
}
