//! Placement against a predicate that was written without looking at it.

use std::collections::BTreeMap;

use proptest::{collection, option, prelude::*, sample::select};
use wasmatrix_model::{Capability, Digest, ErrorCode, ExecutorKind, Limits, Placement};

use super::*;

/// A candidate that owns what it says.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) phase: NodePhase,
    pub(super) unreachable: Option<String>,
    pub(super) cordoned: bool,
    pub(super) labels: Labels,
    pub(super) executors: Vec<ExecutorStatus>,
    pub(super) providers: Vec<ProviderStatus>,
    pub(super) capacity: Capacity,
    pub(super) load: Load,
    pub(super) group_members: u32,
}

const MIB: u64 = 1 << 20;

impl Node {
    /// A node that takes 100 instances and lacks nothing.
    fn new(id: &str) -> Self {
        let executor = |kind| ExecutorStatus { kind, unavailable: None };
        let provider = |capability| ProviderStatus {
            capability,
            backend: "memory".to_owned(),
            phase: ProviderPhase::Running,
        };
        Self {
            id: id.parse().unwrap(),
            phase: NodePhase::Ready,
            unreachable: None,
            cordoned: false,
            labels: Labels::default(),
            executors: ExecutorKind::ALL.map(executor).to_vec(),
            providers: Capability::ALL.map(provider).to_vec(),
            capacity: Capacity { instances_max: 100, memory_bytes_max: None, memory_bytes_total: 8192 * MIB },
            load: Load::default(),
            group_members: 0,
        }
    }

    pub(super) fn candidate(&self) -> Candidate<'_> {
        Candidate {
            node: &self.id,
            phase: self.phase,
            unreachable: self.unreachable.as_deref(),
            cordoned: self.cordoned,
            labels: &self.labels,
            executors: &self.executors,
            providers: &self.providers,
            capacity: self.capacity,
            load: self.load,
            group_members: self.group_members,
        }
    }

    fn take(&mut self, spec: &InstanceSpec) {
        self.load.instances += 1;
        self.load.instances_live += 1;
        self.load.memory_bytes_committed += spec.limits.memory_bytes_max;
        self.group_members += 1;
    }
}

fn spec() -> InstanceSpec {
    InstanceSpec::new("web".parse().unwrap(), Digest::of(b"web"))
}

fn pick(nodes: &[Node], spec: &InstanceSpec, avoid: &[NodeId]) -> Result<NodeId, Unplaceable> {
    place(nodes.iter().map(Node::candidate), &Request { spec, avoid })
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    pairs.collect::<BTreeMap<_, _>>().try_into().unwrap()
}

/// Whether a node will do, said as one sentence.
fn will_do(node: &Node, spec: &InstanceSpec, avoid: &[NodeId]) -> bool {
    let placement = &spec.placement;
    let limit = u128::from(spec.limits.memory_bytes_max);
    let committed = u128::from(node.load.memory_bytes_committed);
    let total = u128::from(node.capacity.memory_bytes_total);
    [None, Some(&node.id)].contains(&placement.node.as_ref())
        && node.phase == NodePhase::Ready
        && node.unreachable.is_none()
        && !node.cordoned
        && avoid.iter().all(|avoided| *avoided != node.id)
        && placement.labels.iter().all(|(key, value)| node.labels.iter().any(|own| own == (key, value)))
        && node.executors.contains(&ExecutorStatus { kind: spec.executor, unavailable: None })
        && (spec.grants.is_empty()
            || node.providers.iter().any(|provider| provider.phase == ProviderPhase::Running))
        && (total == 0 || limit <= total)
        && node.capacity.memory_bytes_max.is_none_or(|max| committed + limit <= u128::from(max))
        && node.load.instances < node.capacity.instances_max
}

/// Mostly what will do, so that a case often has several that do.
fn mostly<T: Clone + std::fmt::Debug + 'static>(usual: T, rare: Vec<T>) -> impl Strategy<Value = T> {
    prop_oneof![6 => Just(usual), 1 => select(rare)]
}

fn some_labels() -> impl Strategy<Value = Labels> {
    collection::btree_map(select(vec!["zone".to_owned(), "disk".to_owned()]), "[ab]", 0..3)
        .prop_map(|labels| labels.try_into().unwrap())
}

