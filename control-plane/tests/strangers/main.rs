//! Who may ask a control plane what, over TLS on loopback: members by their roles, nodes for themselves, joiners by a
//! token; and what becomes of those who may not.
#![expect(clippy::unwrap_used, reason = "what a test takes for granted and is not so ends it")]

mod cluster;
mod lasting;
mod limits;

use futures::StreamExt as _;
use tonic::Code;
use wasmatrix_identity::{Bundle, KeyAndRequest, Role, Token};
use wasmatrix_model::{ErrorCode, FactKind};
use wasmatrix_wire::v1;

use cluster::{Cluster, attend, code, registration};

#[tokio::test]
async fn each_role_may_do_its_part_and_no_more() {
    let cluster = Cluster::new().await;
    let viewer = cluster.member(Role::Viewer, "viewer");
    let operator = cluster.member(Role::Operator, "operator");
    let admin = cluster.member(Role::Admin, "admin");
    let node = cluster.member(Role::Node("n".parse().unwrap()), "n");
    let list = v1::ListInstancesRequest::default;
    let stop = || v1::StopInstanceRequest { instance: "nobody".to_owned(), grace: None };
    let token = v1::CreateJoinTokenRequest::default;
    for member in [&viewer, &operator, &admin] {
        cluster.user(member).list_instances(list()).await.unwrap();
    }
    for member in [&operator, &admin] {
        let refused = cluster.user(member).stop_instance(stop()).await.unwrap_err();
        assert_eq!(code(&refused), ErrorCode::InstanceNotFound, "it was let through: {refused}");
    }
    cluster.user(&admin).create_join_token(token()).await.unwrap();
    let denied = [
        cluster.user(&viewer).stop_instance(stop()).await.unwrap_err(),
        cluster.user(&operator).create_join_token(token()).await.unwrap_err(),
        cluster.user(&node).list_instances(list()).await.unwrap_err(),
        cluster.user(&node).stop_instance(stop()).await.unwrap_err(),
        attend(&cluster, &admin, registration("n")).await.unwrap_err(),
    ];
    for refusal in denied {
        assert_eq!(refusal.code(), Code::PermissionDenied, "{refusal}");
    }
    let facts = cluster.facts(&admin).await;
    let refused = facts.iter().filter(|fact| matches!(fact, FactKind::AccessRefused { .. })).count();
    assert_eq!(refused, 5, "{facts:?}");
}

#[tokio::test]
async fn a_node_speaks_for_itself_alone_and_nobody_for_the_control_plane() {
    let cluster = Cluster::new().await;
    let node = cluster.member(Role::Node("n".parse().unwrap()), "n");
    attend(&cluster, &node, registration("n")).await.unwrap();
    let refused = attend(&cluster, &node, registration("m")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains("may not speak for node m"), "{refused}");
    let own = cluster.member(Role::Node("control-plane".parse().unwrap()), "impostor");
    let refused = attend(&cluster, &own, registration("control-plane")).await.unwrap_err();
    assert_eq!(code(&refused), ErrorCode::InvalidRequest, "{refused}");
    let admin = cluster.member(Role::Admin, "admin");
    let facts = cluster.facts(&admin).await;
    let told = |fact: &FactKind| matches!(fact, FactKind::AccessRefused { peer, method, .. } if peer.contains("node n") && method.ends_with("/Attend"));
    assert!(facts.iter().any(told), "{facts:?}");
}

#[tokio::test]
async fn a_second_agent_of_one_node_is_refused_while_the_first_attends() {
    let cluster = Cluster::new().await;
    let node = cluster.member(Role::Node("n".parse().unwrap()), "n");
    let first = registration("n");
    let mut stream = attend(&cluster, &node, first.clone()).await.unwrap();
    let refused = attend(&cluster, &node, registration("n")).await.unwrap_err();
    assert_eq!(code(&refused), ErrorCode::InvalidRequest, "{refused}");
    assert!(refused.message().contains("another agent attends as node n"), "{refused}");
    let _again = attend(&cluster, &node, first).await.unwrap();
    let ended = stream.answers.next().await.unwrap().unwrap_err();
    assert!(ended.message().contains("another one of the node has taken its place"), "{ended}");
}

