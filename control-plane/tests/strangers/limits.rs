//! How much of a control plane one peer may take: headers, streams, requests, guesses. Each has an end that is told, and
//! nobody else notices.

use std::time::Duration;

use tonic::{Code, Request, metadata::MetadataValue};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};
use wasmatrix_identity::{KeyAndRequest, Role, Token};
use wasmatrix_model::ErrorCode;
use wasmatrix_wire::v1;

use super::cluster::{Cluster, code};

#[tokio::test]
async fn headers_have_an_end() {
    let cluster = Cluster::new().await;
    let mut viewer = cluster.user(&cluster.member(Role::Viewer, "viewer"));
    for bytes in [32 << 10, 1 << 20] {
        let mut request = Request::new(v1::ListNodesRequest {});
        let huge = MetadataValue::try_from("x".repeat(bytes)).unwrap();
        request.metadata_mut().insert("x-huge", huge);
        let refused = viewer.list_nodes(request).await.unwrap_err();
        assert_ne!(refused.code(), Code::Ok, "{refused}");
    }
    viewer.list_nodes(v1::ListNodesRequest {}).await.unwrap();
}

#[tokio::test]
async fn one_connection_has_so_many_streams_and_the_next_waits() {
    let cluster = Cluster::new().await;
    let viewer = cluster.member(Role::Viewer, "viewer");
    let mut client = cluster.user(&viewer);
    let follow = || v1::WatchFactsRequest { follow: true, ..v1::WatchFactsRequest::default() };
    let mut streams = Vec::new();
    for _ in 0..256 {
        streams.push(client.watch_facts(follow()).await.unwrap());
    }
    let mut more = client.clone();
    let mut one_more = std::pin::pin!(more.list_nodes(v1::ListNodesRequest {}));
    let waits = tokio::time::timeout(Duration::from_millis(200), one_more.as_mut()).await;
    assert!(waits.is_err(), "there is no stream left on this connection");
    // Another connection, even of the same user, is another matter.
    cluster.user(&viewer).list_nodes(v1::ListNodesRequest {}).await.unwrap();
    streams.pop();
    one_more.await.unwrap();
}

#[tokio::test]
async fn a_request_for_a_certificate_has_an_end() {
    let cluster = Cluster::new().await;
    let admin = cluster.member(Role::Admin, "admin");
    let token: Token = cluster.token(&admin, v1::CreateJoinTokenRequest::default()).await;
    let key = KeyAndRequest::generate().unwrap();
    let enroll = |certificate_signing_request: String| v1::EnrollRequest {
        token: token.expose(),
        node: "worker".to_owned(),
        certificate_signing_request,
    };
    let mut joiner = cluster.joiner(&token);
    let long = joiner.enroll(enroll("x".repeat(17 << 10))).await.unwrap_err();
    assert_eq!(code(&long), ErrorCode::InvalidRequest, "{long}");
    assert!(long.message().contains("longer than the 16384"), "{long}");
    let huge = joiner.enroll(enroll("x".repeat(65 << 10))).await.unwrap_err();
    assert_eq!(huge.code(), Code::OutOfRange, "{huge}");
    // None of it cost the token.
    joiner.enroll(enroll(key.request_pem)).await.unwrap();
}

#[tokio::test]
async fn who_guesses_tokens_waits() {
    let cluster = Cluster::new().await;
    let admin = cluster.member(Role::Admin, "admin");
    let token: Token = cluster.token(&admin, v1::CreateJoinTokenRequest::default()).await;
    let key = KeyAndRequest::generate().unwrap();
    let enroll = |token: String| v1::EnrollRequest {
        token,
        node: "worker".to_owned(),
        certificate_signing_request: key.request_pem.clone(),
    };
    // The right id, and another secret each time.
    let text = token.expose();
    let parts: Vec<&str> = text.split('.').collect();
    let guess = |number: u32| [parts[0], parts[1], &format!("{number:032x}"), parts[3]].join(".");
    let mut joiner = cluster.joiner(&token);
    for number in 0..10 {
        let refused = joiner.enroll(enroll(guess(number))).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{number}: {refused}");
        assert!(!refused.message().contains("secret"), "which of the two is wrong is not said: {refused}");
    }
    for text in [guess(10), token.expose()] {
        let refused = joiner.enroll(enroll(text)).await.unwrap_err();
        assert_eq!(code(&refused), ErrorCode::ResourceExhausted, "{refused}");
        assert!(refused.message().contains("wait a minute"), "{refused}");
    }
}

#[tokio::test]
async fn a_node_is_given_so_many_certificates_and_then_waits() {
    let cluster = Cluster::new().await;
    let node = cluster.member(Role::Node("n".parse().unwrap()), "n");
    let key = KeyAndRequest::generate().unwrap();
    let renew = || v1::EnrollRequest {
        token: String::new(),
        node: "n".to_owned(),
        certificate_signing_request: key.request_pem.clone(),
    };
    let mut client = cluster.enrollment(&node);
    for _ in 0..20 {
        client.enroll(renew()).await.unwrap();
    }
    let refused = client.enroll(renew()).await.unwrap_err();
    assert_eq!(code(&refused), ErrorCode::ResourceExhausted, "{refused}");
    let other = cluster.member(Role::Node("m".parse().unwrap()), "m");
    let renew = v1::EnrollRequest { node: "m".to_owned(), ..renew() };
    cluster.enrollment(&other).enroll(renew).await.unwrap();
}

/// What the API is anybody may read in the proto files; what a server of it is, members may ask.
#[tokio::test]
async fn reflection_is_for_members() {
    let cluster = Cluster::new().await;
    let admin = cluster.member(Role::Admin, "admin");
    let token: Token = cluster.token(&admin, v1::CreateJoinTokenRequest::default()).await;
    let ask = || {
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let request = ServerReflectionRequest { host: String::new(), message_request };
        tokio_stream::iter([request])
    };
    let mut stranger = ServerReflectionClient::new(cluster.stranger(&token));
    let refused = stranger.server_reflection_info(ask()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let viewer = cluster.member(Role::Viewer, "viewer");
    let mut member = ServerReflectionClient::new(cluster.member_channel(&viewer));
    let mut answers = member.server_reflection_info(ask()).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
}
