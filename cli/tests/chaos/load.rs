//! The users: each starts, stops and removes instances of his own, grants and revokes, and writes down what was
//! acknowledged. They speak gRPC over TLS, as the CLI does, and more often than a person could type.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rand::{RngExt as _, rngs::StdRng};
use tonic::transport::Channel;
use uuid::Uuid;
use wasmatrix_control_plane::dial::patient;
use wasmatrix_identity::{Expected, LiveCredentials, endpoint};
use wasmatrix_model::{Digest, ErrorCode, ExecutorKind, Failure, Grant, SystemClock};
use wasmatrix_sim::{User, user::is_uncertain};
use wasmatrix_wire::{MESSAGE_BYTES_MAX, StartRequest, protocol::control_plane};

use crate::{
    World,
    cluster::Cluster,
    ledger::{Acknowledged, Held, Kind, PRIVILEGES, Word, grant, now, spec},
};

/// How many there are.
pub(crate) const USERS: u64 = 4;
/// Services that one of them keeps at one time.
const SERVICES_MAX: usize = 4;
/// Longest wait for an answer; of a start, for each time that it is asked for.
const ANSWER_MAX: Duration = Duration::from_secs(8);
const START_MAX: Duration = Duration::from_secs(12);
/// How often a start is asked for, while it is not known what came of it.
const TRIES_MAX: u32 = 12;
/// Between two times.
const PAUSE: Duration = Duration::from_millis(700);

/// What users start.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) bytes: Bytes,
    pub(crate) digest: Digest,
    pub(crate) executors: Vec<ExecutorKind>,
}

/// A channel to whoever listens there and proves to be expected there, with the credentials in that folder.
pub(crate) fn channel(certs: &str, url: &str, expected: Expected) -> Channel {
    let credentials =
        LiveCredentials::open(certs, Arc::new(SystemClock)).expect("the control plane made them");
    let endpoint = patient(endpoint(url).expect("a legal address"));
    credentials.dialer(expected).channel(&endpoint)
}

/// Somebody who asks the control plane.
pub(crate) fn user(cluster: &Cluster) -> User {
    let channel = channel(&cluster.word("control/certs/admin"), &Cluster::url(), Expected::ControlPlane);
    let client = control_plane(channel)
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    User::new(client, Arc::new(SystemClock))
}

/// One user, until told to end.
pub(crate) async fn work(world: Arc<World>, number: u64) {
    let mut worker = Worker {
        user: user(&world.cluster),
        rng: world.seed.of(("user", number)).rng(),
        world,
        number,
        started: 0,
        lines: Vec::new(),
    };
    while !worker.world.over.is_cancelled() {
        let pause = worker.rng.random_range(50..500);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        worker.act().await;
    }
}

struct Worker {
    world: Arc<World>,
    user: User,
    rng: StdRng,
    number: u64,
    started: u32,
    /// Its own lines in the ledger.
    lines: Vec<usize>,
}

/// What came of a request.
enum Answer<T> {
    Done(T),
    /// It was certainly not done.
    Refused(Failure),
    /// Nobody knows.
    Silence,
}

impl Worker {
    async fn act(&mut self) {
        let services = self.those(|life| life.kind == Kind::Service && life.is_wanted());
        let ended = self.those(|life| life.stop != Word::Never && !matches!(life.remove, Word::Done(_)));
        let starts_service = services.len() < SERVICES_MAX && self.rng.random_range(0..3) == 0;
        match self.rng.random_range(0..10) {
            _ if starts_service => self.start(Kind::Service).await,
            0..2 => {
                let kind = [Kind::Job, Kind::Crasher, Kind::Restless][self.rng.random_range(0..3)];
                self.start(kind).await;
            }
            2..4 => {
                let wanted = self.those(|life| life.is_wanted());
                if let Some(line) = self.one_of(&wanted) {
                    self.stop(line).await;
                }
            }
            4 => {
                if let Some(line) = self.one_of(&ended) {
                    self.remove(line).await;
                }
            }
            _ => {
                if let Some(line) = self.one_of(&services) {
                    self.change_grants(line).await;
                }
            }
        }
    }

