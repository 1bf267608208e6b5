//! The stream on which a simulated node tells the control plane that it is there.

use std::{sync::Arc, time::Duration};

use rand::{RngExt as _, rngs::StdRng};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, transport::Channel};
use wasmatrix_wire::{
    protocol::stamp,
    v1::{self, attend_request, attend_response, nodes_client::NodesClient},
};

use crate::{Link, Net, machine::Machine};

/// Longest wait before a stream that ended is opened anew.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How long the control plane may take to welcome the node.
const WELCOME: Duration = Duration::from_secs(5);
/// Beats that wait for their answers; no more are sent meanwhile.
const UNANSWERED_MAX: u64 = 3;
/// How long no answer may come, at least, before the stream is opened anew.
const SILENCE: Duration = Duration::from_secs(5);

/// Where a node attends, and from where.
#[derive(Clone, Debug)]
pub(crate) struct Attendance {
    pub(crate) net: Net,
    pub(crate) link: Option<Link>,
    pub(crate) control_plane: String,
    pub(crate) address: String,
    /// The connection to the control plane that the node shares with others. `None`: it makes its own.
    pub(crate) shared: Option<Channel>,
}

impl Attendance {
    /// Attends for as long as it is polled.
    pub(crate) async fn attend(self, machine: Arc<Machine>, mut rng: StdRng) {
        loop {
            // A connection that hangs would hang again, so each try has one of its own.
            let own = || self.net.channel(&self.control_plane, self.link.as_ref());
            let channel = self.shared.clone().unwrap_or_else(own);
            if let Err(status) = self.once(&machine, channel).await {
                tracing::debug!(node = %machine.traits().id, %status, "attendance ended");
            }
            sleep(rng.random_range(Duration::ZERO..BACKOFF_MAX)).await;
        }
    }

    async fn once(&self, machine: &Machine, channel: Channel) -> Result<(), Status> {
        let (says, said) = mpsc::channel(4);
        let mut described = machine.described();
        let send = |part| {
            says.try_send(v1::AttendRequest { part: Some(part) })
                .map_err(|_| Status::unavailable("the control plane does not take what is sent"))
        };
        let registration =
            || attend_request::Part::Registration(Box::new(machine.registration(&self.address).into()));
        described.borrow_and_update();
        send(registration())?;
        let mut request = Request::new(ReceiverStream::new(said));
        stamp(request.metadata_mut());
        let late = |_| Status::deadline_exceeded("the control plane does not answer");
        let mut client = NodesClient::new(channel);
        let mut answers = timeout(WELCOME, client.attend(request)).await.map_err(late)??.into_inner();
        let welcome = timeout(WELCOME, answers.message()).await.map_err(late)??;
        let every = heartbeat_interval(welcome)?;
        let mut beats = interval_at(Instant::now(), every);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut seq, mut heard, mut heard_at) = (0, 0, Instant::now());
        loop {
            tokio::select! {
                _ = beats.tick() => {
                    if heard_at.elapsed() > SILENCE.max(every * 3) {
                        return Err(Status::unavailable("beats are not answered"));
                    }
                    if seq - heard < UNANSWERED_MAX {
                        seq += 1;
                        send(attend_request::Part::Beat(v1::Beat { seq, load: Some(machine.load().into()) }))?;
                    }
                }
                _ = described.changed() => send(registration())?,
                answer = answers.message() => match answer?.and_then(|answer| answer.part) {
                    Some(attend_response::Part::BeatHeard(beat)) => {
                        (heard, heard_at) = (beat.seq, Instant::now());
                        machine.beat_heard();
                    }
                    Some(attend_response::Part::Welcome(_)) => {}
                    None => return Ok(()),
                },
            }
        }
    }
}

fn heartbeat_interval(welcome: Option<v1::AttendResponse>) -> Result<Duration, Status> {
    let Some(attend_response::Part::Welcome(welcome)) = welcome.and_then(|welcome| welcome.part) else {
        return Err(Status::failed_precondition("the first answer was no welcome"));
    };
    let every = welcome.heartbeat_interval.and_then(|every| Duration::try_from(every).ok());
    every
        .filter(|every| !every.is_zero())
        .ok_or_else(|| Status::failed_precondition("the welcome names no heartbeat interval"))
}
