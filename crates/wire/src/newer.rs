//! What a server says to a client that may be older than it: what means nothing here is left out and named, and the rest
//! is read. A listing is not refused for one entry that a newer minor version made.
//!
//! A server takes nothing of that kind from its clients: what they ask for is read whole or refused.
//!
//! | what means nothing here | what is read |
//! |---|---|
//! | the phase of an instance, its last exit, a grant, a word of its spec | the phase `unknown`, with the reason |
//! | the phase of a node | `suspect`, with the reason |
//! | an executor or a provider of a node | the others, and the reason |
//! | a fact's kind, or a word in it | a fact of the kind that this version has no word for |
//! | the stream or the level of a log line | `log`, and no level |

use wasmatrix_model::{
    Exit, Fact, Grant, InstanceStatus, LogRecord, NodeStatus, ProviderStatus, Subject, Unknown,
    failure::Invalid,
};

use crate::{field, v1};

/// A message that a client is told, and what it means to it.
pub trait Told<M>: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// It is damaged, and not only newer.
    fn read(self) -> Result<M, Invalid>;
}

impl Told<InstanceStatus> for v1::InstanceStatus {
    fn read(mut self) -> Result<InstanceStatus, Invalid> {
        let mut unread = Unread::default();
        unread.phase(&mut self.phase);
        if let Some(unknown) = &mut self.unknown {
            unread.phase(&mut unknown.last_phase);
        }
        if self.last_exit.clone().is_some_and(|exit| unread.is_newer("last_exit", &Exit::try_from(exit))) {
            self.last_exit = None;
        }
        unread.grants(&mut self.grants);
        if let Some(spec) = &mut self.spec {
            unread.spec(spec);
        }
        unread.tell(&mut self);
        self.try_into()
    }
}

impl Told<NodeStatus> for v1::NodeStatus {
    fn read(mut self) -> Result<NodeStatus, Invalid> {
        let mut unread = Unread::default();
        if unread.number::<v1::NodePhase>("phase", &mut self.phase, v1::NodePhase::Suspect.into()) {
            self.reason.clear();
        }
        self.executors.retain(|executor| {
            !unread.is_newer("executor", &wasmatrix_model::ExecutorStatus::try_from(executor.clone()))
        });
        self.providers
            .retain(|provider| !unread.is_newer("provider", &ProviderStatus::try_from(provider.clone())));
        if let Some(reason) = unread.reason() {
            let before = std::mem::take(&mut self.reason);
            self.reason = if before.is_empty() { reason } else { format!("{before}; {reason}") };
        }
        self.try_into()
    }
}

impl Told<LogRecord> for v1::LogRecord {
    fn read(mut self) -> Result<LogRecord, Invalid> {
        let mut unread = Unread::default();
        unread.number::<v1::LogStream>("stream", &mut self.stream, v1::LogStream::Log.into());
        unread.number::<v1::LogLevel>("level", &mut self.level, v1::LogLevel::Unspecified.into());
        self.try_into()
    }
}

impl Told<ProviderStatus> for v1::ProviderStatus {
    fn read(self) -> Result<ProviderStatus, Invalid> {
        self.try_into()
    }
}

impl Told<Subject> for v1::Subject {
    fn read(self) -> Result<Subject, Invalid> {
        self.try_into()
    }
}

/// A fact is read so wherever it is read: it is only handed on.
impl Told<Fact> for v1::Fact {
    fn read(self) -> Result<Fact, Invalid> {
        self.try_into()
    }
}

/// How every reason ends that is ours.
const UPGRADE: &str = "upgrade this one";

/// Whether that is why an instance is called unknown: it was not read whole, and nothing need be wrong with it.
pub fn is_why(unknown: &Unknown) -> bool {
    unknown.reason.ends_with(UPGRADE)
}

/// What of a message means nothing here, in words.
#[derive(Debug, Default)]
struct Unread(Vec<String>);

impl Unread {
    /// Puts `instead` in the place of a number that means nothing. Whether it did.
    fn number<E: TryFrom<i32>>(&mut self, name: &str, number: &mut i32, instead: i32) -> bool {
        let newer = E::try_from(*number).is_err();
        if newer {
            self.0.push(format!("{name} {number}"));
            *number = instead;
        }
        newer
    }

    fn phase(&mut self, phase: &mut i32) {
        self.number::<v1::Phase>("phase", phase, v1::Phase::Unknown.into());
    }

    /// Whether it was refused for no other reason than that it means nothing here.
    fn is_newer<T>(&mut self, name: &str, read: &Result<T, Invalid>) -> bool {
        let newer = read.as_ref().is_err_and(field::is_newer);
        if newer {
            self.0.push(name.to_owned());
        }
        newer
    }

    fn grants(&mut self, grants: &mut Vec<String>) {
        grants.retain(|grant| {
            let known = grant.parse::<Grant>().is_ok();
            if !known {
                self.0.push(format!("grant {}", grant.chars().take(80).collect::<String>()));
            }
            known
        });
    }

    fn spec(&mut self, spec: &mut v1::InstanceSpec) {
        self.number::<v1::ExecutorKind>("executor", &mut spec.executor, 0);
        if let Some(restart) = &mut spec.restart {
            self.number::<v1::RestartMode>("restart mode", &mut restart.mode, 0);
        }
        if let Some(placement) = &mut spec.placement {
            self.number::<v1::OnNodeLoss>("on-node-loss", &mut placement.on_node_loss, 0);
        }
        self.grants(&mut spec.grants);
    }

    /// `None`: all of it was read.
    fn reason(mut self) -> Option<String> {
        self.0.dedup();
        let unread = self.0.join(", ");
        (!unread.is_empty()).then(|| {
            format!(
                "a newer version of Wasmatrix says of it what this one has no word for ({unread}): {UPGRADE}"
            )
        })
    }

    /// Says in an instance's status that it was not read whole.
    fn tell(self, status: &mut v1::InstanceStatus) {
        let Some(reason) = self.reason() else { return };
        let was = std::mem::replace(&mut status.phase, v1::Phase::Unknown.into());
        let mut unknown = status.unknown.take().unwrap_or_else(|| v1::Unknown {
            // When it came about is not said; it is not older than the instance.
            since: status.created_at,
            last_phase: was,
            reason: String::new(),
        });
        unknown.reason = match unknown.reason.as_str() {
            "" => reason,
            before => format!("{before}; {reason}"),
        };
        status.unknown = Some(unknown);
    }
}
