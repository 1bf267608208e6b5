//! The view, case by case; what holds in every case is in [`properties`].

mod properties;

use std::collections::BTreeMap;

use wasmatrix_model::{Digest, InstanceSpec, OnNodeLoss, Placement, Usage};

use super::*;

fn node_id(index: usize) -> NodeId {
    format!("n{index}").parse().unwrap()
}

fn instance_id(number: u64) -> InstanceId {
    format!("{number:032x}").parse().unwrap()
}

fn named(name: &str) -> InstanceSpec {
    InstanceSpec::new(name.parse().unwrap(), Digest::of(b"artifact"))
}

fn movable(name: &str) -> InstanceSpec {
    let on_node_loss = OnNodeLoss::RestartElsewhere;
    InstanceSpec { placement: Placement { on_node_loss, ..Placement::default() }, ..named(name) }
}

/// A running instance.
fn status(node: &NodeId, number: u64, revision: u64, spec: InstanceSpec) -> InstanceStatus {
    InstanceStatus {
        id: instance_id(number),
        node: node.clone(),
        grants: spec.grants.clone(),
        spec,
        phase: Phase::Running,
        created_at: Timestamp::UNIX_EPOCH,
        started_at: None,
        last_exit: None,
        restart_count: 0,
        next_restart_at: None,
        usage: Usage::default(),
        generation: 1,
        predecessor: None,
        idempotency_key: None,
        revision,
        unknown: None,
    }
}

/// A node with these instances, in a run of its own, synced.
fn tell(view: &mut View, node: &NodeId, statuses: &[InstanceStatus]) -> (RunId, Vec<Gone>) {
    let run = RunId::generate();
    view.reset(node, run);
    for status in statuses {
        let change = view.upsert(node, run, Source::Stream, status.clone());
        assert!(matches!(change, Change::New | Change::Updated), "{change:?}");
    }
    let through = statuses.iter().map(|status| status.revision).max().unwrap_or_default();
    (run, view.synced(node, run, through))
}

fn ids(statuses: &[InstanceStatus]) -> Vec<InstanceId> {
    statuses.iter().map(|status| status.id).collect()
}

#[test]
fn what_an_agent_lists_no_longer_after_its_restart_is_lost() {
    let (mut view, node) = (View::default(), node_id(0));
    let (a, b) = (status(&node, 1, 1, named("a")), status(&node, 2, 2, named("b")));
    let (run, gone) = tell(&mut view, &node, &[a.clone(), b.clone()]);
    assert_eq!(gone, []);

    // The same run lists it no longer: somebody removed it.
    view.reset(&node, run);
    view.upsert(&node, run, Source::Stream, a.clone());
    assert_eq!(view.len(), 2, "what is not told yet is not gone yet");
    assert_eq!(view.synced(&node, run, 2), [Gone { status: b, lost: false, succeeded: None }]);

    let (_, gone) = tell(&mut view, &node, &[]);
    assert_eq!(gone, [Gone { status: a, lost: true, succeeded: None }]);
    assert!(view.is_empty());
}

#[test]
fn an_answer_shows_at_once_and_never_goes_back() {
    let (mut view, node) = (View::default(), node_id(0));
    let (run, _) = tell(&mut view, &node, &[]);
    let started = status(&node, 1, 5, named("a"));
    let stopped = InstanceStatus { phase: Phase::Stopped, revision: 6, ..started.clone() };
    assert_eq!(view.upsert(&node, run, Source::Answer, started.clone()), Change::New);
    assert_eq!(view.upsert(&node, run, Source::Answer, stopped.clone()), Change::Updated);
    assert_eq!(view.upsert(&node, run, Source::Stream, started.clone()), Change::Outdated);
    assert_eq!(view.get(started.id), Some(stopped.clone()));

    assert_eq!(view.remove(&node, run, started.id), Some(stopped.clone()));
    assert_eq!(view.upsert(&node, run, Source::Stream, stopped.clone()), Change::Outdated);
    assert_eq!(view.upsert(&node, run, Source::Answer, stopped), Change::Outdated);
    assert!(view.is_empty());
    assert_eq!(view.upsert(&node, RunId::generate(), Source::Answer, started), Change::Outdated);
}

