//! The board against the rule over everything that is known: the same answer, whatever happened before.

use std::collections::BTreeMap;

use proptest::{collection, prelude::*, sample::select};
use wasmatrix_model::{RunId, Timestamp};
use wasmatrix_wire::PROTOCOL;

use super::super::tests::{Node, avoided, capacity, node, some_spec};
use super::*;

/// Nodes that a course is about.
const NODES: usize = 6;

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    /// A node says of itself, or it is said of it, what this one is; what it lists stays.
    Offer(usize, Node),
    Withdraw(usize),
    List(usize, Load),
    /// A start with that group, among nodes that list so many of the group; if it finds a place, it is under way.
    Start {
        spec: Box<InstanceSpec>,
        avoid: Vec<NodeId>,
        members: Vec<u32>,
    },
    /// One of the starts under way is done.
    Done(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let grouped = (some_spec(), prop_oneof![Just(None), select(vec![Some("web"), Some("db")])]).prop_map(
        |(mut spec, group): (InstanceSpec, Option<&str>)| {
            spec.placement.group = group.map(|group| group.parse().unwrap());
            spec
        },
    );
    let start = (grouped, avoided(), collection::vec(0_u32..3, NODES))
        .prop_map(|(spec, avoid, members)| Step::Start { spec: Box::new(spec), avoid, members });
    prop_oneof![
        4 => (0..NODES, node()).prop_map(|(index, node)| Step::Offer(index, node)),
        1 => (0..NODES).prop_map(Step::Withdraw),
        4 => (0..NODES, capacity()).prop_map(|(index, (_, load))| Step::List(index, load)),
        8 => start,
        3 => any::<prop::sample::Index>().prop_map(Step::Done),
    ]
}

fn id(index: usize) -> NodeId {
    format!("n{index}").parse().unwrap()
}

fn offer(node: &Node) -> Offer {
    let registration = Registration {
        id: node.id.clone(),
        run: RunId::generate(),
        address: "http://127.0.0.1:1".to_owned(),
        version: String::new(),
        protocol: PROTOCOL,
        started_at: Timestamp::UNIX_EPOCH,
        labels: node.labels.clone(),
        executors: node.executors.clone(),
        providers: node.providers.clone(),
        capacity: node.capacity,
        cordoned: node.cordoned,
    };
    Offer {
        registration: Some(Arc::new(registration)),
        phase: node.phase,
        unreachable: node.unreachable.as_deref().map(Into::into),
        cordoned: node.cordoned,
    }
}

/// What the board is told, kept without an order, and counted anew for each question.
#[derive(Default)]
struct Told {
    offers: BTreeMap<usize, Node>,
    listed: BTreeMap<usize, Load>,
    under_way: Vec<(NodeId, InstanceSpec)>,
}

impl Told {
    /// The nodes as the rule is asked about them, in an order that says nothing.
    fn nodes(&self, group: Option<&InstanceName>, members: &[u32]) -> Vec<Node> {
        let node = |(index, offered): (&usize, &Node)| {
            let mut node = Node { id: id(*index), ..offered.clone() };
            node.load = self.listed.get(index).copied().unwrap_or_default();
            node.group_members = group.map_or(0, |_| members[*index]);
            for (_, spec) in self.under_way.iter().filter(|(at, _)| *at == node.id) {
                let bytes = &mut node.load.memory_bytes_committed;
                *bytes = bytes.saturating_add(spec.limits.memory_bytes_max);
                node.load.instances += 1;
                node.load.instances_live += 1;
                node.group_members += u32::from(group.is_some() && spec.placement.group.as_ref() == group);
            }
            node
        };
        self.offers.iter().rev().map(node).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// The choice on the board, and the refusal, is that of the rule over all nodes.
    #[test]
    fn the_board_chooses_as_the_rule_does(steps in collection::vec(step(), 1..60)) {
        let (mut board, mut told) = (Board::default(), Told::default());
        for step in steps {
            match step {
                Step::Offer(index, node) => {
                    board.offer(&id(index), offer(&node));
                    told.offers.insert(index, node);
                }
                Step::Withdraw(index) => {
                    board.withdraw(&id(index));
                    told.offers.remove(&index);
                }
                Step::List(index, load) => {
                    board.list(&id(index), load);
                    told.listed.insert(index, load);
                }
                Step::Start { spec, avoid, members } => {
                    let request = Request { spec: &spec, avoid: &avoid };
                    let group = spec.placement.group.as_ref();
                    let nodes = told.nodes(group, &members);
                    let by_rule = place(nodes.iter().map(Node::candidate), &request);
                    let index = |node: &NodeId| node.as_str()[1..].parse::<usize>().unwrap();
                    let by_board = board.place(&request, |node| members[index(node)]);
                    prop_assert_eq!(&by_board, &by_rule);
                    if let Ok(node) = by_board {
                        board.reserve(&node, &spec);
                        told.under_way.push((node, *spec));
                    }
                }
                Step::Done(index) => if !told.under_way.is_empty() {
                    let (node, spec) = told.under_way.swap_remove(index.index(told.under_way.len()));
                    board.release(&node, &spec);
                }
            }
        }
        // Of what is gone, nothing is left behind.
        for (node, spec) in told.under_way.drain(..) {
            board.release(&node, &spec);
        }
        for index in 0..NODES {
            board.withdraw(&id(index));
            board.list(&id(index), Load::default());
        }
        prop_assert!(board.by_id.is_empty() && board.order.is_empty() && board.rows.iter().next().is_none());
    }
}
