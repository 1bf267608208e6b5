//! Agents that tell what they list over a stream that is cut, and answers that come late or twice.

use std::collections::VecDeque;

use proptest::{collection, prelude::*, sample::Index};
use wasmatrix_model::Grants;

use super::*;

const NODES: usize = 3;

/// An agent, as the protocol describes it.
#[derive(Debug)]
struct Agent {
    node: NodeId,
    run: RunId,
    revision: u64,
    listed: BTreeMap<InstanceId, InstanceStatus>,
    /// The last change of each instance of this run; `None`: it was removed.
    changes: BTreeMap<InstanceId, (u64, Option<InstanceStatus>)>,
    stream: Option<Stream>,
    /// Where the stream goes on after a cut.
    token: Option<(RunId, u64)>,
}

/// A stream that is open.
#[derive(Debug, Default)]
struct Stream {
    /// The listing that is under way.
    listing: VecDeque<Message>,
    /// Changes up to here have been told, or are in the listing.
    cursor: u64,
    synced: bool,
}

#[derive(Clone, Debug)]
enum Message {
    Reset,
    Told(Box<InstanceStatus>),
    Removed(InstanceId),
    Synced(u64),
}

#[derive(Clone, Debug)]
enum Step {
    Start { node: Index, name: Index, movable: bool, answered: bool },
    Change { node: Index, instance: Index, phase: Index, granted: bool, answered: bool },
    Remove { node: Index, instance: Index, answered: bool },
    Restart { node: Index, noticed: bool },
    Connect { node: Index, anew: bool },
    Deliver { node: Index, messages: usize },
    Cut { node: Index },
    Answer { which: Index, again: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    prop_oneof![
        4 => (index(), index(), any::<bool>(), any::<bool>())
            .prop_map(|(node, name, movable, answered)| Step::Start { node, name, movable, answered }),
        5 => (index(), index(), index(), any::<bool>(), any::<bool>()).prop_map(
            |(node, instance, phase, granted, answered)| Step::Change { node, instance, phase, granted, answered }
        ),
        3 => (index(), index(), any::<bool>())
            .prop_map(|(node, instance, answered)| Step::Remove { node, instance, answered }),
        1 => (index(), any::<bool>()).prop_map(|(node, noticed)| Step::Restart { node, noticed }),
        3 => (index(), any::<bool>()).prop_map(|(node, anew)| Step::Connect { node, anew }),
        6 => (index(), 1_usize..6).prop_map(|(node, messages)| Step::Deliver { node, messages }),
        1 => index().prop_map(|node| Step::Cut { node }),
        4 => (index(), any::<bool>()).prop_map(|(which, again)| Step::Answer { which, again }),
    ]
}

impl Agent {
    fn new(node: NodeId) -> Self {
        Self {
            node,
            run: RunId::generate(),
            revision: 0,
            listed: BTreeMap::new(),
            changes: BTreeMap::new(),
            stream: None,
            token: None,
        }
    }

    fn changed(&mut self, id: InstanceId, status: Option<InstanceStatus>) -> Option<InstanceStatus> {
        self.revision += 1;
        let status = status.map(|status| InstanceStatus { revision: self.revision, ..status });
        self.changes.insert(id, (self.revision, status.clone()));
        match &status {
            Some(status) => self.listed.insert(id, status.clone()),
            None => self.listed.remove(&id),
        };
        status
    }

    fn pick(&self, index: Index) -> Option<InstanceStatus> {
        (!self.listed.is_empty())
            .then(|| index.get(&self.listed.values().collect::<Vec<_>>()).to_owned().clone())
    }

    fn restart(&mut self) {
        *self = Self { token: self.token, ..Self::new(self.node.clone()) };
    }

    fn connect(&mut self, anew: bool) {
        let goes_on = self.token.filter(|(run, _)| *run == self.run && !anew);
        self.stream = Some(match goes_on {
            Some((_, cursor)) => Stream { cursor, ..Stream::default() },
            None => {
                let told = self.listed.values().cloned().map(Box::new).map(Message::Told);
                let listing = std::iter::once(Message::Reset).chain(told).collect();
                self.token = None;
                Stream { listing, cursor: self.revision, synced: false }
            }
        });
    }