#[test]
fn revisions_of_two_runs_are_not_compared() {
    let (mut view, node) = (View::default(), node_id(0));
    let before = status(&node, 1, 90, named("a"));
    tell(&mut view, &node, std::slice::from_ref(&before));
    let after = InstanceStatus { phase: Phase::Stopped, revision: 1, ..before };
    tell(&mut view, &node, std::slice::from_ref(&after));
    assert_eq!(view.get(after.id), Some(after));
}

#[test]
fn a_node_speaks_only_for_itself() {
    let (mut view, node, other) = (View::default(), node_id(0), node_id(1));
    let own = status(&node, 1, 1, named("a"));
    tell(&mut view, &node, std::slice::from_ref(&own));
    let (run, _) = tell(&mut view, &other, &[]);
    let refused = |change| matches!(change, Change::Refused(_));
    assert!(refused(view.upsert(&other, run, Source::Stream, own.clone())));
    let claimed = status(&other, 1, 9, named("stolen"));
    assert!(refused(view.upsert(&other, run, Source::Stream, claimed)));
    let unknown = Unknown { since: Timestamp::UNIX_EPOCH, last_phase: Phase::Running, reason: String::new() };
    let told = status(&other, 2, 9, named("b"));
    let told = InstanceStatus { phase: Phase::Unknown, unknown: Some(unknown), ..told };
    assert!(refused(view.upsert(&other, run, Source::Stream, told)));
    assert_eq!(view.remove(&other, run, own.id), None);
    assert_eq!(view.page(None, 10, None).instances, [own]);
}

#[test]
fn a_node_can_not_make_the_search_for_a_name_long() {
    let (mut view, node, other) = (View::default(), node_id(0), node_id(1));
    let (run, _) = tell(&mut view, &node, &[]);
    let refused = |change| matches!(change, Change::Refused(_));
    let mut tell_one = |number, name| {
        let told = status(&node, number, number, movable(name));
        view.upsert(&node, run, Source::Stream, told)
    };
    let most = NAMESAKES_MAX as u64;
    for number in 1..=most {
        assert_eq!(tell_one(number, "a"), Change::New);
    }
    assert!(refused(tell_one(most + 1, "a")));
    assert_eq!(tell_one(most + 1, "b"), Change::New);
    assert!(refused(tell_one(most + 1, "a")), "nor by another name first");
    assert_eq!(tell_one(1, "a"), Change::Updated);
    tell(&mut view, &other, &[status(&other, 1000, 1, movable("a"))]);
    assert_eq!(view.holders(&"a".parse().unwrap()).len(), NAMESAKES_MAX + 1);
}

#[test]
fn silence_makes_unknown_what_could_still_change() {
    let (mut view, node) = (View::default(), node_id(0));
    let running = status(&node, 1, 1, named("running"));
    let stopped = InstanceStatus { phase: Phase::Stopped, ..status(&node, 2, 2, named("stopped")) };
    let crashed = InstanceStatus { phase: Phase::Crashed, ..status(&node, 3, 3, named("crashed")) };
    let waiting = status(&node, 4, 4, named("waiting"));
    let waiting =
        InstanceStatus { phase: Phase::Crashed, next_restart_at: Some(Timestamp::UNIX_EPOCH), ..waiting };
    let all = [crashed, running.clone(), stopped, waiting.clone()];
    tell(&mut view, &node, &all);

    let since = Timestamp::from_second(7).unwrap();
    let unknown = view.unknown(&node, since, "not heard for 15 s");
    assert_eq!(ids(&unknown), [running.id, waiting.id]);
    let silence = Unknown { since, last_phase: Phase::Crashed, reason: "not heard for 15 s".to_owned() };
    let told = InstanceStatus { phase: Phase::Unknown, unknown: Some(silence), ..waiting };
    assert_eq!(view.get(told.id), Some(told));
    assert_eq!(view.unknown(&node, since, "again"), [], "nothing became unknown by it");

    view.known(&node);
    assert_eq!(view.page(None, 10, None).instances, all);
    assert_eq!(ids(&view.unknown(&node, since, "again")).len(), 2);
    assert_eq!(view.forget(&node).len(), 4);
    assert_eq!((view.len(), view.nodes().count()), (0, 0));
    assert_eq!(view.unknown(&node, since, "again"), []);
}

