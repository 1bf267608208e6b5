//! What happened on this node, in order: written once, never changed, kept in a bounded ring.
//!
//! The control plane's record has the facts of others in it too, as they came: each keeps the number, the time and the
//! node that it was recorded with, and a token says how far a reader has come in this record.

use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, stream};
use wasmatrix_model::{
    Clock, ErrorCode, Exit, ExitCause, Fact, FactKind, Failure, Frame, NodeId, RunId, Timestamp,
};

use crate::ring::Ring;

/// Bytes of facts kept, however few they are: a crash of a hostile guest has a backtrace of long names.
const KEPT_BYTES_MAX: usize = 32 << 20;
/// Most facts read from the ring at a time.
const BATCH: usize = 256;

/// The facts of one run of the agent, or of the control plane.
#[derive(Debug)]
pub struct Facts {
    node: NodeId,
    clock: Arc<dyn Clock>,
    ring: Ring<Arc<Fact>>,
    /// The number and the time of the last fact that was recorded here. Locked within the ring's lock only.
    last: Mutex<(u64, Timestamp)>,
    /// Tells this run of the agent from every other, so that a token of another run is not mistaken for one of ours.
    run: RunId,
}

/// A fact, and the token with which to go on after it.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The fact.
    pub fact: Arc<Fact>,
    /// Goes on after this fact, on this node, as long as this run of the agent lasts.
    pub resume_token: String,
}

impl Facts {
    /// An empty record that keeps at most `kept` facts.
    pub fn new(node: NodeId, clock: Arc<dyn Clock>, kept: usize) -> Self {
        Self {
            node,
            clock,
            ring: Ring::new(kept, KEPT_BYTES_MAX),
            last: Mutex::new((0, Timestamp::MIN)),
            run: RunId::generate(),
        }
    }

    /// Which run of the agent this is the record of.
    pub const fn run(&self) -> RunId {
        self.run
    }

    /// Records that `kind` happened now.
    pub fn record(&self, kind: FactKind) {
        let instance = kind.subject().map(|subject| subject.name.as_str());
        tracing::info!(instance, detail = kind.detail(), "{}", kind.name());
        let now = self.clock.now();
        self.ring.push(bytes(&kind), |_, _| {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            // The clock of the machine may be set back; the order of the facts may not.
            *last = (last.0 + 1, last.1.max(now));
            let (seq, at) = *last;
            Arc::new(Fact { seq, at, node: self.node.clone(), kind })
        });
    }

    /// Takes a fact that was recorded elsewhere into this record, as it is.
    pub fn adopt(&self, fact: Fact) {
        self.ring.push(bytes(&fact.kind), |_, _| Arc::new(fact));
    }

    /// The facts after the one with `token` (empty: all that are kept), and with `follow` those to come.
    ///
    /// # Errors
    /// The token is none, is of another run of the agent, or what follows it is no longer kept.
    pub fn watch(
        self: &Arc<Self>,
        token: &str,
        follow: bool,
    ) -> Result<impl Stream<Item = Result<Watched, Failure>> + use<>, Failure> {
        let after = self.read_token(token)?;
        if !token.is_empty() {
            self.ring.after(after, 0).map_err(|oldest| self.gone(after, oldest))?;
        }
        Ok(read(Arc::clone(self), after, follow))
    }

    fn read_token(&self, token: &str) -> Result<u64, Failure> {
        if token.is_empty() {
            return Ok(self.ring.before_oldest());
        }
        let refuse = |problem: &str| {
            let message = format!("resume token `{token}`: {problem}; watch again without it");
            Failure::new(ErrorCode::InvalidRequest, message, self.clock.now()).with("field", "resume_token")
        };
        let (run, seq) = token.split_once('.').ok_or_else(|| refuse("is not of the form RUN.NUMBER"))?;
        let seq: u64 = seq.parse().map_err(|_| refuse("does not end in a number"))?;
        if run.parse() != Ok(self.run) {
            return Err(refuse("is of another run of the agent"));
        }
        if seq > self.ring.newest() {
            return Err(refuse("is of a fact that has not happened"));
        }
        Ok(seq)
    }

    fn gone(&self, after: u64, oldest: u64) -> Failure {
        let message =
            format!("facts {} to {} are no longer kept; watch again without a token", after + 1, oldest - 1);
        Failure::new(ErrorCode::ResourceExhausted, message, self.clock.now())
            .with("oldest", oldest.to_string())
    }
}

