//! Instances of a simulated node: starts, ends, restarts, grants, fencing, and what watchers are told of all that.

use futures::{StreamExt as _, TryStreamExt as _};
use wasmatrix_model::{ErrorCode, ExitCause, Fact, FactKind, OnNodeLoss, Placement};
use wasmatrix_wire::{Assignment, v1::watch_instances_response::Change};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_start_is_listed_running_and_a_stop_ends_it() {
    let mut front =
        Front::on(Net::memory(), Lives { run: None, failures_percent: 0, ..Lives::restless() }).await;
    let started = front.start(spec("a")).await.unwrap();
    assert_eq!((started.phase, started.node.as_str()), (Phase::Running, "node-0"));
    let stop = v1::StopInstanceRequest { instance: "a".to_owned(), grace: None };
    front.client.stop_instance(stop).await.unwrap();
    let stopped = front.get("a").await.unwrap();
    assert_eq!(stopped.phase, Phase::Stopped);
    assert_eq!(stopped.last_exit.unwrap().cause, ExitCause::StopRequested);
    assert!(stopped.revision > started.revision);
    let remove = v1::RemoveInstanceRequest { instance: "a".to_owned() };
    front.client.remove_instance(remove).await.unwrap();
    assert_eq!(front.get("a").await.unwrap_err().code, ErrorCode::InstanceNotFound);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_those_of_the_real_agent() {
    let mut front = Front::new().await;
    front.start(spec("a")).await.unwrap();
    let code = |refused: Result<InstanceStatus, Failure>| {
        let failure = refused.unwrap_err();
        (failure.code, failure.details.get("field").cloned().unwrap_or_default())
    };
    assert_eq!(code(front.start(spec("a")).await), (ErrorCode::InvalidRequest, "name".to_owned()));
    let other = front.start_with(spec("b"), Bytes::from_static(b"another")).await;
    assert_eq!(code(other), (ErrorCode::InvalidRequest, "digest".to_owned()));
    let unknown = InstanceSpec::new("c".parse().unwrap(), Digest::of(b"never seen"));
    let missing = front.start_with(unknown, Bytes::new()).await.unwrap_err();
    assert_eq!(missing.details.get("artifact").map(String::as_str), Some("missing"));
    assert!(front.start_with(spec("d"), Bytes::new()).await.is_ok(), "the node holds these bytes already");
    let remove = front.client.remove_instance(v1::RemoveInstanceRequest { instance: "a".to_owned() }).await;
    assert_eq!(failure(remove.unwrap_err()).code, ErrorCode::RestartPolicyViolation);
}

#[tokio::test(start_paused = true)]
async fn a_key_makes_one_instance_of_many_starts() {
    let mut front = Front::new().await;
    let request = |spec| StartRequest { spec, idempotency_key: Some("k".to_owned()), assignment: None };
    let first = front.start(request(spec("a"))).await.unwrap();
    let again = front.start(request(spec("a"))).await.unwrap();
    assert_eq!((first.id, Some("k".to_owned())), (again.id, again.idempotency_key));
    let other = front.start(request(spec("b"))).await.unwrap_err();
    assert_eq!(other.code, ErrorCode::InvalidRequest);
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_followed_by_what_the_policy_says() {
    let mut front = Front::new().await;
    let restart = RestartPolicy { restarts_max: Some(2), ..RestartPolicy::with_mode(RestartMode::OnFailure) };
    let status = front.start(InstanceSpec { restart, ..doomed("a", "5s", "trap") }).await.unwrap();
    let machine = front.node.machine().unwrap();
    let ended = |status: &InstanceStatus| status.phase == Phase::Crashed && status.next_restart_at.is_none();
    let ended = machine.until(status.id, ended).await.unwrap();
    assert_eq!(ended.restart_count, 2);
    let facts: Vec<_> = machine.facts.watch("", false).unwrap().try_collect::<Vec<_>>().await.unwrap();
    let names: Vec<_> = facts.iter().skip(2).map(|watched| watched.fact.kind.name()).collect();
    let run = ["instance-started", "instance-crashed", "instance-restarted"];
    let expected = [&["instance-created"], &run[..], &run[..], &run[..2], &["restarts-exhausted"]].concat();
    assert_eq!(names, expected);
    let first_run = facts[4].fact.at.duration_since(facts[3].fact.at);
    assert_eq!(first_run.as_secs(), 5, "and the clock went with it");
}

#[tokio::test(start_paused = true)]
async fn a_watcher_is_told_all_and_goes_on_where_it_was() {
    let mut front = Front::new().await;
    let first = front.start(spec("a")).await.unwrap();
    let watch = |token: &str| v1::WatchInstancesRequest { resume_token: token.to_owned() };
    let mut watched = front.client.watch_instances(watch("")).await.unwrap().into_inner();
    let mut told = Vec::new();
    while let Some(message) = watched.message().await.unwrap() {
        let is_synced = matches!(message.change, Some(Change::Synced(_)));
        told.push(message);
        if is_synced {
            break;
        }
    }
    assert!(matches!(told[0].change, Some(Change::Reset(_))));
    let Some(Change::Instance(status)) = &told[1].change else { panic!("{:?}", told[1]) };
    assert_eq!(status.id, first.id.to_string());
    assert_eq!(told.len(), 3);

    drop(watched);
    let second = front.start(spec("b")).await.unwrap();
    front.node.machine().unwrap().stop("a").unwrap();
    let mut watched = front.client.watch_instances(watch(&told[2].resume_token)).await.unwrap().into_inner();
    let mut next = async || watched.message().await.unwrap().unwrap().change.unwrap();
    let Change::Instance(status) = next().await else { panic!("no reset is due") };
    assert_eq!(status.id, second.id.to_string());
    let Change::Instance(status) = next().await else { panic!("then the stop") };
    assert_eq!((status.phase(), status.id), (v1::Phase::Stopped, first.id.to_string()));
    assert!(matches!(next().await, Change::Synced(_)));
    front.node.machine().unwrap().remove("a").unwrap();
    assert_eq!(next().await, Change::Removed(first.id.to_string()));

    front.node.boot().await.unwrap();
    // The old connection died with the node; the channel notices and makes another.
    let mut front = Front { client: AgentClient::new(front.net.channel("http://node-0", None)), ..front };
    let mut watched = front.client.watch_instances(watch(&told[2].resume_token)).await.unwrap().into_inner();
    let reset = watched.message().await.unwrap().unwrap().change.unwrap();
    assert!(matches!(reset, Change::Reset(_)), "a token of another run");
    assert!(matches!(watched.message().await.unwrap().unwrap().change, Some(Change::Synced(_))));
}

#[tokio::test(start_paused = true)]
async fn a_fenced_copy_ends_at_once_and_is_forgotten() {
    let mut front = Front::new().await;
    let predecessor = wasmatrix_model::InstanceId::generate();
    let placement = Placement { on_node_loss: OnNodeLoss::RestartElsewhere, ..Placement::default() };
    let request = StartRequest {
        spec: InstanceSpec { placement, ..spec("a") },
        idempotency_key: None,
        assignment: Some(Assignment { generation: 2, predecessor: Some(predecessor), grants: None }),
    };
    let status = front.start(request).await.unwrap();
    assert_eq!((status.generation, status.predecessor), (2, Some(predecessor)));
    let fetch = v1::FetchArtifactRequest { digest: status.spec.digest.to_string() };
    let chunks = front.client.fetch_artifact(fetch).await.unwrap().into_inner();
    let chunks: Vec<_> = chunks.map(|chunk| chunk.unwrap().chunk).collect().await;
    assert_eq!(chunks.concat(), ARTIFACT);

    let fence = |generation| v1::FenceInstanceRequest {
        instance: status.id.to_string(),
        generation,
        twin: String::new(),
    };
    assert!(front.client.fence_instance(fence(2)).await.is_err(), "its own generation is no later one");
    front.client.fence_instance(fence(3)).await.unwrap();
    assert_eq!(front.get("a").await.unwrap_err().code, ErrorCode::InstanceNotFound);
    let machine = front.node.machine().unwrap();
    let facts = machine.facts.watch("", false).unwrap().try_collect::<Vec<_>>().await.unwrap();
    let Fact { kind, .. } = &*facts.last().unwrap().fact;
    assert!(matches!(kind, FactKind::InstanceFenced { generation: 3, .. }), "{kind:?}");
}

#[tokio::test]
async fn over_tcp_it_is_the_same() {
    let mut front = Front::on(Net::Loopback, Lives::calm()).await;
    assert!(front.node.address().unwrap().starts_with("http://127.0.0.1:"));
    let address = front.node.address();
    assert_eq!(front.start(spec("a")).await.unwrap().phase, Phase::Running);
    front.node.boot().await.unwrap();
    assert_eq!(front.node.address(), address, "a node keeps its address");
    let client = AgentClient::new(front.net.channel(&address.unwrap(), None));
    let mut front = Front { client, ..front };
    assert_eq!(front.get("a").await.unwrap_err().code, ErrorCode::InstanceNotFound);
}
