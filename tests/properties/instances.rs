//! P01 statelessness, P03 no effect without a grant, P04 grants decide at the time of the call, P05 the registry is
//! the fold of what was assigned and revoked.

use std::{collections::BTreeSet, net::TcpListener};

use proptest::prelude::*;
use wasmatrix_model::{BucketName, ExitCause, FactKind, Grant, Key, KvAction, RestartMode, RestartPolicy};
use wasmatrix_tests::{Case as Run, Dialogue, Node, executors};

use crate::{CASES, block_on, cases, covers, runtime};

/// Grants over few buckets and keys, so that they meet the calls.
fn grant() -> impl Strategy<Value = Grant> {
    let action = prop::sample::select(vec!["read", "write", "delete"]);
    let scope = prop::sample::select(vec!["", ":a", ":b", ":@s", ":a/x", ":a/x*", ":b/*", ":@s/x*", ":a/xy"]);
    (action, scope).prop_map(|(action, scope)| format!("kv:{action}{scope}").parse().unwrap())
}

/// A step of the probe on few buckets and keys, and what it needs.
#[derive(Clone, Debug)]
struct Step {
    text: String,
    actions: Vec<KvAction>,
    bucket: BucketName,
    keys: Vec<Option<Key>>,
}

fn step() -> impl Strategy<Value = Step> {
    use KvAction::{Delete, Read, Write};
    let bucket = prop::sample::select(vec!["a", "b", "@s"]);
    let key = || prop::sample::select(vec!["x", "xy", "z"]);
    (bucket, key(), key(), 0..9_u8).prop_map(|(bucket, key, other, kind)| {
        let (text, actions, keys) = match kind {
            0 => (format!("kv.get {bucket} {key}"), vec![Read], vec![Some(key)]),
            1 => (format!("kv.set {bucket} {key} 7"), vec![Write], vec![Some(key)]),
            2 => (format!("kv.delete {bucket} {key}"), vec![Delete], vec![Some(key)]),
            3 => (format!("kv.exists {bucket} {key}"), vec![Read], vec![Some(key)]),
            4 => (format!("kv.list {bucket}"), vec![Read], vec![None]),
            5 => (format!("kv.incr {bucket} {key} 1"), vec![Read, Write], vec![Some(key)]),
            6 => (format!("kv.get-many {bucket} {key} {other}"), vec![Read], vec![Some(key), Some(other)]),
            7 => {
                (format!("kv.set-many {bucket} {key} 1 {other} 2"), vec![Write], vec![Some(key), Some(other)])
            }
            _ => {
                (format!("kv.delete-many {bucket} {key} {other}"), vec![Delete], vec![Some(key), Some(other)])
            }
        };
        let keys = keys.into_iter().map(|key| key.map(|key| key.parse().unwrap())).collect();
        Step { text, actions, bucket: bucket.parse().unwrap(), keys }
    })
}

impl Step {
    fn is_covered(&self, held: &BTreeSet<Grant>) -> bool {
        self.actions.iter().all(|action| {
            self.keys
                .iter()
                .all(|key| held.iter().any(|grant| covers(grant, *action, &self.bucket, key.as_ref())))
        })
    }
}

#[test]
fn property_01_statelessness_across_restarts() {
    let runtime = runtime();
    for executor in executors() {
        let node = runtime.block_on(Node::new());
        let write = prop_oneof![
            "[a-z]{1,20}".prop_map(|text| format!("static-set {text}")),
            (1..4_u8).prop_map(|mebibytes| format!("alloc {mebibytes}")),
            Just("touch".to_owned()),
        ];
        let end = prop::sample::select(vec!["exit 1", "trap divide", "trap unreachable", "trap bounds"]);
        proptest!(cases(CASES), |(writes in prop::collection::vec(write, 0..6), end in end)| {
            block_on(&runtime, async {
                let mut steps = vec!["static-get".to_owned()];
                steps.extend(writes.clone());
                steps.push(end.to_owned());
                let mut run = Run::of(*executor, "probe").args(steps);
                run.name = Some("p01".to_owned());
                run.restart = RestartPolicy {
                    backoff_initial: std::time::Duration::from_millis(1),
                    restarts_max: Some(2),
                    ..RestartPolicy::with_mode(RestartMode::OnFailure)
                };
                node.start(&run).await.unwrap();
                let status = node.agent.wait("p01").await.unwrap();
                prop_assert_eq!(status.restart_count, 2);
                let log = node.agent.logs("p01", 0, None, false).unwrap();
                let records: Vec<_> = futures::StreamExt::collect(log).await;
                for restart in 0..=2 {
                    let first = records.iter().find(|record| {
                        record.restart == restart && record.stream == wasmatrix_model::LogStream::Stdout
                    });
                    prop_assert_eq!(first.map(|record| record.line.as_str()), Some("none"), "run {}", restart);
                }
                node.agent.remove("p01").await.unwrap();
                Ok(())
            })?;
        });
    }
}

