//! What goes on for long ends with the certificate that it was begun with, whatever the stream; and is told why.

use std::time::Duration;

use tonic::Code;
use wasmatrix_identity::{Expected, KeyAndRequest, LiveCredentials, Reloaded, Role, credentials::revoke};
use wasmatrix_model::FactKind;
use wasmatrix_wire::v1;

use super::cluster::{Cluster, attend, attend_by, registration};

fn follow() -> v1::WatchFactsRequest {
    v1::WatchFactsRequest { follow: true, ..v1::WatchFactsRequest::default() }
}

async fn is_recorded(cluster: &Cluster, admin: &LiveCredentials, method: &str, why: &str) {
    let told = |fact: &FactKind| matches!(fact, FactKind::AccessRefused { method: of, reason, .. } if of.ends_with(method) && reason.contains(why));
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let facts = cluster.facts(admin).await;
        if facts.iter().any(told) {
            return;
        }
        assert!(tokio::time::Instant::now() < end, "{method}, {why}: {facts:?}");
    }
}

#[tokio::test]
async fn a_stream_ends_when_its_certificate_is_taken_back() {
    let cluster = Cluster::new().await;
    let admin = cluster.member(Role::Admin, "admin");
    let [eve, bob] = ["eve", "bob"].map(|name| cluster.member(Role::Viewer, name));
    let node = cluster.member(Role::Node("n".parse().unwrap()), "n");
    let mut of_eve = cluster.user(&eve).watch_facts(follow()).await.unwrap().into_inner();
    let mut of_bob = cluster.user(&bob).watch_facts(follow()).await.unwrap().into_inner();
    let mut attending = attend(&cluster, &node, registration("n")).await.unwrap();
    for member in [&eve, &node] {
        revoke(cluster.own().dir(), member.current().identity().fingerprint, "").unwrap();
    }
    cluster.own().reload_now().unwrap();
    let ended = loop {
        match of_eve.message().await {
            Ok(Some(_)) => {}
            other => break other.unwrap_err(),
        }
    };
    assert_eq!(ended.code(), Code::PermissionDenied, "{ended}");
    assert_eq!(ended.message(), "the certificate was revoked");
    let ended = attending.answers.message().await.unwrap_err();
    assert_eq!(ended.code(), Code::PermissionDenied, "{ended}");
    is_recorded(&cluster, &admin, "/WatchFacts", "revoked").await;
    is_recorded(&cluster, &admin, "/Attend", "revoked").await;
    // It can't come back, which is recorded too; who was not meant goes on.
    cluster.user(&eve).list_nodes(v1::ListNodesRequest {}).await.unwrap_err();
    is_recorded(&cluster, &admin, "TLS handshake", "revoked").await;
    let mut told = 0;
    while told < 3 {
        let fact = of_bob.message().await.unwrap().unwrap().fact.unwrap();
        told += usize::from(matches!(fact.kind, Some(v1::fact::Kind::AccessRefused(_))));
    }
}

#[tokio::test]
async fn a_stream_ends_when_its_certificate_does() {
    let cluster = Cluster::new().await;
    let admin = cluster.member(Role::Admin, "admin");
    let viewer = cluster.member_for(Role::Viewer, "viewer", Duration::from_secs(2));
    let mut facts = cluster.user(&viewer).watch_facts(follow()).await.unwrap().into_inner();
    let ended = loop {
        match facts.message().await {
            Ok(Some(_)) => {}
            other => break other.unwrap_err(),
        }
    };
    assert_eq!(ended.code(), Code::PermissionDenied, "{ended}");
    assert!(ended.message().contains("expired"), "{ended}");
    is_recorded(&cluster, &admin, "/WatchFacts", "expired").await;
}

/// The connection by which a node attends ends with the certificate that it was made with, so that the next is made in
/// time; other connections are let be.
#[tokio::test]
async fn a_connection_that_follows_its_certificate_is_made_anew() {
    let cluster = Cluster::new().await;
    let [n, m] = ["n", "m"].map(|name| cluster.member(Role::Node(name.parse().unwrap()), name));
    let mut attends = attend(&cluster, &n, registration("n")).await.unwrap();
    let following = m.dialer(Expected::ControlPlane).following();
    let mut follows = attend_by(&cluster, &following, registration("m")).await.unwrap();
    for node in [&n, &m] {
        let next = cluster.member(node.current().identity().role.clone(), "next");
        for file in ["cert.pem", "key.pem"] {
            std::fs::rename(next.dir().join(file), node.dir().join(file)).unwrap();
        }
        std::fs::remove_dir_all(next.dir()).unwrap();
        assert_eq!(node.reload_now().unwrap(), Reloaded::Changed);
    }
    let broken = follows.answers.message().await.unwrap_err();
    assert!(format!("{broken:?}").contains("our certificate was renewed"), "{broken:?}");
    let stays = tokio::time::timeout(Duration::from_millis(200), attends.answers.message()).await;
    assert!(stays.is_err(), "{stays:?}");
    // The next one is made with the new certificate: it speaks for the node as the one before did.
    let said = registration("m");
    while attend_by(&cluster, &following, said.clone()).await.is_err() {}
}

/// Whoever sees that it is taken back has no time to get another certificate: the list on the disk is asked, which the
/// process takes up a moment later.
#[tokio::test]
async fn what_was_taken_back_a_moment_ago_is_not_renewed() {
    let cluster = Cluster::new().await;
    let node = cluster.member(Role::Node("n".parse().unwrap()), "n");
    let key = KeyAndRequest::generate().unwrap();
    let renew = || v1::EnrollRequest {
        node: "n".to_owned(),
        certificate_signing_request: key.request_pem.clone(),
        ..v1::EnrollRequest::default()
    };
    let mut client = cluster.enrollment(&node);
    client.enroll(renew()).await.unwrap();
    revoke(cluster.own().dir(), node.current().identity().fingerprint, "").unwrap();
    let refused = client.enroll(renew()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains("was revoked"), "{refused}");
}