/// About what a fact takes in memory; what guests, clients and nodes make long is counted whole.
fn bytes(kind: &FactKind) -> usize {
    let said = match kind {
        FactKind::InstanceCrashed { exit, .. } | FactKind::InstanceStopped { exit, .. } => {
            bytes_of_exit(exit)
        }
        FactKind::CapabilityDenied { operation, permission, .. } => operation.len() + permission.len(),
        FactKind::GrantAssigned { grant, .. } | FactKind::GrantRevoked { grant, .. } => {
            grant.to_string().len()
        }
        FactKind::NodeStarted { version } | FactKind::ControlPlaneStarted { version } => version.len(),
        FactKind::NodeRegistered { address, version, .. } => address.len() + version.len(),
        FactKind::NodeCordoned { by, .. } | FactKind::NodeForgotten { by, .. } => by.len(),
        FactKind::NodePhaseChanged { reason, .. }
        | FactKind::InstanceLost { reason, .. }
        | FactKind::SuccessionFailed { reason, .. } => reason.len(),
        FactKind::AccessRefused { peer, method, reason } => peer.len() + method.len() + reason.len(),
        FactKind::NodeStopping
        | FactKind::InstanceCreated { .. }
        | FactKind::InstanceStarted { .. }
        | FactKind::InstanceStopping { .. }
        | FactKind::InstanceRestarted { .. }
        | FactKind::RestartsExhausted { .. }
        | FactKind::InstanceRemoved { .. }
        | FactKind::ProviderStarted { .. }
        | FactKind::ProviderStopped { .. }
        | FactKind::InstanceFenced { .. }
        | FactKind::InstanceUnknown { .. }
        | FactKind::InstanceSucceeded { .. }
        | FactKind::Unrecognized => 0,
    };
    let name = kind.subject().map_or(0, |subject| subject.name.as_str().len());
    size_of::<Fact>() + name + said
}

fn bytes_of_exit(exit: &Exit) -> usize {
    match &exit.cause {
        ExitCause::Trapped { trap, backtrace } => {
            let frame = |frame: &Frame| {
                size_of::<Frame>() + frame.function.len() + frame.module.as_ref().map_or(0, String::len)
            };
            trap.len() + backtrace.iter().map(frame).sum::<usize>()
        }
        ExitCause::LimitExceeded { message, .. }
        | ExitCause::StartFailed { message, .. }
        | ExitCause::HostFault { message } => message.len(),
        ExitCause::Exited { .. } | ExitCause::StopRequested => 0,
    }
}

