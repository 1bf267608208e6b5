//! P07 what is stored is ids, specs, grants and facts, P10 what a provider returns is what the guest receives,
//! P21 provider and instance metadata are apart.

use std::{collections::BTreeMap, path::Path};

use proptest::prelude::*;
use wasmatrix_agent::{Config, KvBackend};
use wasmatrix_model::Capability;
use wasmatrix_tests::{Case as Run, Node, executors};

use crate::{CASES, block_on, cases, fresh, runtime};

/// Every byte of every file below `directory`.
fn stored(directory: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            all.extend(stored(&entry.path()));
        } else {
            all.extend(std::fs::read(entry.path()).unwrap());
        }
    }
    all
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    memchr::memmem::find(haystack, needle.as_bytes()).is_some()
}

#[test]
fn property_07_nothing_of_an_instance_is_stored_but_what_it_put_through_a_provider() {
    let runtime = runtime();
    for executor in executors() {
        let disk = tempfile::tempdir().unwrap();
        let node = runtime.block_on(Node::with(Config {
            kv: KvBackend::File(disk.path().join("kv.redb")),
            cache_dir: Some(disk.path().join("cache")),
            ..Config::new("disk".parse().unwrap())
        }));
        let end = prop::sample::select(vec!["exit 0", "trap divide"]);
        proptest!(cases(CASES), |(marker in "[A-Z]{24}", end in end)| {
            block_on(&runtime, async {
                let name = format!("p07-{}", fresh());
                let said = |part: &str| format!("{part}{marker}");
                let steps = [
                    format!("out {}", said("out")),
                    format!("err {}", said("err")),
                    format!("log info {}", said("log")),
                    format!("static-set {}", said("memory")),
                    format!("kv.set default k {}", said("kept")),
                    end.to_owned(),
                ];
                let mut run = Run::of(*executor, "probe").name(&name).args(steps).grants(&["kv:write", "kv:read:zzz"]);
                run.env.insert("E".to_owned(), said("env"));
                run.config.insert("C".to_owned(), said("config"));
                let id = node.start(&run).await.unwrap().id.to_string();
                node.agent.wait(&name).await.unwrap();
                node.agent.remove(&name).await.unwrap();
                let disk = stored(disk.path());
                prop_assert!(contains(&disk, &said("kept")), "what went through the provider is kept");
                for part in ["out", "err", "log", "memory", "env", "config"] {
                    prop_assert!(!contains(&disk, &said(part)), "{} was stored", part);
                }
                prop_assert!(!contains(&disk, &id), "the instance's id was stored");
                Ok(())
            })?;
        });
        runtime.block_on(node.agent.shutdown(std::time::Duration::ZERO));
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Get(u8),
    Set(u8, Vec<u8>),
    Delete(u8),
    Exists(u8),
    List,
    Add(u8, i16),
}

fn operation() -> impl Strategy<Value = Operation> {
    let key = || 0..4_u8;
    prop_oneof![
        key().prop_map(Operation::Get),
        (key(), prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(key, value)| Operation::Set(key, value)),
        key().prop_map(Operation::Delete),
        key().prop_map(Operation::Exists),
        Just(Operation::List),
        // Numbers have keys of their own, so that a sum is always one.
        (key(), any::<i16>()).prop_map(|(key, delta)| Operation::Add(key, delta)),
    ]
}

fn spelled(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// The probe prints plain text as it is and spells everything else.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && !text.starts_with("0x") && !text.chars().any(char::is_control) => {
            text.to_owned()
        }
        _ => spelled(bytes),
    }
}

#[test]
fn property_10_what_the_provider_returns_is_what_the_guest_receives() {
    let runtime = runtime();
    for executor in executors() {
        let node = runtime.block_on(Node::new());
        proptest!(cases(CASES), |(operations in prop::collection::vec(operation(), 1..24))| {
            block_on(&runtime, async {
                let case = fresh();
                let mut model: BTreeMap<String, Vec<u8>> = BTreeMap::new();
                let mut sums: BTreeMap<u8, i64> = BTreeMap::new();
                let (mut steps, mut wanted) = (Vec::new(), Vec::new());
                for operation in &operations {
                    let (step, outcome) = match operation {
                        Operation::Get(key) => (
                            format!("kv.get b k{key}"),
                            model.get(&format!("k{key}")).map_or("none".to_owned(), |value| format!("some {}", shown(value))),
                        ),
                        Operation::Set(key, value) => {
                            model.insert(format!("k{key}"), value.clone());
                            (format!("kv.set b k{key} {}", spelled(value)), "ok".to_owned())
                        }
                        Operation::Delete(key) => {
                            model.remove(&format!("k{key}"));
                            (format!("kv.delete b k{key}"), "ok".to_owned())
                        }
                        Operation::Exists(key) => {
                            (format!("kv.exists b k{key}"), model.contains_key(&format!("k{key}")).to_string())
                        }
                        Operation::List => {
                            let keys = model.keys().fold("keys".to_owned(), |line, key| format!("{line} {key}"));
                            ("kv.list b".to_owned(), keys)
                        }
                        Operation::Add(key, delta) => {
                            let sum = sums.entry(*key).or_default();
                            *sum += i64::from(*delta);
                            (format!("kv.incr n n{key} {delta}"), sum.to_string())
                        }
                    };
                    steps.push(step);
                    wanted.push(outcome);
                }
                let run = Run::of(*executor, "probe").name(&format!("p10-{case}")).args(steps);
                let outcome = node.run(run.grants(&["kv:read", "kv:write", "kv:delete"])).await.unwrap();
                prop_assert_eq!(outcome.stdout.lines().collect::<Vec<_>>(), wanted);
                Ok(())
            })?;
        });
    }
}

#[test]
fn property_21_provider_and_instance_metadata_are_apart() {
    let runtime = runtime();
    let node = runtime.block_on(Node::new());
    proptest!(cases(CASES), |(names in prop::collection::btree_set("[a-z]{1,6}|kv|memory", 1..4))| {
        block_on(&runtime, async {
            for name in &names {
                node.start(&Run::of(executors()[0], "sleeper").name(name)).await.unwrap();
            }
            let described = node.agent.describe();
            let providers: Vec<String> =
                described.providers.iter().map(|provider| serde_json::to_string(provider).unwrap()).collect();
            for status in node.agent.list(None, 10) {
                // An instance may be called as it likes, also `kv`; its id is nowhere among the providers, no
                // provider is found by the name or id of an instance, and nothing of a provider is in its status.
                prop_assert!(providers.iter().all(|provider| !provider.contains(&status.id.to_string())));
                prop_assert!(status.id.to_string().parse::<Capability>().is_err());
                let listed = serde_json::to_value(&status).unwrap();
                let fields: Vec<&String> = listed.as_object().unwrap().keys().collect();
                prop_assert!(!fields.iter().any(|field| field.contains("provider") || field.contains("backend")));
            }
            prop_assert_eq!(described.providers.len(), Capability::ALL.len());
            if !names.contains("kv") {
                prop_assert!(node.agent.get("kv").is_err(), "a provider was found among the instances");
            }
            for name in &names {
                node.agent.stop(name, std::time::Duration::ZERO).await.unwrap();
                node.agent.remove(name).await.unwrap();
            }
            prop_assert_eq!(node.agent.describe().providers, described.providers);
            Ok(())
        })?;
    });
}
