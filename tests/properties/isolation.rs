//! P19 nothing one instance does is visible to another, except through a bucket that both were granted.

use proptest::prelude::*;
use wasmatrix_model::ExitCause;
use wasmatrix_tests::{Case as Run, Node, executors};

use crate::{CASES, block_on, cases, fresh, runtime};

const GRANTS: [&str; 3] = ["kv:read", "kv:write", "kv:delete"];

fn steps() -> impl Strategy<Value = Vec<String>> {
    let key = || prop::sample::select(vec!["x", "y"]);
    let step = prop_oneof![
        (key(), "[a-z]{1,8}").prop_map(|(key, value)| format!("kv.set default {key} {value}")),
        key().prop_map(|key| format!("kv.get default {key}")),
        key().prop_map(|key| format!("kv.delete default {key}")),
        Just("kv.incr default n".to_owned()),
        Just("kv.list default".to_owned()),
        "[a-z]{1,8}".prop_map(|text| format!("static-set {text}")),
        Just("static-get".to_owned()),
        Just("alloc 2".to_owned()),
        Just("touch".to_owned()),
        Just("kv.get @s k".to_owned()),
        Just("kv.set @s k v".to_owned()),
        Just("env".to_owned()),
        Just("config-all".to_owned()),
    ];
    prop::collection::vec(step, 1..12)
}

#[test]
fn property_19_instances_are_isolated() {
    let runtime = runtime();
    for executor in executors() {
        let node = runtime.block_on(Node::new());
        let alone = runtime.block_on(Node::new());
        let end = prop::sample::select(vec!["out done", "trap divide", "exit 1"]);
        proptest!(cases(CASES), |(one in steps(), two in steps(), end in end)| {
            block_on(&runtime, async {
                let case = fresh();
                let run = |name: &str, steps: &[String]| {
                    let mut run = Run::of(*executor, "probe").args(steps.iter().cloned()).grants(&GRANTS);
                    run.name = Some(format!("{name}-{case}"));
                    run.env.insert("ME".to_owned(), name.to_owned());
                    run.config.insert("me".to_owned(), name.to_owned());
                    run
                };
                let mut noisy = one.clone();
                noisy.push(end.to_owned());
                // What the second sees beside a first that does as it likes, and crashes, is what it sees alone.
                let (_, beside) = tokio::join!(node.run(run("one", &noisy)), node.run(run("two", &two)));
                let beside = beside.unwrap();
                prop_assert_eq!(&beside.cause, &ExitCause::Exited { code: 0 });
                prop_assert_eq!(beside, alone.run(run("two", &two)).await.unwrap());
                Ok(())
            })?;
        });
    }
}

#[test]
fn property_19_a_bucket_that_both_were_granted_is_the_one_way() {
    let runtime = runtime();
    for executor in executors() {
        let node = runtime.block_on(Node::new());
        proptest!(cases(CASES), |(value in "[a-z]{1,16}", granted in any::<bool>())| {
            block_on(&runtime, async {
                let case = fresh();
                let bucket = format!("@s{case}");
                let (read, write) = (format!("kv:read:{bucket}"), format!("kv:write:{bucket}"));
                let one = Run::of(*executor, "probe").name("one").grants(&[&write]);
                node.run(one.args([format!("kv.set {bucket} k {value}")])).await.unwrap();
                let held: &[&str] = if granted { &[&read] } else { &["kv:read"] };
                let two = Run::of(*executor, "probe").name("two").grants(held).args([format!("kv.get {bucket} k")]);
                let wanted = if granted { format!("some {value}\n") } else { "denied\n".to_owned() };
                prop_assert_eq!(node.run(two).await.unwrap().stdout, wanted);
                Ok(())
            })?;
        });
    }
}
