//! P12: whichever nodes are lost, placement is right on the rest, what was there is unknown, and whoever asks for it is
//! told at once that it can't be reached.

use std::collections::BTreeSet;

use tokio::time::Instant;
use wasmatrix_model::{ErrorCode, NodePhase, Phase};
use wasmatrix_sim::Lives;

use super::*;

/// How a node is lost.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Not,
    Crash,
    Partition,
    HeldToward,
    HeldAway,
}

fn loss() -> impl Strategy<Value = Loss> {
    prop_oneof![
        3 => Just(Loss::Not),
        1 => Just(Loss::Crash),
        1 => Just(Loss::Partition),
        1 => Just(Loss::HeldToward),
        1 => Just(Loss::HeldAway),
    ]
}

impl Loss {
    fn fault(self) -> Fault {
        match self {
            Self::Not => Fault::Heal,
            Self::Crash => Fault::Crash,
            Self::Partition => Fault::Partition,
            Self::HeldToward => Fault::Hold(Direction::Toward),
            Self::HeldAway => Fault::Hold(Direction::Away),
        }
    }
}

#[test]
fn property_12_losing_any_nodes_leaves_placement_right_on_the_rest() {
    let strategy = (prop::collection::vec(loss(), 1..6), 0..12_u8, 0..12_u8, any::<bool>());
    check(strategy, async |seed, (losses, before, after, precious_too)| {
        let world = World::new(seed, losses.len(), &Lives::calm()).await;
        let mut user = world.user();
        let mut there = Vec::new();
        for number in 0..before {
            let is_precious = precious_too && number % 2 == 0;
            let name = format!("before-{number}");
            let spec = if is_precious { precious(&name) } else { spec(&name) };
            there.push(user.start(spec.into(), ARTIFACT).await.unwrap());
        }
        for (node, loss) in world.nodes.iter().zip(&losses) {
            loss.fault().befall(node).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(20)).await;

        let lost: BTreeSet<_> = world
            .nodes
            .iter()
            .zip(&losses)
            .filter(|(_, loss)| !matches!(loss, Loss::Not | Loss::HeldToward))
            .map(|(node, _)| node.traits().id.clone())
            .collect();
        for node in user.nodes().await.unwrap() {
            // A node that hears nothing is heard until it tries another connection, and then no more.
            let is_deaf = world
                .nodes
                .iter()
                .zip(&losses)
                .any(|(other, loss)| other.traits().id == node.id && matches!(loss, Loss::HeldToward));
            if !is_deaf {
                prop_assert_eq!(node.phase == NodePhase::Lost, lost.contains(&node.id), "{:?}", node);
            }
        }
        let phases = user.nodes().await.unwrap();
        let is_lost = |id| phases.iter().any(|node| node.id == id && node.phase == NodePhase::Lost);
        let listed = user.list().await.unwrap();
        for was in &there {
            let now = listed.iter().find(|status| status.id == was.id);
            if is_lost(was.node.clone()) {
                check_lost(&mut user, was, now, &listed, losses.len() - lost.len()).await?;
            } else if lost.is_empty() {
                prop_assert_eq!(now.map(|now| now.phase), Some(Phase::Running), "{}", was.spec.name);
            }
        }
        let ready =
            phases.iter().filter(|node| node.phase == NodePhase::Ready && node.reason.is_none()).count();
        for number in 0..after {
            let started = user.start(spec(&format!("after-{number}")).into(), ARTIFACT).await;
            match started {
                Ok(started) => prop_assert!(!is_lost(started.node.clone()), "placed on {}", started.node),
                Err(failure) => {
                    let deaf = losses.iter().any(|loss| matches!(loss, Loss::HeldToward));
                    let expected = matches!(failure.code, ErrorCode::NodeUnavailable | ErrorCode::Timeout);
                    prop_assert!(expected && (ready == 0 || deaf), "{failure:?}");
                }
            }
        }
        check_balance(&world, &user.list().await.unwrap(), &losses)?;
        Ok(())
    });
}

/// What was on a lost node is unknown, or succeeded; and nobody waits for an answer about it.
async fn check_lost(
    user: &mut wasmatrix_sim::User,
    was: &InstanceStatus,
    now: Option<&InstanceStatus>,
    listed: &[InstanceStatus],
    left: usize,
) -> Result<(), TestCaseError> {
    let successors: Vec<_> = listed.iter().filter(|status| status.predecessor == Some(was.id)).collect();
    let is_precious = was.spec.placement.on_node_loss == OnNodeLoss::RestartElsewhere;
    if is_precious && left > 0 && !successors.is_empty() {
        prop_assert_eq!(successors.len(), 1);
        prop_assert_eq!(successors[0].generation, was.generation + 1);
        prop_assert_ne!(&successors[0].node, &was.node);
        return Ok(());
    }
    prop_assert!(successors.is_empty() || is_precious);
    let now = now.ok_or_else(|| TestCaseError::fail(format!("{} is listed no longer", was.spec.name)))?;
    prop_assert_eq!(now.phase, Phase::Unknown);
    prop_assert_eq!(now.unknown.as_ref().map(|unknown| unknown.last_phase), Some(Phase::Running));
    let asked = Instant::now();
    let refused = user.stop(was.id.to_string().as_str()).await.unwrap_err();
    prop_assert_eq!(refused.code, ErrorCode::NodeUnavailable);
    prop_assert!(asked.elapsed() < Duration::from_secs(1), "it took {:?}", asked.elapsed());
    Ok(())
}

/// The nodes that were there all the time have the same number of instances, or one more: the least loaded was taken.
fn check_balance(world: &World, listed: &[InstanceStatus], losses: &[Loss]) -> Result<(), TestCaseError> {
    if losses.iter().any(|loss| matches!(loss, Loss::HeldToward)) {
        return Ok(());
    }
    let kept = world.nodes.iter().zip(losses).filter(|(_, loss)| matches!(loss, Loss::Not));
    let loads: Vec<usize> = kept
        .map(|(node, _)| listed.iter().filter(|status| status.node == node.traits().id).count())
        .collect();
    let (least, most) = (loads.iter().min().unwrap_or(&0), loads.iter().max().unwrap_or(&0));
    prop_assert!(most - least <= 1, "{loads:?}");
    Ok(())
}
