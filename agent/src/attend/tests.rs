//! A control plane that does what a script says, and an agent that attends it.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Mutex, PoisonError, mpsc as std_mpsc},
};

use futures::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Endpoint, Server, Uri},
};
use wasmatrix_model::{Capability, Clock as _, ErrorCode, ProviderPhase, Registration, SystemClock};
use wasmatrix_wire::{
    PROTOCOL,
    failure::to_status,
    protocol,
    v1::{self, attend_request, attend_response, nodes_server},
};

use super::*;
use crate::Config;

/// How often the scripted control plane wants to hear a node.
const BEAT: Duration = Duration::from_millis(10);
/// Longer than anything here takes, on the slowest machine.
const LONG: Duration = Duration::from_secs(60);

/// What becomes of one stream.
#[derive(Clone)]
enum Scene {
    /// It is welcomed, and its beats are answered, for so many beats.
    Beats(u64),
    /// It is welcomed, and hears no more.
    Silence,
    /// It is refused.
    Refusal(ErrorCode, &'static str),
}

/// What the control plane saw.
#[derive(Debug, PartialEq)]
enum Seen {
    Registered(Box<Registration>),
    Beat(u64, v1::Load),
}

struct Theatre(Arc<Stage>);

struct Stage {
    scenes: Mutex<VecDeque<Scene>>,
    seen: std_mpsc::SyncSender<Seen>,
}

type Answers = Pin<Box<dyn Stream<Item = Result<v1::AttendResponse, Status>> + Send>>;

fn welcome() -> v1::AttendResponse {
    let welcome = v1::Welcome {
        heartbeat_interval: Some(prost_types::Duration { seconds: 0, nanos: 10_000_000 }),
        protocol: Some(PROTOCOL.into()),
        version: "9.9.9".to_owned(),
    };
    assert_eq!(BEAT.as_nanos(), 10_000_000);
    v1::AttendResponse { part: Some(attend_response::Part::Welcome(welcome)) }
}

#[tonic::async_trait]
impl nodes_server::Nodes for Theatre {
    type AttendStream = Answers;

    async fn attend(
        &self,
        request: Request<Streaming<v1::AttendRequest>>,
    ) -> Result<Response<Answers>, Status> {
        protocol::check(request.metadata(), SystemClock.now()).map_err(|failure| to_status(&failure))?;
        assert!(request.metadata().contains_key(protocol::HEADER), "it says which version it speaks");
        let mut scenes = self.0.scenes.lock().unwrap_or_else(PoisonError::into_inner);
        // The last scene goes on for ever.
        let scene = if scenes.len() > 1 { scenes.pop_front() } else { scenes.front().cloned() };
        let beats = match scene.unwrap() {
            Scene::Refusal(code, why) => {
                return Err(to_status(&Failure::new(code, why, SystemClock.now())));
            }
            Scene::Silence => 0,
            Scene::Beats(beats) => beats,
        };
        let stage = Arc::clone(&self.0);
        let state = Some((request.into_inner(), 0));
        let answers = stream::unfold(state, move |state| {
            let stage = Arc::clone(&stage);
            async move {
                let (mut requests, heard) = state?;
                loop {
                    let answer = match requests.message().await.ok()??.part? {
                        attend_request::Part::Registration(registration) => {
                            let registration = Registration::try_from(*registration).unwrap();
                            let _ = stage.seen.try_send(Seen::Registered(Box::new(registration)));
                            welcome()
                        }
                        attend_request::Part::Beat(beat) => {
                            let _ = stage.seen.try_send(Seen::Beat(beat.seq, beat.load.unwrap()));
                            if beats == 0 {
                                continue;
                            }
                            if heard == beats {
                                return None;
                            }
                            let heard = v1::BeatHeard { seq: beat.seq };
                            v1::AttendResponse { part: Some(attend_response::Part::BeatHeard(heard)) }
                        }
                    };
                    let heard =
                        heard + u64::from(matches!(answer.part, Some(attend_response::Part::BeatHeard(_))));
                    return Some((Ok(answer), Some((requests, heard))));
                }
            }
        });
        Ok(Response::new(answers.boxed()))
    }
}

/// A control plane on a thread of its own, which plays these scenes one after the other.
fn control_plane(scenes: impl IntoIterator<Item = Scene>) -> (Connect, std_mpsc::Receiver<Seen>) {
    let (seen, sights) = std_mpsc::sync_channel(10_000);
    let stage = Arc::new(Stage { scenes: Mutex::new(scenes.into_iter().collect()), seen });
    let (connections, accepted) = mpsc::channel::<tokio::io::DuplexStream>(16);
    let incoming = tokio_stream::wrappers::ReceiverStream::new(accepted);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let served = Server::builder()
            .add_service(nodes_server::NodesServer::new(Theatre(stage)))
            .serve_with_incoming(incoming.map(Ok::<_, std::convert::Infallible>));
        runtime.block_on(served).unwrap();
    });
    let connect = move || {
        let connections = connections.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let connections = connections.clone();
            async move {
                let (ours, theirs) = tokio::io::duplex(1 << 16);
                connections.send(theirs).await.map_err(|_| io::Error::other("it has ended"))?;
                Ok::<_, io::Error>(hyper_util::rt::TokioIo::new(ours))
            }
        });
        Ok(Endpoint::from_static("http://test.invalid").connect_with_connector_lazy(connector))
    };
    (Arc::new(connect), sights)
}

