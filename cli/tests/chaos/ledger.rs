//! What users asked for, and what was acknowledged: by this the cluster is judged at the end.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use wasmatrix_model::{
    Digest, ExecutorKind, Grant, Grants, InstanceId, InstanceSpec, Limits, NodeId, OnNodeLoss, RestartMode,
    RestartPolicy, Timestamp,
};

/// What a service may be granted, one by one, while it runs; each with the step that needs it.
pub(crate) const PRIVILEGES: [(&str, &str); 4] = [
    ("kv:read:g0", "kv.get g0 x"),
    ("kv:read:g1", "kv.get g1 x"),
    ("kv:write:g2", "kv.set g2 x 1"),
    ("kv:delete:g3", "kv.delete g3 x"),
];
/// The bucket in which services count, each under its name, as long as they run.
pub(crate) const BEAT: &str = "@beat";
/// How a service's turn begins in its log.
pub(crate) const TURN: &str = "turn";
/// Between two turns of a service, in milliseconds.
const TURN_MILLIS: u64 = 400;

/// What an instance does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Counts, and tries what it may be granted, for ever.
    Service,
    /// Is done after a moment.
    Job,
    /// Crashes, and is started again a few times.
    Crasher,
    /// Ends well, and is always started again.
    Restless,
}

/// Whether something was asked for, and whether somebody said that it was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Word {
    #[default]
    Never,
    /// It was asked for, and nobody knows what came of it.
    Perhaps,
    Done(Timestamp),
}

/// Whether an instance holds a grant, as its user knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// As was acknowledged, and when.
    Certain(bool, Timestamp),
    /// Something was asked for, and nobody knows what came of it.
    Either,
}

/// A start that was acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) id: InstanceId,
    pub(crate) node: NodeId,
    pub(crate) created_at: Timestamp,
}

/// One instance, from the first word about it to the last.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) kind: Kind,
    pub(crate) spec: InstanceSpec,
    pub(crate) acknowledged: Vec<Acknowledged>,
    pub(crate) stop: Word,
    /// The copies whose end was acknowledged, and where they were.
    pub(crate) stopped: Vec<(InstanceId, NodeId)>,
    pub(crate) remove: Word,
    pub(crate) grants: BTreeMap<Grant, Held>,
    /// Its user was told that it is not there, and asks for it no more.
    pub(crate) seen_gone: bool,
}

impl Life {
    pub(crate) fn name(&self) -> &str {
        self.spec.name.as_str()
    }

    /// Whether its spec says that it may be restarted elsewhere.
    pub(crate) fn is_precious(&self) -> bool {
        self.spec.placement.on_node_loss == OnNodeLoss::RestartElsewhere
    }

    /// Whether its user wants it to go on.
    pub(crate) fn is_wanted(&self) -> bool {
        self.stop == Word::Never && self.remove == Word::Never
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    lives: Mutex<Vec<Life>>,
    counts: Mutex<BTreeMap<&'static str, u32>>,
}

impl Ledger {
    pub(crate) fn lives(&self) -> MutexGuard<'_, Vec<Life>> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down that an instance was asked for, and gives its line.
    pub(crate) fn open(&self, kind: Kind, spec: InstanceSpec) -> usize {
        let now = now();
        let grants = PRIVILEGES.iter().map(|(text, _)| grant(text));
        let grants =
            grants.map(|grant| (grant.clone(), Held::Certain(spec.grants.holds(&grant), now))).collect();
        let mut lives = self.lives();
        lives.push(Life {
            kind,
            spec,
            acknowledged: Vec::new(),
            stop: Word::Never,
            stopped: Vec::new(),
            remove: Word::Never,
            grants,
            seen_gone: false,
        });
        lives.len() - 1
    }

    /// Writes something down in a line.
    pub(crate) fn note(&self, line: usize, note: impl FnOnce(&mut Life)) {
        note(&mut self.lives()[line]);
    }

    /// Counts what was done.
    pub(crate) fn count(&self, what: &'static str) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
    }

    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u32> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The name of one that was asked for lately, another for each `number`.
    pub(crate) fn some_name(&self, number: usize) -> Option<String> {
        let lives = self.lives();
        let lately = lives.len().saturating_sub(20);
        let lately = &lives[lately..];
        (!lately.is_empty()).then(|| lately[number % lately.len()].name().to_owned())
    }
}

pub(crate) fn now() -> Timestamp {
    use wasmatrix_model::Clock as _;
    wasmatrix_model::SystemClock.now()
}

pub(crate) fn grant(text: &str) -> Grant {
    text.parse().expect("the test writes legal grants")
}

/// What is to be started as an instance of that kind, with those of [`PRIVILEGES`] for which `holds` is true.
pub(crate) fn spec(
    kind: Kind,
    name: &str,
    digest: Digest,
    executor: ExecutorKind,
    precious: bool,
    holds: [bool; PRIVILEGES.len()],
) -> InstanceSpec {
    let mut spec = InstanceSpec::new(name.parse().expect("a legal name"), digest);
    spec.executor = executor;
    spec.limits = Limits { memory_bytes_max: 64 << 20, ..Limits::default() };
    let again = |mode, restarts_max| RestartPolicy {
        backoff_initial: std::time::Duration::from_millis(300),
        backoff_max: std::time::Duration::from_secs(2),
        restarts_max: Some(restarts_max),
        ..RestartPolicy::with_mode(mode)
    };
    if precious {
        spec.placement.on_node_loss = OnNodeLoss::RestartElsewhere;
    }
    let steps: Vec<String> = match kind {
        Kind::Service => {
            let held =
                PRIVILEGES.iter().zip(holds).filter(|(_, holds)| *holds).map(|((text, _), _)| grant(text));
            let counts = [format!("kv:read:{BEAT}"), format!("kv:write:{BEAT}")].map(|text| grant(&text));
            spec.grants = counts.into_iter().chain(held).collect::<Grants>();
            let tried: Vec<&str> = PRIVILEGES.iter().map(|(_, step)| *step).collect();
            let tried = tried.join("; ");
            vec![format!("cycle 1000000000 out {TURN}; kv.incr {BEAT} {name}; {tried}; sleep {TURN_MILLIS}")]
        }
        Kind::Job => vec!["out hello".to_owned(), "sleep 800".to_owned()],
        Kind::Crasher => {
            spec.restart = again(RestartMode::OnFailure, 3);
            vec!["sleep 300".to_owned(), "trap unreachable".to_owned()]
        }
        Kind::Restless => {
            spec.restart = again(RestartMode::Always, 40);
            vec!["sleep 1500".to_owned()]
        }
    };
    spec.args = steps;
    spec
}