#[test]
fn a_name_stands_for_the_latest_generation_and_may_stand_for_several() {
    let (mut view, one, other) = (View::default(), node_id(0), node_id(1));
    let first = status(&one, 1, 1, movable("web"));
    let second =
        InstanceStatus { generation: 2, predecessor: Some(first.id), ..status(&other, 2, 1, movable("web")) };
    assert_eq!(view.find("web"), Found::None);
    tell(&mut view, &one, std::slice::from_ref(&first));
    assert_eq!(view.find("web"), Found::One(Box::new(first.clone())));
    assert_eq!(view.find(&first.id.to_string()), Found::One(Box::new(first.clone())));
    tell(&mut view, &other, std::slice::from_ref(&second));
    assert_eq!(view.find("web"), Found::One(Box::new(second.clone())));
    assert_eq!(view.find(&first.id.to_string()), Found::One(Box::new(first.clone())));
    assert_eq!(view.holders(&first.spec.name), [first.clone(), second.clone()]);

    let third = node_id(2);
    let independent = InstanceStatus { generation: 2, ..status(&third, 3, 1, named("web")) };
    tell(&mut view, &third, std::slice::from_ref(&independent));
    assert_eq!(view.find("web"), Found::Several(vec![second, independent]));
    assert_eq!((view.find("we"), view.find("webs")), (Found::None, Found::None));
}

#[test]
fn a_name_goes_before_an_id() {
    let (mut view, node) = (View::default(), node_id(0));
    let first = status(&node, 1, 1, named("a"));
    // A UUID is a legal name.
    let second = status(&node, 2, 2, named(&first.id.to_string()));
    tell(&mut view, &node, &[first.clone(), second.clone()]);
    assert_eq!(view.find(&first.id.to_string()), Found::One(Box::new(second)));
}

#[test]
fn the_latest_instance_with_an_idempotency_key_is_found() {
    let (mut view, node) = (View::default(), node_id(0));
    let keyed = |number, key: &str, generation| InstanceStatus {
        idempotency_key: Some(key.to_owned()),
        generation,
        ..status(&node, number, number, named(&format!("i{number}")))
    };
    let statuses = [keyed(1, "b", 1), keyed(2, "a", 2), keyed(3, "a", 1), status(&node, 4, 4, named("none"))];
    let (run, _) = tell(&mut view, &node, &statuses);
    assert_eq!(view.with_idempotency_key("a").map(|status| status.id), Some(instance_id(2)));
    assert_eq!(view.with_idempotency_key("b").map(|status| status.id), Some(instance_id(1)));
    assert_eq!(view.with_idempotency_key("c"), None);
    view.remove(&node, run, instance_id(2));
    assert_eq!(view.with_idempotency_key("a").map(|status| status.id), Some(instance_id(3)));
}

#[test]
fn a_copy_is_stale_once_it_was_succeeded() {
    let (mut view, one, other) = (View::default(), node_id(0), node_id(1));
    let first = status(&one, 1, 1, movable("web"));
    let second =
        InstanceStatus { generation: 2, predecessor: Some(first.id), ..status(&other, 2, 1, movable("web")) };
    let stale = Stale {
        node: one.clone(),
        id: first.id,
        name: first.spec.name.clone(),
        generation: 1,
        later: 2,
        twin: None,
    };
    tell(&mut view, &one, std::slice::from_ref(&first));
    let (run, _) = tell(&mut view, &other, std::slice::from_ref(&second));
    assert_eq!(view.stale(&one), std::slice::from_ref(&stale));
    assert_eq!(view.stale(&other), []);
    assert_eq!(view.overtaken_by(second.id), std::slice::from_ref(&stale));

    // It stays so when the successor is removed, and when the node is forgotten and returns.
    view.remove(&other, run, second.id);
    assert_eq!(view.succeeded_by(first.id), Some(2));
    view.forget(&one);
    tell(&mut view, &one, std::slice::from_ref(&first));
    assert_eq!(view.stale(&one), [stale]);
    let (_, gone) = tell(&mut view, &one, &[]);
    assert_eq!(gone, [Gone { status: first.clone(), lost: true, succeeded: Some(2) }]);
    assert_eq!(view.succeeded_by(first.id), None, "it never comes back");

    let third = status(&one, 3, 3, named("db"));
    tell(&mut view, &one, std::slice::from_ref(&third));
    view.succeeded(third.id, 2);
    assert_eq!(view.stale(&one).len(), 1);
}