fn hasty() -> Patience {
    let short = Duration::from_millis(20);
    Patience { backoff_max: short, refused: (short, short), silence_min: LONG, ..Patience::default() }
}

async fn agent() -> Agent {
    Config::new("here".parse().unwrap()).build().await.unwrap()
}

fn registered(sights: &std_mpsc::Receiver<Seen>) -> Registration {
    loop {
        if let Seen::Registered(registration) = sights.recv_timeout(LONG).expect("it registers") {
            return *registration;
        }
    }
}

fn beaten(sights: &std_mpsc::Receiver<Seen>) -> u64 {
    loop {
        if let Seen::Beat(seq, _) = sights.recv_timeout(LONG).expect("it beats") {
            return seq;
        }
    }
}

#[test]
fn beats_keep_coming_while_every_thread_of_the_agent_is_busy() {
    let busy = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let agent = busy.block_on(agent());
    let (connect, sights) = control_plane([Scene::Beats(u64::MAX)]);
    let attendance = Attendance::begin(agent, connect).unwrap();
    beaten(&sights);
    // Two workers and two blocking threads, each of which waits for a word that is not said before the end.
    let (release, threads): (Vec<_>, Vec<_>) = (0..4)
        .map(|index| {
            let (release, wait) = std_mpsc::sync_channel::<()>(0);
            let (begun, beginning) = std_mpsc::sync_channel::<()>(1);
            let work = move || {
                let _ = begun.send(());
                let _ = wait.recv();
            };
            let thread =
                if index < 2 { busy.spawn(async move { work() }) } else { busy.spawn_blocking(work) };
            beginning.recv_timeout(LONG).expect("the thread is ours");
            (release, thread)
        })
        .unzip();
    let starved = busy.spawn(async {});
    while sights.try_recv().is_ok() {}
    let (first, mut last) = (beaten(&sights), 0);
    while last < first + 20 {
        last = beaten(&sights);
    }
    assert!(!starved.is_finished(), "nothing else got a turn meanwhile");
    drop(release);
    busy.block_on(async {
        for thread in threads {
            thread.await.unwrap();
        }
        starved.await.unwrap();
        attendance.end().await;
    });
}

