//! Property 16, the other way round: what a newer minor version says, a client of today reads but for what means nothing
//! to it, and says so.

use proptest::prelude::*;
use wasmatrix_model::{Fact, FactKind, InstanceStatus, LogRecord, LogStream, NodePhase, NodeStatus, Phase};
use wasmatrix_wire::{Told as _, newer, v1};

use crate::strategies as any;

/// A number that no version has given a meaning yet.
const NEWER: i32 = 4_242;

type Spoil<M> = fn(&mut M);

/// What a newer version may say of an instance, and the word by which it is named.
const OF_INSTANCES: [(&str, Spoil<v1::InstanceStatus>); 7] = [
    ("phase 4242", |status| status.phase = NEWER),
    ("executor 4242", |status| status.spec.as_mut().unwrap().executor = NEWER),
    ("restart mode 4242", |status| status.spec.as_mut().unwrap().restart.as_mut().unwrap().mode = NEWER),
    ("on-node-loss 4242", |status| {
        status.spec.as_mut().unwrap().placement.get_or_insert_default().on_node_loss = NEWER;
    }),
    ("grant blob:read", |status| status.grants.push("blob:read".to_owned())),
    ("grant blob:read", |status| status.spec.as_mut().unwrap().grants.push("blob:read".to_owned())),
    ("last_exit", |status| {
        let at = status.created_at;
        // A cause that is not known is none, once it was decoded.
        status.last_exit = Some(v1::Exit { at, cause: None });
    }),
];

proptest! {
    #[test]
    fn property_16_an_instance_is_read_but_for_what_is_newer(
        status in any::instance_status(),
        (word, spoil) in proptest::sample::select(&OF_INSTANCES[..]),
    ) {
        let sent = v1::InstanceStatus::from(status.clone());
        prop_assert_eq!(sent.clone().read(), Ok(status.clone()), "nothing is newer");
        let mut newer = sent;
        spoil(&mut newer);
        prop_assert!(InstanceStatus::try_from(newer.clone()).is_err(), "a server takes none of it");
        let read = newer.read();
        let read = match read {
            Ok(read) => read,
            Err(invalid) => return Err(TestCaseError::fail(format!("{word}: {invalid}"))),
        };
        prop_assert_eq!((&read.id, &read.node, &read.spec.name), (&status.id, &status.node, &status.spec.name));
        prop_assert_eq!(read.phase, Phase::Unknown);
        let unknown = read.unknown.unwrap();
        prop_assert!(unknown.reason.contains(word) && newer::is_why(&unknown), "{}", unknown.reason);
        if word != "phase 4242" && status.phase != Phase::Unknown {
            prop_assert_eq!(unknown.last_phase, status.phase);
        }
    }

    #[test]
    fn property_16_a_node_is_read_but_for_what_is_newer(status in any::node_status()) {
        let sent = v1::NodeStatus::from(status.clone());
        prop_assert_eq!(sent.clone().read(), Ok(status.clone()));
        let mut newer = sent;
        newer.executors.push(v1::ExecutorStatus { kind: NEWER, unavailable: String::new() });
        let (capability, backend) = ("blob".to_owned(), "x".to_owned());
        newer.providers.push(v1::ProviderStatus { capability, backend, phase: 1 });
        let read: NodeStatus = newer.clone().read().unwrap();
        prop_assert_eq!((&read.executors, &read.providers), (&status.executors, &status.providers));
        prop_assert_eq!(read.phase, status.phase);
        prop_assert!(read.reason.unwrap().contains("executor, provider"));
        newer.phase = NEWER;
        let read: NodeStatus = newer.read().unwrap();
        prop_assert_eq!(read.phase, NodePhase::Suspect);
        prop_assert!(read.reason.unwrap().contains("phase 4242"));
    }

    #[test]
    fn property_16_a_line_is_read_but_for_what_is_newer(record in any::log_record()) {
        let sent = v1::LogRecord::from(record.clone());
        prop_assert_eq!(sent.clone().read(), Ok(record.clone()));
        let read: LogRecord = v1::LogRecord { stream: NEWER, level: NEWER, ..sent }.read().unwrap();
        prop_assert_eq!((read.stream, read.level), (LogStream::Log, None));
        prop_assert_eq!(read.line, record.line);
    }
}

#[test]
fn a_fact_with_a_word_that_is_newer_is_one_that_has_no_word_here() {
    let at = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    let told = |kind| Fact::try_from(v1::Fact { seq: 1, at, node: "a".to_owned(), kind });
    let phase = |phase| {
        let node = "b".to_owned();
        let changed = v1::fact::NodePhaseChanged { node, phase, reason: String::new() };
        Some(v1::fact::Kind::NodePhaseChanged(changed))
    };
    for kind in [None, phase(NEWER)] {
        let fact = told(kind).unwrap();
        assert_eq!((fact.seq, &fact.kind), (1, &FactKind::Unrecognized));
        assert_eq!(fact.kind.name(), "unknown-fact");
        assert!(fact.kind.detail().contains("upgrade this one"));
    }
    assert!(matches!(told(phase(1)).unwrap().kind, FactKind::NodePhaseChanged { .. }));
    // What is damaged, and not only newer, is refused as before.
    let nobody = v1::fact::NodeForgotten { node: "NO NODE".to_owned(), by: String::new() };
    assert!(told(Some(v1::fact::Kind::NodeForgotten(nobody))).is_err());
}

#[test]
fn a_node_that_offers_more_than_is_known_here_may_attend() {
    let executors = [1, NEWER].map(|kind| v1::ExecutorStatus { kind, unavailable: String::new() });
    let provider = |capability: &str, phase| v1::ProviderStatus {
        capability: capability.to_owned(),
        backend: "redb".to_owned(),
        phase,
    };
    let registration = v1::Registration {
        id: "a".to_owned(),
        run: "018f8f3a-0000-7000-8000-000000000001".to_owned(),
        protocol: Some(v1::ProtocolVersion { major: 1, minor: 2 }),
        started_at: Some(prost_types::Timestamp::default()),
        executors: executors.to_vec(),
        providers: vec![provider("kv", 1), provider("blob", 1), provider("kv", NEWER)],
        ..Default::default()
    };
    let read = wasmatrix_model::Registration::try_from(registration.clone()).unwrap();
    assert_eq!((read.executors.len(), read.providers.len()), (1, 1));
    // What is damaged is refused as before.
    let providers = vec![provider("kv", 0)];
    assert!(wasmatrix_model::Registration::try_from(v1::Registration { providers, ..registration }).is_err());
}