#[test]
fn of_two_that_came_of_one_request_the_earlier_is_stale() {
    let keyed = |node: &NodeId, number, key: &str| InstanceStatus {
        idempotency_key: Some(key.to_owned()),
        ..status(node, number, 1, named("web"))
    };
    let (one, other) = (node_id(0), node_id(1));
    for order in [[0, 1], [1, 0]] {
        let mut view = View::default();
        for index in order {
            let (node, number) = [(&one, 1), (&other, 2)][index];
            tell(&mut view, node, &[keyed(node, number, "k")]);
        }
        let stale = view.stale(&one);
        assert_eq!(stale.len(), 1, "{order:?}");
        assert_eq!((stale[0].later, stale[0].twin), (1, Some(instance_id(2))));
        assert_eq!(view.stale(&other), [], "the later one stays, whoever tells first");
        for told_last in [1, 2] {
            assert_eq!(view.overtaken_by(instance_id(told_last)), stale);
        }
        assert_eq!(view.succeeded_by(instance_id(1)), Some(1), "nobody need take its place");
    }
    let mut view = View::default();
    tell(&mut view, &one, &[keyed(&one, 1, "k")]);
    tell(&mut view, &other, &[keyed(&other, 2, "l")]);
    assert_eq!(view.stale(&one), [], "of another request");
    let successor = InstanceStatus { generation: 2, ..keyed(&other, 3, "k") };
    tell(&mut view, &other, &[successor]);
    assert_eq!(view.stale(&one), [], "nobody said that it came after that one");
}

#[test]
fn a_distant_ancestor_is_known_by_its_name_and_spec() {
    let (mut view, one, other) = (View::default(), node_id(0), node_id(1));
    let later = |generation, spec| InstanceStatus {
        generation,
        predecessor: Some(instance_id(100)),
        ..status(&other, 9, 9, spec)
    };
    for (ancestor, latest, stale) in [
        (movable("web"), later(3, movable("web")), true),
        // Generation 2 names another as the one that it came after.
        (movable("web"), later(2, movable("web")), false),
        // Nobody moved it.
        (named("web"), later(3, named("web")), false),
        (InstanceSpec { args: vec!["x".to_owned()], ..movable("web") }, later(3, movable("web")), false),
        (movable("db"), later(3, movable("web")), false),
    ] {
        tell(&mut view, &one, &[status(&one, 1, 1, ancestor)]);
        tell(&mut view, &other, &[latest]);
        assert_eq!(view.stale(&one).len(), usize::from(stale), "{stale}");
        assert_eq!(view.overtaken_by(instance_id(9)).len(), usize::from(stale));
        view.forget(&one);
        view.forget(&other);
    }
}

#[test]
fn a_page_goes_on_where_the_last_one_ended_whatever_changes_between() {
    let (mut view, node) = (View::default(), node_id(0));
    let statuses: Vec<_> =
        (0..10).map(|number| status(&node, number, number + 1, named(&format!("i{number}")))).collect();
    let (run, _) = tell(&mut view, &node, &statuses);
    let first = view.page(None, 4, None);
    assert_eq!(first.instances, statuses[..4]);
    let token: PageToken = first.next.unwrap().to_string().parse().unwrap();
    // The one that the token names goes, one comes before it, one after it.
    view.remove(&node, run, instance_id(3));
    for (number, name) in [(20, "i1-more"), (21, "i5-more")] {
        view.upsert(&node, run, Source::Stream, status(&node, number, number, named(name)));
    }
    let second = view.page(Some(&token), 100, None);
    let names: Vec<_> = second.instances.iter().map(|status| status.spec.name.as_str()).collect();
    assert_eq!(names, ["i4", "i5", "i5-more", "i6", "i7", "i8", "i9"]);
    assert_eq!(second.next, None);
    assert_eq!(view.page(None, 11, None).next, None);
    assert!(view.page(None, 10, None).next.is_some());
    assert!("no token".parse::<PageToken>().is_err());
}