#[tokio::test]
async fn what_changes_is_registered_again_and_what_is_over_is_begun_again() {
    let agent = agent().await;
    let (connect, sights) = control_plane([Scene::Beats(3), Scene::Beats(u64::MAX)]);
    let attendance = Attendance::patiently(agent.clone(), connect, hasty()).unwrap();
    let sights = tokio::task::spawn_blocking(move || {
        let registration = registered(&sights);
        assert_eq!(registration.id.as_str(), "here");
        assert_eq!(registration.protocol, PROTOCOL);
        assert!(registration.capacity.memory_bytes_total > 0);
        assert_eq!([0; 4].map(|_| beaten(&sights)), [1, 2, 3, 4]);
        assert_eq!(registered(&sights), registration, "it comes back as the same run");
        assert_eq!(beaten(&sights), 1);
        sights
    })
    .await
    .unwrap();
    let mut standing = attendance.standing();
    let attends = standing.wait_for(|standing| matches!(standing, Standing::Attending { .. })).await.unwrap();
    let Standing::Attending { version, protocol, .. } = attends.clone() else { panic!("it was just so") };
    assert_eq!((version.as_str(), protocol), ("9.9.9", Some(PROTOCOL)));
    drop(attends);

    agent.stop_provider(Capability::Kv, Duration::ZERO).await.unwrap();
    tokio::task::spawn_blocking(move || {
        while registered(&sights).providers[0].phase != ProviderPhase::Stopped {}
        beaten(&sights);
    })
    .await
    .unwrap();
    attendance.end().await;
    assert_eq!(*standing.borrow(), Standing::Ended);
}

#[tokio::test]
async fn a_refusal_is_told_in_its_own_words_and_asked_again() {
    let (connect, sights) = control_plane([
        Scene::Refusal(
            ErrorCode::PermissionDenied,
            "the certificate says node b, which may not speak for node here",
        ),
        Scene::Refusal(ErrorCode::InvalidRequest, "protocol 2.0 is spoken there"),
        Scene::Beats(u64::MAX),
    ]);
    let attendance = Attendance::patiently(agent().await, connect, hasty()).unwrap();
    let mut standing = attendance.standing();
    let refused =
        standing.wait_for(|standing| matches!(standing, Standing::Refused { .. })).await.unwrap().clone();
    let Standing::Refused { failure } = refused else { panic!("it was just so") };
    // Whoever looks late sees the second refusal.
    assert!(["speak for node here", "2.0"].iter().any(|word| failure.message.contains(word)), "{failure}");
    standing.wait_for(|standing| matches!(standing, Standing::Attending { .. })).await.unwrap();
    tokio::task::spawn_blocking(move || beaten(&sights)).await.unwrap();
    attendance.end().await;
}

#[tokio::test]
async fn a_control_plane_that_hears_but_does_not_answer_is_tried_anew() {
    let (connect, sights) = control_plane([Scene::Silence, Scene::Beats(u64::MAX)]);
    let patience = Patience { silence_min: BEAT, ..hasty() };
    let attendance = Attendance::patiently(agent().await, connect, patience).unwrap();
    tokio::task::spawn_blocking(move || {
        registered(&sights);
        registered(&sights);
        beaten(&sights);
    })
    .await
    .unwrap();
    attendance.end().await;
}

#[tokio::test]
async fn a_control_plane_that_is_not_there_is_sought_until_it_is() {
    let (connect, sights) = control_plane([Scene::Beats(u64::MAX)]);
    // A port that nobody listens at: it was taken and given back.
    let deserted = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let deserted = Endpoint::from_shared(format!("http://{deserted}")).unwrap();
    let attempts = Mutex::new(0_u32);
    let connect: Connect = Arc::new(move || {
        let mut attempts = attempts.lock().unwrap();
        *attempts += 1;
        match *attempts {
            1 => Err("there is no certificate yet".to_owned()),
            2..5 => Ok(deserted.connect_lazy()),
            _ => connect(),
        }
    });
    let attendance = Attendance::patiently(agent().await, connect, hasty()).unwrap();
    let mut standing = attendance.standing();
    standing.wait_for(|standing| matches!(standing, Standing::Seeking { reason: Some(_) })).await.unwrap();
    tokio::task::spawn_blocking(move || beaten(&sights)).await.unwrap();
    drop(attendance);
    standing.wait_for(|standing| *standing == Standing::Ended).await.expect("dropping it ends it");
}