fn executors() -> impl Strategy<Value = Vec<ExecutorStatus>> {
    let both = Node::new("n").executors;
    let broken = ExecutorStatus { kind: ExecutorKind::Microvm, unavailable: Some("no KVM".to_owned()) };
    let wasmtime = both[0].clone();
    mostly(both, vec![vec![], vec![wasmtime.clone()], vec![wasmtime, broken]])
}

fn providers() -> impl Strategy<Value = Vec<ProviderStatus>> {
    let running = Node::new("n").providers;
    let with = |phase| running.iter().cloned().map(|kv| ProviderStatus { phase, ..kv }).collect::<Vec<_>>();
    let (draining, stopped) = (with(ProviderPhase::Draining), with(ProviderPhase::Stopped));
    let replaced = [stopped.clone(), running.clone()].concat();
    mostly(running, vec![vec![], draining, stopped, replaced])
}

pub(super) fn capacity() -> impl Strategy<Value = (Capacity, Load)> {
    let capacity = (
        mostly(100, vec![0, 1, 7]),
        mostly(None, vec![Some(256 * MIB), Some(2048 * MIB), Some(u64::MAX)]),
        mostly(8192 * MIB, vec![0, 128 * MIB]),
    );
    let load = (0_u32..8, 0_u32..8, mostly(0, vec![MIB, 1900 * MIB, u64::MAX]));
    (capacity, load).prop_map(
        |((instances_max, memory_bytes_max, memory_bytes_total), (live, ended, memory))| {
            (
                Capacity { instances_max, memory_bytes_max, memory_bytes_total },
                Load { instances: live + ended, instances_live: live, memory_bytes_committed: memory },
            )
        },
    )
}

pub(super) fn node() -> impl Strategy<Value = Node> {
    (
        mostly(NodePhase::Ready, vec![NodePhase::Suspect, NodePhase::Lost]),
        mostly(None, vec![Some("refused".to_owned())]),
        mostly(false, vec![true]),
        (some_labels(), executors(), providers(), capacity()),
        0_u32..3,
    )
        .prop_map(|(phase, unreachable, cordoned, offers, group_members)| {
            let (labels, executors, providers, (capacity, load)) = offers;
            Node {
                phase,
                unreachable,
                cordoned,
                labels,
                executors,
                providers,
                capacity,
                load,
                group_members,
                ..Node::new("n")
            }
        })
}

fn cluster() -> impl Strategy<Value = Vec<Node>> {
    collection::vec(node(), 0..9).prop_map(|mut nodes| {
        for (index, node) in nodes.iter_mut().enumerate() {
            node.id = format!("n{index}").parse().unwrap();
        }
        nodes
    })
}

pub(super) fn some_spec() -> impl Strategy<Value = InstanceSpec> {
    (
        prop_oneof![5 => Just(None), 1 => (0..10).prop_map(|n| Some(format!("n{n}").parse().unwrap()))],
        prop_oneof![2 => Just(Labels::default()), 1 => some_labels()],
        select(&ExecutorKind::ALL[..]),
        any::<bool>(),
        select(vec![MIB, 128 * MIB, 256 * MIB, 4096 * MIB]),
    )
        .prop_map(|(node, labels, executor, granted, memory_bytes_max)| InstanceSpec {
            executor,
            grants: granted.then(|| "kv:read".parse().unwrap()).into_iter().collect(),
            limits: Limits { memory_bytes_max, ..Limits::default() },
            placement: Placement { node, labels, ..Placement::default() },
            ..spec()
        })
}