#[test]
fn a_node_lists_its_own() {
    let (mut view, one, other) = (View::default(), node_id(0), node_id(1));
    let (a, b, c) =
        (status(&one, 1, 1, named("a")), status(&other, 2, 1, named("b")), status(&one, 3, 2, named("c")));
    tell(&mut view, &one, &[a.clone(), c.clone()]);
    tell(&mut view, &other, std::slice::from_ref(&b));
    assert_eq!(view.page(None, 10, Some(&one)).instances, [a.clone(), c.clone()]);
    let page = view.page(None, 1, Some(&one));
    assert_eq!((page.instances, page.next), (vec![a.clone()], Some(PageToken::after(&a))));
    assert_eq!(view.page(None, 10, Some(&node_id(7))), Page { instances: vec![], next: None });
    assert_eq!(view.page(None, 10, None).instances, [a, b, c]);
}

#[test]
fn groups_and_loads_are_counted_as_instances_live_and_end() {
    let (mut view, node) = (View::default(), node_id(0));
    let group: InstanceName = "web".parse().unwrap();
    let member = |number, phase| {
        let mut spec = named(&format!("web-{number}"));
        spec.placement.group = Some(group.clone());
        InstanceStatus { phase, ..status(&node, number, number, spec) }
    };
    let (run, _) = tell(
        &mut view,
        &node,
        &[member(1, Phase::Running), member(2, Phase::Pending), member(3, Phase::Stopped)],
    );
    assert_eq!((view.members(&group).on(&node), view.load(&node).instances), (2, 3));
    assert_eq!(view.load(&node).instances_live, 2);
    assert_eq!(view.load(&node).memory_bytes_committed, 512 << 20);
    let ended = InstanceStatus { revision: 9, ..member(1, Phase::Crashed) };
    view.upsert(&node, run, Source::Stream, ended);
    view.remove(&node, run, instance_id(2));
    assert_eq!((view.members(&group).on(&node), view.load(&node).instances), (0, 2));
    assert_eq!(view.load(&node).memory_bytes_committed, 0);
    assert!(view.groups.is_empty(), "nothing is left of a group without members");
}

#[test]
fn a_spec_is_kept_once_for_all_that_were_made_alike() {
    let (mut view, node) = (View::default(), node_id(0));
    let mut statuses: Vec<_> =
        (0..100).map(|number| status(&node, number, number + 1, named(&format!("i{number}")))).collect();
    statuses.push(status(&node, 100, 101, movable("i100")));
    tell(&mut view, &node, &statuses);
    assert_eq!(view.specs.len(), 2);
    tell(&mut view, &node, &[]);
    assert_eq!(view.specs.len(), 0);
}

#[test]
fn what_is_remembered_of_the_removed_is_bounded() {
    let mut removed = Removed::default();
    for number in 0..=REMOVED_MAX as u64 {
        removed.remember(instance_id(number));
        removed.remember(instance_id(number));
    }
    assert!(!removed.contains(instance_id(0)));
    assert!(removed.contains(instance_id(1)));
    assert_eq!((removed.ids.len(), removed.oldest_first.len()), (REMOVED_MAX, REMOVED_MAX));
}

/// What the view counts, counted from what it lists.
fn counted(view: &View) -> BTreeMap<NodeId, Load> {
    let mut loads = BTreeMap::<_, Load>::new();
    for status in view.page(None, usize::MAX, None).instances {
        let load = loads.entry(status.node).or_default();
        load.instances += 1;
        if status.phase.is_live() {
            load.instances_live += 1;
            load.memory_bytes_committed += status.spec.limits.memory_bytes_max;
        }
    }
    loads
}