    /// Its lines of which that is true, and whose start was acknowledged, but not those that were said not to be there.
    fn those(&self, is: impl Fn(&crate::ledger::Life) -> bool) -> Vec<usize> {
        let lives = self.world.ledger.lives();
        let lines = self.lines.iter().copied();
        let is_there = |life: &crate::ledger::Life| !life.acknowledged.is_empty() && !life.seen_gone;
        lines.filter(|line| is_there(&lives[*line]) && is(&lives[*line])).collect()
    }

    fn one_of(&mut self, lines: &[usize]) -> Option<usize> {
        (!lines.is_empty()).then(|| lines[self.rng.random_range(0..lines.len())])
    }

    fn name(&self, line: usize) -> String {
        self.world.ledger.lives()[line].name().to_owned()
    }

    /// Waits for an answer. After a silence the next request takes another connection, as the next call of the CLI would.
    async fn asked<T>(
        &mut self,
        limit: Duration,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Answer<T> {
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(done)) => Answer::Done(done),
            Ok(Err(failure)) if !is_uncertain(failure.code) => Answer::Refused(failure),
            Ok(Err(_)) | Err(_) => {
                self.user = user(&self.world.cluster);
                Answer::Silence
            }
        }
    }

    async fn start(&mut self, kind: Kind) {
        let name = format!("u{}-{}-{}", self.number, self.started, format!("{kind:?}").to_lowercase());
        self.started += 1;
        let program = self.world.program.clone();
        let executor = program.executors[self.rng.random_range(0..program.executors.len())];
        let holds = std::array::from_fn(|_| self.rng.random());
        let spec = spec(kind, &name, program.digest, executor, self.rng.random(), holds);
        let line = self.world.ledger.open(kind, spec.clone());
        self.lines.push(line);
        let request =
            StartRequest { spec, idempotency_key: Some(Uuid::now_v7().to_string()), assignment: None };
        // Now and then somebody asks again who was told already.
        let asks_twice = self.rng.random_range(0..10) == 0;
        let mut tries = 0;
        while tries < TRIES_MAX {
            tries += 1;
            let mut asked = self.user.clone();
            let call = asked.start(request.clone(), program.bytes.clone());
            match self.asked(START_MAX, call).await {
                Answer::Done(status) => {
                    let Some(started) = self.acknowledged(line, status) else { return };
                    self.world.ledger.count(started);
                    if !asks_twice || tries == TRIES_MAX {
                        return;
                    }
                    tries = TRIES_MAX - 1;
                }
                Answer::Refused(failure) => {
                    self.world.ledger.count("starts refused");
                    self.refused("start", line, &failure);
                    return;
                }
                Answer::Silence => tokio::time::sleep(PAUSE).await,
            }
        }
        self.world.ledger.count("starts of which nobody said what came of them");
    }

    /// Notes an acknowledgement. `None`: it is of something else than was asked for.
    fn acknowledged(&self, line: usize, status: wasmatrix_model::InstanceStatus) -> Option<&'static str> {
        let asked = self.world.ledger.lives()[line].spec.clone();
        if status.spec != asked {
            self.world.findings.add(format!("{} was started as another: {status:?}", asked.name));
            return None;
        }
        let mut again = false;
        self.world.ledger.note(line, |life| {
            again = life.acknowledged.iter().any(|known| known.id == status.id);
            if !again {
                let (id, node, created_at) = (status.id, status.node, status.created_at);
                life.acknowledged.push(Acknowledged { id, node, created_at });
            }
        });
        Some(if again { "starts acknowledged again, of the same instance" } else { "starts acknowledged" })
    }

    async fn stop(&mut self, line: usize) {
        let name = self.name(line);
        self.world.ledger.note(line, |life| life.stop = Word::Perhaps);
        let mut asked = self.user.clone();
        match self.asked(ANSWER_MAX, asked.stop(&name)).await {
            Answer::Done(status) => {
                if status.phase.is_live() || status.next_restart_at.is_some() {
                    self.world.findings.add(format!("{name} was said to be stopped, as {status:?}"));
                }
                self.world.ledger.count("stops acknowledged");
                self.world.ledger.note(line, |life| {
                    life.stop = Word::Done(now());
                    life.stopped.push((status.id, status.node));
                });
            }
            Answer::Refused(failure) => self.refused("stop", line, &failure),
            Answer::Silence => self.world.ledger.count("stops of which nobody said what came of them"),
        }
    }

    async fn remove(&mut self, line: usize) {
        let name = self.name(line);
        self.world.ledger.note(line, |life| life.remove = Word::Perhaps);
        let mut asked = self.user.clone();
        match self.asked(ANSWER_MAX, asked.remove(&name)).await {
            Answer::Done(()) => {
                self.world.ledger.count("removals acknowledged");
                self.world.ledger.note(line, |life| life.remove = Word::Done(now()));
            }
            Answer::Refused(failure) => self.refused("remove", line, &failure),
            Answer::Silence => self.world.ledger.count("removals of which nobody said what came of them"),
        }
    }

    /// Grants what it does not hold, or takes away what it does.
    async fn change_grants(&mut self, line: usize) {
        let name = self.name(line);
        let grant = grant(PRIVILEGES[self.rng.random_range(0..PRIVILEGES.len())].0);
        let held = self.world.ledger.lives()[line].grants.get(&grant).copied();
        let assign = matches!(held, Some(Held::Certain(false, _)) | Some(Held::Either) | None);
        self.note_grant(line, &grant, Held::Either);
        let mut asked = self.user.clone();
        let answer = if assign {
            self.asked(ANSWER_MAX, asked.assign(&name, &grant)).await
        } else {
            self.asked(ANSWER_MAX, asked.revoke(&name, &grant)).await
        };
        match answer {
            Answer::Done(grants) => {
                if grants.contains(&grant.to_string()) != assign {
                    let done = if assign { "granted" } else { "taken away" };
                    self.world.findings.add(format!("{grant} was {done}, and {name} now holds {grants:?}"));
                }
                self.world.ledger.count(if assign { "grants acknowledged" } else { "revokes acknowledged" });
                // What nobody answered may still come to be, later.
                if held != Some(Held::Either) {
                    self.note_grant(line, &grant, Held::Certain(assign, now()));
                }
            }
            Answer::Refused(failure) => {
                self.refused("change of grants", line, &failure);
                if let Some(held) = held {
                    self.note_grant(line, &grant, held);
                }
            }
            Answer::Silence => {
                self.world.ledger.count("changes of grants of which nobody said what came of them")
            }
        }
    }

    fn note_grant(&self, line: usize, grant: &Grant, held: Held) {
        self.world.ledger.note(line, |life| {
            life.grants.insert(grant.clone(), held);
        });
    }

    /// A refusal is an answer, if it is of a kind that this load can bring about.
    fn refused(&self, what: &str, line: usize, failure: &Failure) {
        let is_gone = failure.code == ErrorCode::InstanceNotFound;
        self.world.ledger.note(line, |life| life.seen_gone |= is_gone);
        self.world.ledger.count(match failure.code {
            // Its agent died, or it was removed before.
            ErrorCode::InstanceNotFound => "refused: not there",
            // It will be restarted, or still runs somewhere else.
            ErrorCode::RestartPolicyViolation => "refused: not ended",
            // Its name is held while its successor is being started, or by a copy that nobody can ask.
            ErrorCode::InvalidRequest => "refused: its name is taken",
            ErrorCode::CapabilityNotFound => "refused: does not hold that",
            _ => {
                let name = self.name(line);
                self.world.findings.add(format!("{what} of {name} was refused: {failure:?}"));
                "refused"
            }
        });
    }
}
