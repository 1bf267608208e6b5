//! P16, end to end: whoever speaks another minor version is served, and whoever speaks another major one is refused with
//! both named; users by the control plane, the control plane by agents, nodes by the control plane.

use tonic::{Request, Status};
use wasmatrix_model::{ErrorCode, NodeId, NodePhase};
use wasmatrix_sim::{Lives, Net, Traits};
use wasmatrix_wire::{
    PROTOCOL,
    failure::from_status,
    protocol::HEADER,
    v1::{
        self, agent_client::AgentClient, attend_request, control_plane_client::ControlPlaneClient,
        nodes_client::NodesClient,
    },
};

use super::*;

const OTHERS: [&str; 3] = ["2.0", "0.9", "17.1"];
const MINORS: [&str; 3] = ["1.0", "1.1", "1.99"];

fn speaking<T>(version: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(HEADER, version.parse().unwrap());
    request
}

/// Whether it was refused with both versions named, to people and to programs.
fn names_both(status: &Status, theirs: &str) {
    let failure = from_status(status, wasmatrix_model::Timestamp::UNIX_EPOCH);
    assert_eq!(failure.code, ErrorCode::InvalidRequest, "{failure:?}");
    let ours = PROTOCOL.to_string();
    assert!(failure.message.contains(theirs) && failure.message.contains(&ours), "{failure:?}");
    assert_eq!(failure.details.get("protocol_theirs").map(String::as_str), Some(theirs));
    assert_eq!(failure.details.get("protocol_ours"), Some(&ours));
}

#[tokio::test(start_paused = true)]
async fn users_of_another_major_version_are_refused() {
    let world = World::new(Seed::new(1), 1, &Lives::calm()).await;
    let mut client = ControlPlaneClient::new(world.channel());
    for theirs in OTHERS {
        let refused = client.list_nodes(speaking(theirs, v1::ListNodesRequest {})).await.unwrap_err();
        names_both(&refused, theirs);
    }
    for theirs in MINORS {
        assert!(client.list_nodes(speaking(theirs, v1::ListNodesRequest {})).await.is_ok(), "{theirs}");
    }
    assert!(client.list_nodes(v1::ListNodesRequest {}).await.is_ok(), "one that says nothing");
}

#[tokio::test(start_paused = true)]
async fn an_agent_refuses_a_control_plane_of_another_major_version() {
    let net = Net::memory();
    let traits = Traits::new("node-0".parse().unwrap(), Seed::new(1));
    let clock = std::sync::Arc::new(wasmatrix_sim::SimClock::new());
    let node = wasmatrix_sim::SimNode::new(traits, net.clone(), None, clock, "http://nowhere");
    node.boot().await.unwrap();
    let mut client = AgentClient::new(net.channel("http://node-0", None));
    for theirs in OTHERS {
        let refused = client.describe_node(speaking(theirs, v1::DescribeNodeRequest {})).await.unwrap_err();
        names_both(&refused, theirs);
    }
    for theirs in MINORS {
        assert!(client.describe_node(speaking(theirs, v1::DescribeNodeRequest {})).await.is_ok(), "{theirs}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_of_another_major_version_is_not_taken_in() {
    let world = World::new(Seed::new(1), 1, &Lives::calm()).await;
    let mut client = NodesClient::new(world.channel());
    let registration = |protocol| {
        let said = world.nodes[0].machine().unwrap().registration("http://node-9");
        let id: NodeId = "node-9".parse().unwrap();
        let registration = v1::Registration { protocol: Some(protocol), id: id.into(), ..said.into() };
        let part = Some(attend_request::Part::Registration(Box::new(registration)));
        tokio_stream::iter([v1::AttendRequest { part }])
    };
    let refused = client.attend(registration(v1::ProtocolVersion { major: 2, minor: 0 })).await.unwrap_err();
    names_both(&refused, "2.0");
    assert_eq!(world.user().nodes().await.unwrap().len(), 1);
    let welcome = client.attend(registration(v1::ProtocolVersion { major: 1, minor: 0 })).await.unwrap();
    let welcome = welcome.into_inner().message().await.unwrap().unwrap();
    assert!(welcome.part.is_some(), "a minor version apart");
}

/// A node is lost, and what was there is unknown: 1.0 has no word for either, and no way to name its version.
#[tokio::test(start_paused = true)]
async fn a_user_of_1_0_is_told_what_it_has_words_for() {
    let world = World::new(Seed::new(1), 2, &Lives::calm()).await;
    let mut user = world.user();
    for name in ["one", "two", "three"] {
        user.start(keyed(spec(name)), ARTIFACT).await.unwrap();
    }
    let gone = user.list().await.unwrap()[0].clone();
    let lost = world.nodes.iter().find(|node| node.traits().id == gone.node).unwrap();
    Fault::Partition.befall(lost).await.unwrap();
    while !user.nodes().await.unwrap().iter().any(|node| node.phase == NodePhase::Lost) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut client = ControlPlaneClient::new(world.channel());
    let known = |phase: i32| phase != i32::from(v1::Phase::Unknown) && v1::Phase::try_from(phase).is_ok();
    for version in [None, Some("1.0"), Some("1.1"), Some("1.99")] {
        let new = version.is_some_and(|version| version != "1.0");
        let listed = client.list_instances(named(version, v1::ListInstancesRequest::default())).await;
        let listed = listed.unwrap().into_inner().instances;
        assert_eq!(listed.len(), 3, "{version:?}");
        let unknown = listed.iter().find(|instance| instance.id == gone.id.to_string()).unwrap();
        let running = i32::from(v1::Phase::Running);
        let phase = if new { i32::from(v1::Phase::Unknown) } else { running };
        assert_eq!((unknown.phase, unknown.unknown.is_some()), (phase, new), "{version:?}");
        assert_eq!(listed.iter().all(|instance| known(instance.phase)), !new);

        let ask = v1::GetInstanceRequest { instance: gone.spec.name.to_string() };
        match client.get_instance(named(version, ask)).await {
            Ok(answer) if new => assert_eq!(answer.into_inner().instance.unwrap().phase, phase),
            Err(refused) if !new => {
                let failure = from_status(&refused, wasmatrix_model::Timestamp::UNIX_EPOCH);
                assert_eq!(failure.code, ErrorCode::NodeUnavailable, "{failure:?}");
                let said = &failure.message;
                assert!(said.contains("is lost") && said.contains("last seen running"), "{said}");
            }
            other => panic!("{version:?}: {other:?}"),
        }

        let facts = client.watch_facts(named(version, v1::WatchFactsRequest::default())).await;
        let mut facts = facts.unwrap().into_inner();
        let (mut all, mut of_nodes) = (0, 0);
        while let Some(told) = facts.message().await.unwrap() {
            let fact = wasmatrix_model::Fact::try_from(told.fact.unwrap()).unwrap();
            all += 1;
            of_nodes += usize::from(fact.kind.name().starts_with("node-lost"));
        }
        assert!(all > 0 && (of_nodes > 0) == new, "{version:?}: {of_nodes} of {all}");
    }
}

fn named<T>(version: Option<&str>, message: T) -> Request<T> {
    match version {
        Some(version) => speaking(version, message),
        None => Request::new(message),
    }
}
