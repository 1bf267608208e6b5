//! One stream to the control plane, from its registration to its end.

use std::{error::Error as _, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use wasmatrix_identity::DialError;
use wasmatrix_model::{ErrorCode, Failure, Registration};
use wasmatrix_wire::{
    MESSAGE_BYTES_MAX,
    failure::from_status,
    protocol::{self, check_version, stamped},
    v1::{self, attend_request, attend_response, nodes_client::NodesClient},
};

use super::{Connect, Patience, Standing};
use crate::Agent;

/// Messages that wait for the connection. A beat that finds no room is left out: the next one says the same.
const OUTBOX_MESSAGES_MAX: usize = 4;
/// What a control plane may ask for as an interval between beats.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
const INTERVAL_MAX: Duration = Duration::from_secs(60);
/// Beats without an answer after which a connection is given up, if that took long enough.
const UNANSWERED_MAX: u64 = 3;

/// Why a session ended.
#[derive(Debug)]
pub(super) enum End {
    /// Nobody was there, or is there any more.
    Broken(String),
    /// The control plane does not want this node.
    Refused(Box<Failure>),
}

pub(super) struct Session<'a> {
    agent: &'a Agent,
    patience: &'a Patience,
    sent: u64,
    heard: u64,
}

/// Both ends of a stream that was opened.
struct Open {
    outbox: mpsc::Sender<v1::AttendRequest>,
    inbox: Streaming<v1::AttendResponse>,
    beat: Interval,
}

impl<'a> Session<'a> {
    pub(super) fn new(agent: &'a Agent, patience: &'a Patience) -> Self {
        Self { agent, patience, sent: 0, heard: 0 }
    }

    /// Whether a beat was answered.
    pub(super) fn was_heard(&self) -> bool {
        self.heard > 0
    }

    /// Attends until something ends it.
    pub(super) async fn hold(&mut self, connect: &Connect, tell: impl Fn(Standing)) -> End {
        let mut changes = self.agent.registration_changes();
        // Before it is read, so that no change falls between.
        changes.borrow_and_update();
        let mut said = self.agent.registration();
        let (mut open, welcome) = match self.open(connect, &said).await {
            Ok(opened) => opened,
            Err(end) => return end,
        };
        tell(self.standing(welcome));
        let mut answered_at = Instant::now();
        loop {
            tokio::select! {
                _ = open.beat.tick() => {
                    if self.sent - self.heard >= UNANSWERED_MAX
                        && answered_at.elapsed() >= self.patience.silence_min
                    {
                        let reason = "it no longer answers, though the connection is there";
                        return End::Broken(reason.to_owned());
                    }
                    self.beat(&open.outbox);
                }
                // Its other end lives as long as the agent.
                _ = changes.changed() => {
                    let now = self.agent.registration();
                    if now != said {
                        said = now;
                        if open.outbox.send(registration(&said)).await.is_err() {
                            return End::Broken("the stream was ended".to_owned());
                        }
                    }
                }
                answer = open.inbox.message() => match self.hear(answer, &mut open) {
                    Ok(()) => answered_at = Instant::now(),
                    Err(end) => return end,
                }
            }
        }
    }

    async fn open(&self, connect: &Connect, said: &Registration) -> Result<(Open, v1::Welcome), End> {
        let channel = connect().map_err(End::Broken)?;
        let (outbox, waiting) = mpsc::channel(OUTBOX_MESSAGES_MAX);
        // There is room: nothing was sent yet.
        let _ = outbox.try_send(registration(said));
        let mut client =
            NodesClient::with_interceptor(channel, stamped).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let opening = async {
            let mut inbox = client.attend(ReceiverStream::new(waiting)).await?.into_inner();
            let first = inbox.message().await?;
            Ok((inbox, first))
        };
        let opened = tokio::time::timeout(self.patience.welcome_max, opening).await;
        let (inbox, first) = opened
            .map_err(|_| {
                End::Broken(format!("it did not welcome this node within {:?}", self.patience.welcome_max))
            })?
            .map_err(|status| self.ended(&status))?;
        let Some(attend_response::Part::Welcome(welcome)) = first.and_then(|first| first.part) else {
            return Err(End::Broken(
                "it answered a registration with something else than a welcome".to_owned(),
            ));
        };
        if let Some(theirs) = welcome.protocol {
            check_version(theirs.into(), self.agent.now()).map_err(End::Refused)?;
        }
        let beat = interval(&welcome);
        Ok((Open { outbox, inbox, beat }, welcome))
    }

