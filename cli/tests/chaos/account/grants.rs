//! Grants: what is listed is what was acknowledged, and what is listed is in force at the next call of the guest, and no
//! other.

use std::time::Duration;

use wasmatrix_model::{InstanceStatus, Phase};

use super::{Known, PAUSE};
use crate::{
    World,
    agents::Agent,
    cluster::NODES,
    ledger::{Kind, Life, PRIVILEGES, TURN, grant},
};

/// Longest wait for two turns of a service.
const TURNS_MAX: Duration = Duration::from_secs(60);

/// A turn of a service: its number, and which of [`PRIVILEGES`] it was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    number: u64,
    denied: [bool; PRIVILEGES.len()],
}

pub(super) async fn agree(world: &World, known: &Known, lives: &[Life]) {
    let mut looked_at = 0;
    for status in &known.listed {
        let of_name = |life: &&Life| life.spec.name == status.spec.name && life.kind == Kind::Service;
        let Some(life) = lives.iter().find(of_name) else { continue };
        let name = life.name();
        for (grant, held) in &life.grants {
            let holds = status.grants.holds(grant);
            if known.should_hold(life, *held).is_some_and(|should| should != holds) {
                world.findings.add(format!(
                    "{name} on {}, generation {}, {} {grant}: its user knows {held:?}",
                    status.node,
                    status.generation,
                    if holds { "holds" } else { "does not hold" },
                ));
            }
        }
        if status.phase == Phase::Running {
            looked_at += 1;
            in_force(world, status).await;
        }
    }
    world.findings.figures(format!("services whose grants were seen in force: {looked_at}"));
}

/// What a running service is denied is what it is not listed to hold.
async fn in_force(world: &World, status: &InstanceStatus) {
    let number = NODES.iter().position(|node| *node == status.node.as_str()).expect("one of ours");
    let mut agent = Agent::of(world, number);
    let mut first = None;
    let (id, name) = (status.id.to_string(), &status.spec.name);
    let later = async {
        loop {
            let turn = agent.tail(&id).await.ok().and_then(|lines| last_turn(&lines));
            match (first, turn) {
                // The turn may have begun before the grants were listed; the one after the next has not.
                (Some(first), Some(turn)) if turn.number >= first + 2 => return turn,
                (None, Some(turn)) => first = Some(turn.number),
                _ => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let Ok(turn) = tokio::time::timeout(TURNS_MAX, later).await else {
        world.findings.add(format!("{name} on {} is listed as running, and takes no turns", status.node));
        return;
    };
    for ((text, step), denied) in PRIVILEGES.iter().zip(turn.denied) {
        let holds = status.grants.holds(&grant(text));
        if holds == denied {
            let (listed, met) =
                (if holds { "is" } else { "is not" }, if denied { "denied" } else { "allowed" });
            world
                .findings
                .add(format!("{name} on {} {listed} listed with {text}, and `{step}` is {met}", status.node));
        }
    }
}

/// The last turn that is whole: a mark, the count, and an answer for each privilege.
fn last_turn(lines: &[String]) -> Option<Turn> {
    let whole = |at: &usize| lines.len() > at + 1 + PRIVILEGES.len();
    let at = (0..lines.len()).rev().filter(whole).find(|at| lines[*at] == TURN)?;
    let number = lines[at + 1].parse().ok()?;
    let denied = std::array::from_fn(|index| lines[at + 2 + index] == "denied");
    Some(Turn { number, denied })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_read_when_it_is_whole() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let whole = lines("ok turn 7 none denied ok denied ok turn 8 none");
        let denied = [false, true, false, true];
        assert_eq!(last_turn(&whole), Some(Turn { number: 7, denied }));
        assert_eq!(last_turn(&lines("turn 7 none denied ok")), None);
    }
}