fn read(facts: Arc<Facts>, after: u64, follow: bool) -> impl Stream<Item = Result<Watched, Failure>> {
    struct Reader {
        newest: tokio::sync::watch::Receiver<u64>,
        batch: std::vec::IntoIter<Arc<Fact>>,
        /// The place in the ring of the last fact that was handed out.
        told: u64,
        ended: bool,
    }
    let reader =
        Reader { newest: facts.ring.subscribe(), batch: Vec::new().into_iter(), told: after, ended: false };
    stream::unfold((facts, reader), move |(facts, mut reader)| async move {
        loop {
            if let Some(fact) = reader.batch.next() {
                reader.told += 1;
                let resume_token = format!("{}.{}", facts.run, reader.told);
                return Some((Ok(Watched { fact, resume_token }), (facts, reader)));
            }
            if reader.ended {
                return None;
            }
            reader.newest.borrow_and_update();
            match facts.ring.after(reader.told, BATCH) {
                Ok((batch, _)) if batch.is_empty() && !follow => return None,
                // The sender lives in `facts`, which this stream holds.
                Ok((batch, _)) if batch.is_empty() => reader.newest.changed().await.ok()?,
                Ok((batch, _)) => reader.batch = batch.into_iter(),
                Err(oldest) => {
                    reader.ended = true;
                    let failure = facts.gone(reader.told, oldest);
                    return Some((Err(failure), (facts, reader)));
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use wasmatrix_model::{SystemClock, Timestamp};

    use super::*;

    fn facts(kept: usize) -> Arc<Facts> {
        Arc::new(Facts::new("n".parse().unwrap(), Arc::new(SystemClock), kept))
    }

    async fn all(facts: &Arc<Facts>, token: &str) -> Vec<Watched> {
        facts.watch(token, false).unwrap().map(Result::unwrap).collect().await
    }

    #[tokio::test]
    async fn a_token_goes_on_where_it_was_given() {
        let facts = facts(10);
        for _ in 0..3 {
            facts.record(FactKind::NodeStopping);
        }
        let seen = all(&facts, "").await;
        assert_eq!(seen.iter().map(|watched| watched.fact.seq).collect::<Vec<_>>(), [1, 2, 3]);
        let rest = all(&facts, &seen[0].resume_token).await;
        assert_eq!(rest.iter().map(|watched| watched.fact.seq).collect::<Vec<_>>(), [2, 3]);
    }

    #[tokio::test]
    async fn tokens_of_others_and_of_the_forgotten_are_refused() {
        let facts = facts(2);
        facts.record(FactKind::NodeStopping);
        let first = all(&facts, "").await.remove(0).resume_token;
        for _ in 0..4 {
            facts.record(FactKind::NodeStopping);
        }
        assert_eq!(facts.watch(&first, true).err().unwrap().code, ErrorCode::ResourceExhausted);
        for bad in ["x", "x.1", &format!("{}.99", first.split('.').next().unwrap())] {
            assert_eq!(facts.watch(bad, true).err().unwrap().code, ErrorCode::InvalidRequest, "{bad}");
        }
    }

    #[tokio::test]
    async fn facts_of_others_stay_as_they_were_and_have_their_place_in_the_record() {
        let (ours, theirs) =
            (facts(10), Arc::new(Facts::new("m".parse().unwrap(), Arc::new(SystemClock), 10)));
        theirs.record(FactKind::NodeStopping);
        theirs.record(FactKind::NodeStopping);
        ours.record(FactKind::NodeStopping);
        for watched in all(&theirs, "").await {
            ours.adopt(Fact::clone(&watched.fact));
        }
        ours.record(FactKind::NodeStopping);
        let seen = all(&ours, "").await;
        let told: Vec<_> =
            seen.iter().map(|watched| (watched.fact.node.as_str(), watched.fact.seq)).collect();
        assert_eq!(told, [("n", 1), ("m", 1), ("m", 2), ("n", 2)]);
        let rest = all(&ours, &seen[2].resume_token).await;
        assert_eq!(rest.iter().map(|watched| watched.fact.seq).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn crashes_with_long_backtraces_are_bounded_by_their_bytes() {
        let facts = facts(10_000);
        let instance = wasmatrix_model::Subject {
            id: wasmatrix_model::InstanceId::generate(),
            name: "crasher".parse().unwrap(),
        };
        let frame = Frame { module: Some("m".repeat(512)), function: "f".repeat(512), offset: None };
        let cause = ExitCause::Trapped { trap: "unreachable".to_owned(), backtrace: vec![frame; 64] };
        let crash = FactKind::InstanceCrashed {
            instance,
            exit: Exit { at: SystemClock.now(), cause },
            restart_count: 0,
            next_restart_at: None,
        };
        for _ in 0..1000 {
            facts.record(crash.clone());
        }
        let kept = facts.ring.newest() - facts.ring.before_oldest();
        assert!((400..=512).contains(&kept), "{kept} facts of 64 KiB and more are kept");
    }

    #[test]
    fn a_node_that_tells_facts_of_many_words_is_bounded_by_their_bytes() {
        let facts = facts(10_000);
        let node: NodeId = "m".parse().unwrap();
        let long = "x".repeat(1 << 20);
        let kinds = [
            FactKind::NodeStarted { version: long.clone() },
            FactKind::NodeRegistered { node: node.clone(), address: long.clone(), version: String::new() },
            FactKind::NodeForgotten { node: node.clone(), by: long.clone() },
            FactKind::AccessRefused { peer: String::new(), method: long.clone(), reason: String::new() },
        ];
        for kind in kinds {
            for seq in 0..100 {
                facts.adopt(Fact { seq, at: SystemClock.now(), node: node.clone(), kind: kind.clone() });
            }
            let kept = facts.ring.newest() - facts.ring.before_oldest();
            assert!((20..=32).contains(&kept), "{kept} facts of 1 MiB are kept");
        }
    }

    #[derive(Debug)]
    struct Backwards(std::sync::atomic::AtomicI64);

    impl Clock for Backwards {
        fn now(&self) -> Timestamp {
            let second = self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            Timestamp::from_second(second).unwrap()
        }
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_does_not_disorder_facts() {
        let facts = Arc::new(Facts::new("n".parse().unwrap(), Arc::new(Backwards(1_000.into())), 10));
        for _ in 0..3 {
            facts.record(FactKind::NodeStopping);
        }
        let seen = all(&facts, "").await;
        assert!(seen.windows(2).all(|pair| pair[0].fact.at <= pair[1].fact.at));
    }

    #[tokio::test]
    async fn a_follower_sees_what_comes() {
        let facts = facts(10);
        let mut stream = Box::pin(facts.watch("", true).unwrap());
        let recorder = Arc::clone(&facts);
        let (first, ()) = tokio::join!(stream.next(), async move { recorder.record(FactKind::NodeStopping) });
        assert_eq!(first.unwrap().unwrap().fact.seq, 1);
    }
}
