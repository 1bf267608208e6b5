//! Who deserves a successor, and that each has one at most.

use wasmatrix_model::{Clock as _, Digest, InstanceSpec, Placement, SystemClock, Unknown};

use super::*;

fn instance(on_node_loss: OnNodeLoss, last_phase: Phase, waits: bool) -> InstanceStatus {
    let spec = InstanceSpec {
        placement: Placement { on_node_loss, ..Placement::default() },
        ..InstanceSpec::new("a".parse().unwrap(), Digest::of(b""))
    };
    let now = SystemClock.now();
    InstanceStatus {
        id: InstanceId::generate(),
        node: "n".parse().unwrap(),
        spec,
        phase: Phase::Unknown,
        grants: wasmatrix_model::Grants::default(),
        created_at: now,
        started_at: None,
        last_exit: None,
        restart_count: 0,
        next_restart_at: waits.then_some(now),
        usage: wasmatrix_model::Usage::default(),
        generation: 1,
        predecessor: None,
        idempotency_key: None,
        revision: 1,
        unknown: Some(Unknown { since: now, last_phase, reason: String::new() }),
    }
}

#[test]
fn only_what_was_to_go_on_and_says_so_has_a_successor() {
    use Phase::{Crashed, Pending, Running, Starting, Stopped, Stopping, Unknown};
    for (phase, waits, expected) in [
        (Pending, false, true),
        (Starting, false, true),
        (Running, false, true),
        (Stopping, false, false),
        (Stopped, false, false),
        (Crashed, false, false),
        (Stopped, true, true),
        (Crashed, true, true),
        (Unknown, false, false),
    ] {
        assert_eq!(
            deserves(&instance(OnNodeLoss::RestartElsewhere, phase, waits)),
            expected,
            "{phase} {waits}"
        );
        assert!(!deserves(&instance(OnNodeLoss::Leave, phase, waits)), "{phase}");
    }
}

#[test]
fn a_succession_is_one_persons_work_and_done_once() {
    let successions = Successions::default();
    let id = InstanceId::generate();
    assert!(successions.claim(id) && !successions.claim(id));
    successions.done(id);
    assert!(successions.claim(id), "the next loss is another");
}