    /// The next message. `None`: all that there is has been told, or nobody listens.
    fn next(&mut self) -> Option<Message> {
        let stream = self.stream.as_mut()?;
        if let Some(message) = stream.listing.pop_front() {
            return Some(message);
        }
        let later = self.changes.iter().filter(|(_, (revision, _))| *revision > stream.cursor);
        let next = later.min_by_key(|(_, (revision, _))| *revision);
        // A listing is told whole before the changes since.
        let message = match next {
            Some((id, (revision, status))) if stream.synced || self.token.is_some() => {
                stream.cursor = *revision;
                status.clone().map_or(Message::Removed(*id), |status| Message::Told(Box::new(status)))
            }
            Some(_) | None if !stream.synced => {
                stream.synced = true;
                Message::Synced(stream.cursor)
            }
            Some(_) | None => return None,
        };
        self.token = Some((self.run, stream.cursor));
        Some(message)
    }
}

/// What a call answered.
#[derive(Clone, Debug)]
enum Answer {
    Is(Box<InstanceStatus>),
    Removed(InstanceId),
}

#[derive(Debug)]
struct Cluster {
    view: View,
    agents: Vec<Agent>,
    answers: Vec<(usize, RunId, Answer)>,
    instances: u64,
}

impl Cluster {
    fn new() -> Self {
        let agents = (0..NODES).map(|index| Agent::new(node_id(index))).collect();
        Self { view: View::default(), agents, answers: Vec::new(), instances: 0 }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Start { node, name, movable: moves, answered } => {
                self.instances += 1;
                let (index, name) = (node.index(NODES), ["a", "b", "c"][name.index(3)]);
                let mut spec = if moves { movable(name) } else { named(name) };
                spec.placement.group = moves.then(|| "group".parse().unwrap());
                let status = status(&self.agents[index].node, self.instances, 0, spec);
                self.agent_does(index, status.id, Some(status), answered);
            }
            Step::Change { node, instance, phase, granted, answered } => {
                let index = node.index(NODES);
                let Some(mut status) = self.agents[index].pick(instance) else { return };
                status.phase = Phase::ALL[phase.index(Phase::ALL.len() - 1)];
                status.grants = Grants::from_iter(granted.then(|| "kv:read".parse().unwrap()));
                self.agent_does(index, status.id, Some(status), answered);
            }
            Step::Remove { node, instance, answered } => {
                let index = node.index(NODES);
                let Some(status) = self.agents[index].pick(instance) else { return };
                self.agent_does(index, status.id, None, answered);
            }
            Step::Restart { node, noticed } => {
                let agent = &mut self.agents[node.index(NODES)];
                agent.restart();
                if noticed {
                    self.view.reset(&agent.node, agent.run);
                }
            }
            Step::Connect { node, anew } => self.agents[node.index(NODES)].connect(anew),
            Step::Deliver { node, messages } => {
                for _ in 0..messages {
                    self.deliver(node.index(NODES));
                }
            }
            Step::Cut { node } => self.agents[node.index(NODES)].stream = None,
            Step::Answer { which, again } if !self.answers.is_empty() => {
                let which = which.index(self.answers.len());
                let (node, run, answer) = self.answers[which].clone();
                if !again {
                    self.answers.remove(which);
                }
                self.answer(node, run, answer);
            }
            Step::Answer { .. } => {}
        }
    }

    fn agent_does(&mut self, node: usize, id: InstanceId, status: Option<InstanceStatus>, answered: bool) {
        let agent = &mut self.agents[node];
        let answer =
            agent.changed(id, status).map_or(Answer::Removed(id), |status| Answer::Is(Box::new(status)));
        let run = agent.run;
        if answered {
            self.answers.push((node, run, answer));
        }
    }

    fn answer(&mut self, node: usize, run: RunId, answer: Answer) {
        let node = &self.agents[node].node;
        match answer {
            Answer::Is(status) => _ = self.view.upsert(node, run, Source::Answer, *status),
            Answer::Removed(id) => _ = self.view.remove(node, run, id),
        }
    }