pub(super) fn avoided() -> impl Strategy<Value = Vec<NodeId>> {
    option::of(0..9).prop_map(|n| n.map(|n| format!("n{n}").parse().unwrap()).into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// P12: whichever nodes are lost, the choice is right on the rest: the one that would be made if they had never
    /// been, and never one that is lost, closed or unfit.
    #[test]
    fn property_12_losing_nodes_leaves_placement_right_on_the_rest(
        mut nodes in cluster(),
        spec in some_spec(),
        avoid in avoided(),
        lost in collection::vec(any::<bool>(), 9),
    ) {
        for (node, lost) in nodes.iter_mut().zip(lost) {
            if lost {
                node.phase = NodePhase::Lost;
            }
        }
        let chosen = pick(&nodes, &spec, &avoid);
        let heard: Vec<Node> =
            nodes.iter().filter(|node| node.phase != NodePhase::Lost).cloned().collect();
        let without_the_lost = pick(&heard, &spec, &avoid);
        prop_assert_eq!(chosen.as_ref().ok(), without_the_lost.as_ref().ok());
        if let Ok(chosen) = chosen {
            let node = nodes.iter().find(|node| node.id == chosen).unwrap();
            prop_assert!(will_do(node, &spec, &avoid), "{node:?}");
        }
    }

    /// There is an answer if and only if a node will do; if none will, each is named, and the message is bounded.
    #[test]
    fn none_is_chosen_only_where_none_will_do(
        nodes in cluster(),
        spec in some_spec(),
        avoid in avoided(),
    ) {
        match pick(&nodes, &spec, &avoid) {
            Ok(_) => prop_assert!(nodes.iter().any(|node| will_do(node, &spec, &avoid))),
            Err(unplaceable) => {
                prop_assert!(!nodes.iter().any(|node| will_do(node, &spec, &avoid)), "{unplaceable}");
                let mut named: Vec<_> =
                    unplaceable.refused().iter().map(|refused| refused.node.clone()).collect();
                named.sort();
                let all: Vec<_> = nodes.iter().map(|node| node.id.clone()).collect();
                prop_assert_eq!(named, all);
            }
        }
    }

    /// The order in which nodes are known says nothing.
    #[test]
    fn the_order_of_candidates_makes_no_difference(
        (nodes, shuffled) in cluster().prop_flat_map(|nodes| (Just(nodes.clone()), Just(nodes).prop_shuffle())),
        spec in some_spec(),
    ) {
        prop_assert_eq!(pick(&nodes, &spec, &[]), pick(&shuffled, &spec, &[]));
    }

    /// Replicas of a group differ by at most one between nodes that are alike, however else they are loaded.
    #[test]
    fn replicas_are_spread_over_equal_nodes(
        loads in collection::vec(0_u32..50, 1..8),
        replicas in 1_usize..40,
    ) {
        let mut nodes: Vec<Node> = loads.iter().enumerate().map(|(index, load)| {
            let load = Load { instances: *load, instances_live: *load, ..Load::default() };
            Node { load, ..Node::new(&format!("n{index}")) }
        }).collect();
        let spec = spec();
        for _ in 0..replicas {
            let chosen = pick(&nodes, &spec, &[]).unwrap();
            nodes.iter_mut().find(|node| node.id == chosen).unwrap().take(&spec);
        }
        let members = nodes.iter().map(|node| node.group_members);
        prop_assert!(members.clone().max().unwrap() - members.min().unwrap() <= 1);
    }
}

#[test]
fn the_least_loaded_in_proportion_is_taken_then_the_first_by_id() {
    let mut small = Node::new("a-small");
    let mut large = Node::new("b-large");
    (small.capacity.instances_max, large.capacity.instances_max) = (10, 1000);
    (small.load.instances_live, large.load.instances_live) = (2, 100);
    assert_eq!(pick(&[small.clone(), large.clone()], &spec(), &[]).unwrap().as_str(), "b-large");
    // Memory is what it has least of.
    large.load.memory_bytes_committed = 4096 * MIB;
    assert_eq!(pick(&[small, large], &spec(), &[]).unwrap().as_str(), "a-small");
    assert_eq!(pick(&[Node::new("b"), Node::new("a")], &spec(), &[]).unwrap().as_str(), "a");
}

fn refuse(change: impl Fn(&mut Node), spec: &InstanceSpec) -> Unplaceable {
    let mut node = Node::new("a");
    change(&mut node);
    pick(&[node], spec, &[]).unwrap_err()
}

#[test]
fn each_reason_is_told_in_words_to_act_on() {
    let mut wants = spec();
    wants.placement.labels = labels(&[("zone", "eu")]);
    wants.grants = std::iter::once("kv:read".parse().unwrap()).collect();
    wants.executor = ExecutorKind::Microvm;
    let fit = |node: &mut Node| node.labels = labels(&[("zone", "eu")]);
    let told = |change: &dyn Fn(&mut Node)| {
        refuse(
            |node| {
                fit(node);
                change(node);
            },
            &wants,
        )
        .to_string()
    };
    assert_eq!(told(&|node| node.phase = NodePhase::Lost), "no node can run `web`: a is lost");
    assert!(told(&|node| node.phase = NodePhase::Suspect).contains("a has not been heard for a while"));
    assert!(
        told(&|node| node.unreachable = Some("no route".into())).contains("a can't be reached: no route")
    );
    assert!(
        told(&|node| node.cordoned = true).contains("a is cordoned (`wasmatrix node uncordon a` opens it)")
    );
    assert!(told(&|node| node.labels = Labels::default()).contains("a lacks the label zone=eu"));
    assert!(
        told(&|node| node.labels = labels(&[("zone", "us")]))
            .contains("a has the label zone=us, not zone=eu")
    );
    assert!(told(&|node| node.executors.clear()).contains("a has no executor microvm"));
    assert!(
        told(&|node| node.executors.iter_mut().for_each(|kind| kind.unavailable = Some("no KVM".into())))
            .contains("a can't run microvm: no KVM")
    );
    assert!(told(&|node| node.providers.clear()).contains("a has no provider of kv"));
    assert!(
        told(&|node| node.providers[0].phase = ProviderPhase::Stopped)
            .contains("a has a provider of kv that is stopped")
    );
    assert!(
        told(&|node| node.capacity.memory_bytes_total = MIB).contains("less than its limit of 256.0 MiB")
    );
    assert!(told(&|node| node.capacity.instances_max = 0).contains("a is full: it lists 0 of 0 instances"));
    let left = told(&|node| {
        node.capacity.memory_bytes_max = Some(1024 * MIB);
        node.load.memory_bytes_committed = 800 * MIB;
    });
    assert!(left.contains("a has 224.0 MiB of 1.0 GiB left for instances"), "{left}");
}

#[test]
fn only_want_of_room_is_exhaustion() {
    let full = |node: &mut Node| node.capacity.instances_max = 0;
    assert_eq!(refuse(full, &spec()).code(), ErrorCode::ResourceExhausted);
    assert_eq!(refuse(|node| node.cordoned = true, &spec()).code(), ErrorCode::NodeUnavailable);
    assert_eq!(pick(&[], &spec(), &[]).unwrap_err().code(), ErrorCode::NodeUnavailable);

    let (mut one, mut other) = (Node::new("a"), Node::new("b"));
    full(&mut one);
    other.cordoned = true;
    assert_eq!(pick(&[one.clone(), other], &spec(), &[]).unwrap_err().code(), ErrorCode::NodeUnavailable);
    // The others are not in question.
    let mut wants = spec();
    wants.placement.node = Some("a".parse().unwrap());
    let unplaceable = pick(&[one, Node::new("b")], &wants, &[]).unwrap_err();
    assert_eq!(unplaceable.code(), ErrorCode::ResourceExhausted);
    assert_eq!(
        unplaceable.to_string(),
        "`web` asks for the node a, which is full: it lists 0 of 0 instances"
    );
}

#[test]
fn a_message_about_many_nodes_names_the_nearest_and_counts_the_rest() {
    let nodes: Vec<Node> = (0..10_000)
        .map(|index| {
            let mut node = Node::new(&format!("n{index:05}"));
            match index {
                ..5_000 => node.phase = NodePhase::Lost,
                5_000..9_997 => node.cordoned = true,
                _ => node.capacity.instances_max = 0,
            }
            node
        })
        .collect();
    let unplaceable = pick(&nodes, &spec(), &[]).unwrap_err();
    assert_eq!(unplaceable.refused().len(), 10_000);
    let told = unplaceable.to_string();
    assert!(
        told.starts_with("no node can run `web`: n09997 is full: it lists 0 of 0 instances; n09998"),
        "{told}"
    );
    assert!(told.ends_with("; and 9990 more: 4990 cordoned, 5000 lost"), "{told}");
    assert!(told.len() < 1000, "{told}");

    let mut wants = spec();
    wants.placement.node = Some("nowhere".parse().unwrap());
    let told = pick(&nodes, &wants, &[]).unwrap_err().to_string();
    assert!(
        told.contains("asks for the node nowhere, which is not known here; there is: n00000, "),
        "{told}"
    );
    assert!(told.ends_with(" and 9990 more"), "{told}");

    let told = pick(&[], &spec(), &[]).unwrap_err().to_string();
    assert!(told.contains("there is none yet: add one with `wasmatrix join`"), "{told}");
    let told = pick(&[], &wants, &[]).unwrap_err().to_string();
    assert!(told.contains("there is none yet"), "{told}");
}
