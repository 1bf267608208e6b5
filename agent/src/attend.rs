//! Keeps the control plane knowing that this node is there, for as long as the agent lives.
//!
//! It has a thread, a runtime and a connection of its own, and asks the agent nothing that waits: no start, upload or
//! compilation delays a beat, so a node that works hard is not taken for one that is gone.
//!
//! ```text
//!             ┌── the stream ended, nobody answered: within 2 s ──┐
//!             ▼                                                   │
//!  begin ─► Seeking ── registration, welcome ──► Attending ───────┤ beat, beat, beat …
//!             ▲                                                   │ registration, when it changed
//!             │                                                   │
//!             └───────── after 5 to 30 s ◄──── Refused ◄──────────┘
//! ```
//!
//! Nothing ends it but [`Attendance::end`] or dropping it.

mod backoff;
mod session;

use std::{io, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use wasmatrix_model::{Failure, ProtocolVersion, Timestamp};

use crate::Agent;
use backoff::Backoff;
use session::{End, Session};

/// Makes a channel to the control plane; called within the thread's own runtime, once for each attempt, so that what
/// serves the connection runs there too. It must not block. An error is why there is none, and what to do.
pub type Connect = Arc<dyn Fn() -> Result<Channel, String> + Send + Sync>;

/// How it stands with the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is not heard, and is tried again within seconds.
    Seeking {
        /// What went wrong the last time. `None`: nothing has yet.
        reason: Option<String>,
    },
    /// It knows that this node is there.
    Attending {
        /// Since when.
        since: Timestamp,
        /// Which version of Wasmatrix it runs.
        version: String,
        /// Which protocol it speaks; `None`: it did not say.
        protocol: Option<ProtocolVersion>,
    },
    /// It does not want this node. It is asked again all the same, less often.
    Refused {
        /// Why, and what to do.
        failure: Failure,
    },
    /// This node attends no more.
    Ended,
}

/// How patient it is. The default is what users get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// The longest wait after nobody answered.
    pub(crate) backoff_max: Duration,
    /// The first wait after a refusal, and the longest.
    pub(crate) refused: (Duration, Duration),
    /// How long a welcome may take.
    pub(crate) welcome_max: Duration,
    /// The least time without an answer after which a connection is given up.
    pub(crate) silence_min: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            backoff_max: Duration::from_secs(2),
            refused: (Duration::from_secs(5), Duration::from_secs(30)),
            welcome_max: Duration::from_secs(10),
            silence_min: Duration::from_secs(3),
        }
    }
}

/// The attendance of one agent. Dropping it ends it.
#[derive(Debug)]
pub struct Attendance {
    standing: watch::Receiver<Standing>,
    ending: CancellationToken,
}

impl Attendance {
    /// Begins to attend. Goes on by itself, whether the control plane is there or not.
    ///
    /// # Errors
    /// The machine has no thread left for it.
    pub fn begin(agent: Agent, connect: Connect) -> io::Result<Self> {
        Self::patiently(agent, connect, Patience::default())
    }

    pub(crate) fn patiently(agent: Agent, connect: Connect, patience: Patience) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (tell, standing) = watch::channel(Standing::Seeking { reason: None });
        let ending = CancellationToken::new();
        let attendant = Attendant { agent, connect, patience, tell, ending: ending.clone() };
        std::thread::Builder::new()
            .name("attendance".to_owned())
            .spawn(move || runtime.block_on(attendant.attend()))?;
        Ok(Self { standing, ending })
    }

    /// How it stands, and word of every change.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Ends the stream, from which the control plane learns that the node has left, and waits for that.
    pub async fn end(mut self) {
        self.ending.cancel();
        // A thread that is gone has ended too.
        let _ = self.standing.wait_for(|standing| *standing == Standing::Ended).await;
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.ending.cancel();
    }
}

/// What the thread does.
struct Attendant {
    agent: Agent,
    connect: Connect,
    patience: Patience,
    tell: watch::Sender<Standing>,
    ending: CancellationToken,
}

impl Attendant {
    async fn attend(self) {
        let mut unheard = Backoff::new(self.patience.backoff_max / 16, self.patience.backoff_max);
        let mut unwanted = Backoff::new(self.patience.refused.0, self.patience.refused.1);
        loop {
            let mut session = Session::new(&self.agent, &self.patience);
            let end = tokio::select! {
                end = session.hold(&self.connect, |standing| self.tell(standing)) => end,
                () = self.ending.cancelled() => break,
            };
            if session.was_heard() {
                unheard.reset();
                unwanted.reset();
            }
            let wait = match end {
                End::Broken(reason) => {
                    self.tell(Standing::Seeking { reason: Some(reason) });
                    unheard.next(rand::random())
                }
                End::Refused(failure) => {
                    self.tell(Standing::Refused { failure: *failure });
                    unwanted.next(rand::random())
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.ending.cancelled() => break,
            }
        }
        self.tell(Standing::Ended);
    }

    /// Says how it stands, and logs it, if that is news.
    fn tell(&self, standing: Standing) {
        let news = self.tell.send_if_modified(|told| {
            let news = !told.is_like(&standing);
            *told = standing.clone();
            news
        });
        if news {
            standing.log();
        }
    }
}

impl Standing {
    /// Whether it says the same, but for when.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Refused { failure }, Self::Refused { failure: other }) => {
                (failure.code, &failure.message) == (other.code, &other.message)
            }
            _ => self == other,
        }
    }

    fn log(&self) {
        match self {
            Self::Seeking { reason: None } | Self::Ended => {}
            Self::Seeking { reason: Some(reason) } => {
                tracing::warn!(
                    reason,
                    "the control plane does not hear this node; it is tried again until it does"
                );
            }
            Self::Attending { version, .. } => tracing::info!(version, "the control plane knows this node"),
            Self::Refused { failure } => tracing::error!(
                code = failure.code.as_str(),
                reason = failure.message,
                "the control plane refuses this node; it is asked again now and then, so mend it there or here"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
