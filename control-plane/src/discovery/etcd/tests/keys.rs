//! Property 11: no key outside `nodes/` and `providers/` is ever written, whatever nodes say of themselves.

use proptest::{collection, option, prelude::*, sample::select, test_runner::TestRunner};

use super::{super::key::Key, *};

#[derive(Clone, Debug)]
enum Operation {
    Publish(Box<Registration>),
    Withdraw(NodeId),
}

/// What a node may say: any text where there is no rule, with what looks like keys among it.
fn said() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,40}",
        select(vec!["", "/", "../instances/x", "/wasmatrix/instances/x", "nodes/x\0", "http://127.0.0.1:1"])
            .prop_map(str::to_owned),
        Just("x".repeat(5000)),
    ]
}

fn node() -> impl Strategy<Value = NodeId> {
    select(vec!["a", "b", "nodes", "providers", "instances", "0"]).prop_map(id)
}

fn operation() -> impl Strategy<Value = Operation> {
    let phase = select(&ProviderPhase::ALL[..]);
    let publish = (node(), said(), said(), option::of((said(), phase)));
    let publish = publish.prop_map(|(node, address, version, kv)| {
        let kv = kv.map(|(backend, phase)| ProviderStatus { capability: Capability::Kv, backend, phase });
        let providers = kv.into_iter().collect();
        Operation::Publish(Box::new(Registration { version, providers, ..registration(&node, &address) }))
    });
    prop_oneof![3 => publish, 1 => node().prop_map(Operation::Withdraw)]
}

/// The keys that are to be there after these operations, by the prefix of this case.
fn expected(prefix: &Prefix, operations: &[Operation]) -> Vec<String> {
    let mut nodes = BTreeMap::new();
    for operation in operations {
        match operation {
            Operation::Publish(registration) => {
                nodes.insert(registration.id.clone(), !registration.providers.is_empty());
            }
            Operation::Withdraw(node) => _ = nodes.remove(node),
        }
    }
    let providers = nodes.iter().filter(|(_, provides)| **provides);
    let providers = providers.map(|(node, _)| Key::Provider(node.clone(), Capability::Kv).text(prefix));
    nodes.keys().map(|node| Key::Node(node.clone()).text(prefix)).chain(providers).collect()
}

#[test]
fn property_11_no_key_outside_nodes_and_providers_is_written() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut server = runtime.block_on(Server::start());
    let cases_begun = std::cell::Cell::new(0_usize);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(256));
    let cases = runner.run(&collection::vec(operation(), 0..20), |operations| {
        cases_begun.update(|case| case + 1);
        let case = cases_begun.get();
        let prefix: Prefix = format!("case-{case}/").parse().unwrap();
        // Each case leaves what it wrote to those after it; then all are looked at again.
        runtime.block_on(async {
            let etcd = Etcd::begin(Config { prefix: prefix.clone(), ..config(&server) }).unwrap();
            let (before, after) = operations.split_at(operations.len() / 2);
            take(&etcd, before);
            reached(&etcd, true).await;
            take(&etcd, after);
            let mut expected = expected(&prefix, &operations);
            expected.sort();
            let of_this_case = |entries: &BTreeMap<String, String>| {
                entries
                    .keys()
                    .filter(|key| key.starts_with(&format!("case-{case}/")))
                    .cloned()
                    .collect::<Vec<_>>()
            };
            let entries = server.entries_when(|entries| of_this_case(entries) == expected).await;
            for (key, value) in entries {
                let number = key.strip_prefix("case-").and_then(|key| key.split_once('/')).map(|(n, _)| n);
                let of = format!("case-{}/", number.unwrap_or_default()).parse().unwrap();
                prop_assert!(Key::read(&of, key.as_bytes()).is_some(), "{key} is no key of ours");
                prop_assert!(value.len() < 4096, "{key} has {} bytes", value.len());
            }
            Ok(())
        })
    });
    cases.unwrap();
    runtime.block_on(server.kill());
}

fn take(etcd: &Etcd, operations: &[Operation]) {
    for operation in operations {
        match operation {
            Operation::Publish(registration) => etcd.publish(registration),
            Operation::Withdraw(node) => etcd.withdraw(node),
        }
    }
}