#[tokio::test]
async fn another_major_version_is_refused_with_both_named() {
    let cluster = Cluster::new().await;
    let admin = cluster.member(Role::Admin, "admin");
    let mut request = tonic::Request::new(v1::ListNodesRequest {});
    request.metadata_mut().insert("wasmatrix-protocol", "2.0".parse().unwrap());
    let refused = cluster.user(&admin).list_nodes(request).await.unwrap_err();
    assert_eq!(code(&refused), ErrorCode::InvalidRequest);
    assert!(refused.message().contains("2.0") && refused.message().contains("1."), "{refused}");
    let mut request = tonic::Request::new(v1::ListNodesRequest {});
    request.metadata_mut().insert("wasmatrix-protocol", "1.99".parse().unwrap());
    cluster.user(&admin).list_nodes(request).await.unwrap();
    let node = cluster.member(Role::Node("n".parse().unwrap()), "n");
    let mut from_the_future = registration("n");
    from_the_future.protocol = Some(v1::ProtocolVersion { major: 2, minor: 0 });
    let refused = attend(&cluster, &node, from_the_future).await.unwrap_err();
    assert!(refused.message().contains("2.0"), "{refused}");
}

#[tokio::test]
async fn a_token_is_good_for_one_machine_once() {
    let cluster = Cluster::new().await;
    let admin = cluster.member(Role::Admin, "admin");
    let request =
        v1::CreateJoinTokenRequest { node: "worker".to_owned(), ..v1::CreateJoinTokenRequest::default() };
    let answer = cluster.user(&admin).create_join_token(request).await.unwrap().into_inner();
    assert!(answer.expires_at.is_some());
    let token: Token = answer.token.parse().unwrap();
    let key = KeyAndRequest::generate().unwrap();
    let enroll = |node: &str| v1::EnrollRequest {
        token: token.expose(),
        node: node.to_owned(),
        certificate_signing_request: key.request_pem.clone(),
    };
    let mut joiner = cluster.joiner(&token);
    let refused = joiner.enroll(enroll("other")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let given = joiner.enroll(enroll("worker")).await.unwrap().into_inner();
    let bundle = Bundle { ca_pem: given.authority, certificate_pem: given.certificate, key_pem: key.key_pem };
    let worker = cluster.write(&bundle, "worker");
    attend(&cluster, &worker, registration("worker")).await.unwrap();
    let replayed = joiner.enroll(enroll("worker")).await.unwrap_err();
    assert_eq!(replayed.code(), Code::PermissionDenied, "{replayed}");
    // The certificate that it has gets it the next one, and nobody else's.
    let next = KeyAndRequest::generate().unwrap();
    let renew = |node: &str| v1::EnrollRequest {
        node: node.to_owned(),
        certificate_signing_request: next.request_pem.clone(),
        ..v1::EnrollRequest::default()
    };
    cluster.enrollment(&worker).enroll(renew("worker")).await.unwrap();
    let refused = cluster.enrollment(&worker).enroll(renew("other")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let refused = joiner.enroll(renew("worker")).await.unwrap_err();
    assert!(refused.message().contains("join token is needed"), "{refused}");
    let facts = cluster.facts(&admin).await;
    let refused = facts
        .iter()
        .filter(|fact| matches!(fact, FactKind::AccessRefused { method, .. } if method.ends_with("/Enroll")));
    assert_eq!(refused.count(), 4, "{facts:?}");
}

#[tokio::test]
async fn a_token_for_any_node_is_no_way_to_become_one_that_there_is() {
    let cluster = Cluster::new().await;
    let admin = cluster.member(Role::Admin, "admin");
    let known = cluster.member(Role::Node("n".parse().unwrap()), "n");
    let _attends = attend(&cluster, &known, registration("n")).await.unwrap();
    let create = |node: &str| v1::CreateJoinTokenRequest { node: node.to_owned(), valid_for: None };
    let open: Token = cluster.token(&admin, create("")).await;
    let bound: Token = cluster.token(&admin, create("n")).await;
    let key = KeyAndRequest::generate().unwrap();
    let enroll = |token: &Token, node: &str| v1::EnrollRequest {
        token: token.expose(),
        node: node.to_owned(),
        certificate_signing_request: key.request_pem.clone(),
    };
    let refused = cluster.joiner(&open).enroll(enroll(&open, "n")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains("token create --node n"), "{refused}");
    cluster.joiner(&open).enroll(enroll(&open, "m")).await.unwrap();
    cluster.joiner(&bound).enroll(enroll(&bound, "n")).await.unwrap();
}

#[tokio::test]
async fn a_stranger_reaches_nothing_but_the_way_in() {
    let cluster = Cluster::new().await;
    let admin = cluster.member(Role::Admin, "admin");
    let token = cluster.user(&admin).create_join_token(v1::CreateJoinTokenRequest::default()).await.unwrap();
    let channel = cluster.stranger(&token.into_inner().token.parse().unwrap());
    let mut user = v1::control_plane_client::ControlPlaneClient::new(channel);
    let refused = user.list_nodes(v1::ListNodesRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let facts = cluster.facts(&admin).await;
    let told =
        |fact: &FactKind| matches!(fact, FactKind::AccessRefused { peer, .. } if peer.contains("stranger"));
    assert!(facts.iter().any(told), "{facts:?}");
}
