//! What a control plane that lived through it must have told: of the loss of what it knew, and of what it did about that.

use wasmatrix_model::{Fact, FactKind, InstanceId, Timestamp};

use super::Known;
use crate::{
    World,
    cluster::{NODES, Who},
    ledger::{Acknowledged, Kind, Life},
};

/// How long a node's list may take to come when it has registered: it may be cut off again in the next moment.
const SYNC_MAX: jiff::SignedDuration = jiff::SignedDuration::from_secs(15);
/// How long a successor may take to begin, or to be given up: its node may fall silent, and the control plane be held up.
const SUCCESSION_MAX: jiff::SignedDuration = jiff::SignedDuration::from_secs(40);

pub(super) fn are_told(world: &World, known: &Known, life: &Life) {
    for started in &life.acknowledged {
        if let Some(back) = known.came_back_without(started)
            && !known.is_told(started.id)
        {
            world.findings.add(format!(
                "the control plane that started {} ({}) heard at {back} that its agent had begun anew, and told nobody \
                 that it is lost",
                life.name(),
                started.id
            ));
        }
    }
    if life.is_precious() && life.is_wanted() && life.kind == Kind::Service {
        for lost in known.facts.iter().filter(|fact| is_loss(fact, life)) {
            let id = lost.kind.subject().map(|subject| subject.id);
            if let Some(id) = id.filter(|id| known.was_left_alone(*id, lost.at)) {
                world.findings.add(format!(
                    "{} ({id}) was lost at {}, and neither succeeded nor given up",
                    life.name(),
                    lost.at
                ));
            }
        }
    }
}

fn is_loss(fact: &Fact, life: &Life) -> bool {
    matches!(&fact.kind, FactKind::InstanceLost { instance, .. } if instance.name == life.spec.name)
}

impl Known {
    /// When the control plane by which an instance was started heard of the next run of its agent. `None`: it did not, or
    /// was killed before it could tell, or the agent goes on.
    fn came_back_without(&self, started: &Acknowledged) -> Option<Timestamp> {
        let number = NODES.iter().position(|node| *node == started.node.as_str())?;
        let of_agent = self.deaths.iter().filter(|death| death.who == Who::Node(number));
        let death = of_agent.map(|death| death.at).find(|at| *at > started.created_at)?;
        let registered = self.facts.iter().find(|fact| {
            matches!(&fact.kind, FactKind::NodeRegistered { node, .. } if *node == started.node)
                && fact.at > death
        })?;
        let lived = !self.control_died(started.created_at, registered.at + SYNC_MAX);
        lived.then_some(registered.at)
    }

    /// Whether the control plane was not there at some moment between the two.
    fn control_died(&self, from: Timestamp, to: Timestamp) -> bool {
        let deaths = self.deaths.iter().filter(|death| death.who == Who::Control);
        deaths.into_iter().any(|death| death.at <= to && death.back.is_none_or(|back| back >= from))
    }

    /// Whether nobody took the place of one that was lost then, though the control plane had time for it.
    fn was_left_alone(&self, id: InstanceId, lost: Timestamp) -> bool {
        let done = |kind: &FactKind| {
            matches!(
                kind,
                FactKind::InstanceSucceeded { .. }
                    | FactKind::SuccessionFailed { .. }
                    | FactKind::InstanceFenced { .. }
                    // It had ended by itself.
                    | FactKind::InstanceCrashed { .. }
                    | FactKind::InstanceStopped { .. }
            )
        };
        let until = lost + SUCCESSION_MAX;
        until < self.at && !self.control_died(lost, until) && !self.told(id, done)
    }
}