    /// Delivers the next message of a node's stream. `false`: there is none.
    fn deliver(&mut self, node: usize) -> bool {
        let agent = &mut self.agents[node];
        let Some(message) = agent.next() else { return false };
        let (view, node, run) = (&mut self.view, &agent.node, agent.run);
        match message {
            Message::Reset => view.reset(node, run),
            Message::Told(status) => _ = view.upsert(node, run, Source::Stream, *status),
            Message::Removed(id) => _ = view.remove(node, run, id),
            Message::Synced(through) => _ = view.synced(node, run, through),
        }
        true
    }

    /// Every node tells all that there is.
    fn catch_up(&mut self) {
        for node in 0..NODES {
            if self.agents[node].stream.is_none() {
                self.agents[node].connect(false);
            }
            while self.deliver(node) {}
        }
    }

    /// What the agents list, in the view's order.
    fn listed(&self) -> Vec<InstanceStatus> {
        let mut listed: Vec<_> =
            self.agents.iter().flat_map(|agent| agent.listed.values().cloned()).collect();
        listed.sort_by(|one, other| (&one.spec.name, one.id).cmp(&(&other.spec.name, other.id)));
        listed
    }
}

fn all(view: &View) -> Vec<InstanceStatus> {
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let page = view.page(after.as_ref(), 3, None);
        listed.extend(page.instances);
        match page.next {
            Some(next) => after = Some(next),
            None => return listed,
        }
    }
}

fn counts_are_right(view: &View) -> Result<(), TestCaseError> {
    let counted = counted(view);
    for index in 0..NODES {
        let node = node_id(index);
        prop_assert_eq!(view.load(&node), counted.get(&node).copied().unwrap_or_default());
        let members = view.page(None, usize::MAX, Some(&node)).instances.into_iter();
        let members =
            members.filter(|status| status.spec.placement.group.is_some() && status.phase.is_live());
        prop_assert_eq!(view.members(&"group".parse().unwrap()).on(&node) as usize, members.count());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// P09: whatever is cut, resumed, told again, answered late or twice, a view that has heard all that there is says
    /// what the agents last reported; and so it stays when the last of the late answers come.
    #[test]
    fn property_09_the_view_is_the_last_that_was_reported(
        first in collection::vec(step(), 0..60),
        second in collection::vec(step(), 0..60),
    ) {
        let mut cluster = Cluster::new();
        for steps in [first, second] {
            for step in steps {
                cluster.take(step);
            }
            cluster.catch_up();
            prop_assert_eq!(all(&cluster.view), cluster.listed());
            counts_are_right(&cluster.view)?;
        }
        while let Some((node, run, answer)) = cluster.answers.pop() {
            cluster.answer(node, run, answer);
        }
        prop_assert_eq!(all(&cluster.view), cluster.listed());
        counts_are_right(&cluster.view)?;
    }

    /// P15: a view that begins with nothing and asks every agent, in any order, says what the view before it said:
    /// instances, phases, grants, names, load.
    #[test]
    fn property_15_a_rebuilt_view_is_the_view_before(
        steps in collection::vec(step(), 0..100),
        order in Just((0..NODES).collect::<Vec<_>>()).prop_shuffle(),
        unanswered: bool,
    ) {
        let mut cluster = Cluster::new();
        for step in steps {
            cluster.take(step);
        }
        cluster.catch_up();
        let before = std::mem::take(&mut cluster.view);
        for node in order {
            cluster.agents[node].connect(true);
            while cluster.deliver(node) {}
        }
        if unanswered {
            // Calls that were under way when the old one died are answered to nobody.
            cluster.answers.clear();
        }
        while let Some((node, run, answer)) = cluster.answers.pop() {
            cluster.answer(node, run, answer);
        }
        prop_assert_eq!(all(&cluster.view), all(&before));
        for name in ["a", "b", "c"] {
            prop_assert_eq!(cluster.view.find(name), before.find(name));
        }
        for index in 0..NODES {
            prop_assert_eq!(cluster.view.load(&node_id(index)), before.load(&node_id(index)));
        }
        counts_are_right(&cluster.view)?;
    }
}