#[test]
fn property_03_side_effects_are_capability_mediated() {
    let runtime = runtime();
    for executor in executors() {
        let node = runtime.block_on(Node::new());
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("there"), "untouched").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (address, directory) = (listener.local_addr().unwrap(), outside.path().display().to_string());
        let reach = prop_oneof![
            step().prop_map(|step| step.text),
            Just(format!("connect {address}")),
            Just(format!("udp {address}")),
            Just("listen 127.0.0.1:0".to_owned()),
            Just("resolve localhost".to_owned()),
            Just(format!("file {directory}/there")),
            Just(format!("write {directory}/there")),
            Just(format!("write {directory}/new")),
            Just(format!("dir {directory}")),
            Just("env PATH".to_owned()),
            Just("config secret".to_owned()),
        ];
        proptest!(cases(CASES), |(steps in prop::collection::vec(reach, 1..12))| {
            block_on(&runtime, async {
                let outcome = node.run(Run::of(*executor, "probe").name("p03").args(steps.clone())).await.unwrap();
                prop_assert_eq!(outcome.cause, ExitCause::Exited { code: 0 });
                for (line, step) in outcome.stdout.lines().zip(&steps) {
                    let nothing = line == "denied" || line == "none" || line.starts_with("error: ");
                    prop_assert!(nothing, "{} came to {}", step, line);
                }
                // Whoever may look finds nothing: not under the same name, not in the shared bucket.
                let look = ["kv.list a", "kv.list b", "kv.list @s"];
                let look = Run::of(*executor, "probe").name("p03").args(look).grants(&["kv:read", "kv:read:@s"]);
                prop_assert_eq!(node.run(look).await.unwrap().stdout, "keys\nkeys\nkeys\n");
                prop_assert!(listener.accept().is_err(), "a guest reached a socket");
                prop_assert_eq!(std::fs::read_to_string(outside.path().join("there")).unwrap(), "untouched");
                prop_assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
                Ok(())
            })?;
        });
    }
}

#[test]
fn property_04_permissions_are_enforced_at_the_time_of_the_call() {
    #[derive(Clone, Debug)]
    enum Deed {
        Assign(Grant),
        Revoke(Grant),
        Call(Step),
    }
    let runtime = runtime();
    for executor in executors() {
        let node = runtime.block_on(Node::new());
        let deed = prop_oneof![
            2 => grant().prop_map(Deed::Assign),
            1 => grant().prop_map(Deed::Revoke),
            4 => step().prop_map(Deed::Call),
        ];
        proptest!(cases(CASES), |(deeds in prop::collection::vec(deed, 1..16))| {
            block_on(&runtime, async {
                let calls = deeds.iter().filter_map(|deed| match deed {
                    Deed::Call(step) => Some(["line".to_owned(), step.text.clone()]),
                    Deed::Assign(_) | Deed::Revoke(_) => None,
                });
                let run = Run::of(*executor, "probe").name("p04").args(calls.flatten());
                let (mut dialogue, ear) = Dialogue::new();
                node.agent.start_attached(node.spec(&run), Some(run.artifact.clone()), ear).await.unwrap();
                let mut held = BTreeSet::new();
                for deed in &deeds {
                    match deed {
                        Deed::Assign(grant) => {
                            held.insert(grant.clone());
                            node.agent.assign("p04", std::slice::from_ref(grant)).unwrap();
                        }
                        Deed::Revoke(grant) => {
                            let revoked = node.agent.revoke("p04", std::slice::from_ref(grant));
                            prop_assert_eq!(revoked.is_ok(), held.remove(grant));
                        }
                        Deed::Call(step) => {
                            dialogue.say("go").await;
                            let heard = dialogue.hear().await;
                            prop_assert_eq!(heard.as_deref(), Some("line go"));
                            let line = dialogue.hear().await.unwrap();
                            let allowed = line != "denied";
                            prop_assert_eq!(allowed, step.is_covered(&held), "{}: {} with {:?}", step.text, line, held);
                        }
                    }
                }
                node.agent.wait("p04").await.unwrap();
                node.agent.remove("p04").await.unwrap();
                Ok(())
            })?;
        });
    }
}

#[test]
fn property_05_the_registry_is_the_fold_of_assign_and_revoke() {
    let runtime = runtime();
    let node = runtime.block_on(Node::new());
    let deed = (any::<bool>(), prop::collection::vec(grant(), 1..4));
    proptest!(cases(CASES), |(first in prop::collection::btree_set(grant(), 0..4), deeds in prop::collection::vec(deed, 0..20))| {
        block_on(&runtime, async {
            let mut run = Run::of(executors()[0], "sleeper").name("p05");
            run.grants = first.iter().cloned().collect();
            node.start(&run).await.unwrap();
            let mut fold = first.clone();
            for (assign, grants) in &deeds {
                if *assign {
                    fold.extend(grants.iter().cloned());
                    node.agent.assign("p05", grants).unwrap();
                } else {
                    // All or none: a revoke with one grant that is not held (or twice the same) changes nothing.
                    let distinct: BTreeSet<_> = grants.iter().collect();
                    let legal = distinct.len() == grants.len() && grants.iter().all(|grant| fold.contains(grant));
                    if legal {
                        fold.retain(|grant| !grants.contains(grant));
                    }
                    prop_assert_eq!(node.agent.revoke("p05", grants).is_ok(), legal);
                }
                let registry = node.agent.get("p05").unwrap().grants;
                prop_assert_eq!(registry.iter().cloned().collect::<BTreeSet<_>>(), fold.clone());
            }
            // The facts tell the same story.
            let id = node.agent.get("p05").unwrap().id;
            let mut told = BTreeSet::new();
            for fact in node.facts().await {
                match fact.kind {
                    FactKind::GrantAssigned { instance, grant } if instance.id == id => {
                        prop_assert!(told.insert(grant), "assigned twice");
                    }
                    FactKind::GrantRevoked { instance, grant } if instance.id == id => {
                        prop_assert!(told.remove(&grant), "revoked what was not held");
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(told, fold);
            node.agent.stop("p05", std::time::Duration::ZERO).await.unwrap();
            node.agent.remove("p05").await.unwrap();
            Ok(())
        })?;
    });
}