    fn beat(&mut self, outbox: &mpsc::Sender<v1::AttendRequest>) {
        let beat = v1::Beat { seq: self.sent + 1, load: Some(self.agent.load().into()) };
        let beat = v1::AttendRequest { part: Some(attend_request::Part::Beat(beat)) };
        if outbox.try_send(beat).is_ok() {
            self.sent += 1;
        }
    }

    fn hear(
        &mut self,
        answer: Result<Option<v1::AttendResponse>, Status>,
        open: &mut Open,
    ) -> Result<(), End> {
        let Some(answer) = answer.map_err(|status| self.ended(&status))? else {
            return Err(End::Broken("it ended the stream".to_owned()));
        };
        match answer.part {
            Some(attend_response::Part::BeatHeard(heard)) => {
                self.heard = self.heard.max(heard.seq.min(self.sent));
            }
            Some(attend_response::Part::Welcome(welcome)) => {
                let beat = interval(&welcome);
                if beat.period() != open.beat.period() {
                    open.beat = beat;
                }
            }
            None => {}
        }
        Ok(())
    }

    fn standing(&self, welcome: v1::Welcome) -> Standing {
        Standing::Attending {
            since: self.agent.now(),
            version: welcome.version,
            protocol: welcome.protocol.map(Into::into),
        }
    }

    /// What the end of a call means.
    fn ended(&self, status: &Status) -> End {
        let failure = from_status(status, self.agent.now());
        if let Some(error) = our_own_fault(status) {
            let failure = Failure::new(ErrorCode::PermissionDenied, error.to_string(), self.agent.now());
            return End::Refused(Box::new(failure));
        }
        match failure.code {
            ErrorCode::NodeUnavailable | ErrorCode::Timeout | ErrorCode::Internal
                if status.code() != tonic::Code::Unimplemented =>
            {
                End::Broken(in_words(status))
            }
            ErrorCode::NodeUnavailable => End::Refused(Box::new(Failure {
                message: format!(
                    "what answers there knows nothing of nodes that attend: it is no control plane, or one that speaks \
                     a protocol before {}: upgrade it, or mend the address",
                    protocol::PROTOCOL
                ),
                ..failure
            })),
            _ => End::Refused(Box::new(failure)),
        }
    }
}

/// What is wrong with our own credentials or with the address: trying again soon does not mend it.
fn our_own_fault(status: &Status) -> Option<&DialError> {
    let mut cause = status.source();
    while let Some(error) = cause {
        match error.downcast_ref() {
            Some(
                DialError::Unreachable { .. }
                | DialError::Unproven { .. }
                | DialError::Refused { .. }
                | DialError::TimedOut { .. },
            ) => return None,
            Some(fault) => return Some(fault),
            None => cause = error.source(),
        }
    }
    None
}

/// The message of a status and of all that caused it, each once: a transport's own words say little.
fn in_words(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = if text.is_empty() { said } else { format!("{text}: {said}") };
        }
        cause = error.source();
    }
    if text.is_empty() { status.code().description().to_owned() } else { text }
}

fn registration(said: &Registration) -> v1::AttendRequest {
    v1::AttendRequest { part: Some(attend_request::Part::Registration(Box::new(said.clone().into()))) }
}

/// Beats at the interval that a welcome names, the first at once.
fn interval(welcome: &v1::Welcome) -> Interval {
    let wanted = welcome.heartbeat_interval.and_then(|interval| Duration::try_from(interval).ok());
    let wanted = wanted.unwrap_or(Duration::from_secs(2)).clamp(INTERVAL_MIN, INTERVAL_MAX);
    let mut beat = tokio::time::interval(wanted);
    // A process that was held up for a while catches up with one beat.
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}
