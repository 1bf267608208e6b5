//! Certificates that are refused before their time is over, on new connections and open ones.

use std::fs;

use wasmatrix_identity::{credentials::revoke, *};

use crate::cluster::*;

#[tokio::test]
async fn a_revoked_certificate_opens_nothing_and_what_it_opened_is_shut() {
    let (log, _guard) = Log::capture();
    let cluster = Cluster::new();
    let server = cluster.control_plane();
    let serving = serve(&server, ClientCertificate::Required, Access::MEMBER).await;
    let [lost, kept] = ["lost", "kept"].map(|name| cluster.live(name, Order::new(Role::Admin)));
    let channel = |live: &LiveCredentials| {
        let dialer = live.dialer(Expected::ControlPlane);
        let endpoint = endpoint(&serving.url()).unwrap();
        async move { dialer.connect(&endpoint).await.unwrap() }
    };
    let (lost_open, kept_open) = (channel(&lost).await, channel(&kept).await);
    call(&lost_open).await.unwrap();

    let fingerprint = lost.current().identity().fingerprint;
    assert!(revoke(server.dir(), fingerprint, "left in a train\n").unwrap());
    assert!(!revoke(server.dir(), fingerprint, "").unwrap(), "once is enough");
    assert_eq!(server.reload_now().unwrap(), Reloaded::Changed);

    let error = call(&lost_open).await.unwrap_err();
    assert!(error.contains("the certificate was revoked"), "{error}");
    let error = dial_and_call(&lost.dialer(Expected::ControlPlane), &serving.url()).await.unwrap_err();
    assert!(error.contains("our certificate was revoked"), "{error}");
    serving.refusals.reach(1).await;
    assert!(log.text().contains("reason=\"its certificate was revoked\""), "{}", log.text());
    call(&kept_open).await.unwrap();
    dial_and_call(&kept.dialer(Expected::ControlPlane), &serving.url()).await.unwrap();
}

#[tokio::test]
async fn clients_refuse_servers_that_are_revoked() {
    let cluster = Cluster::new();
    let server = cluster.control_plane();
    let serving = serve(&server, ClientCertificate::Required, Access::MEMBER).await;
    let agent = cluster.live("a", Order::new(node("a")));
    revoke(agent.dir(), server.current().identity().fingerprint, "").unwrap();
    agent.reload_now().unwrap();
    let error = dial_and_call(&agent.dialer(Expected::ControlPlane), &serving.url()).await.unwrap_err();
    assert!(error.contains("its certificate was revoked"), "{error}");
}

#[test]
fn a_list_that_can_not_be_read_in_full_is_not_used_and_the_one_in_use_stays() {
    let cluster = Cluster::new();
    let server = cluster.control_plane();
    let [first, second] = ["first", "second"].map(|name| cluster.live(name, Order::new(Role::Admin)));
    let [first, second] = [first, second].map(|live| live.current().identity().fingerprint);
    let list = server.dir().join("revoked.txt");
    fs::write(&list, format!("# those who left\n\n  {first} # ada")).unwrap();
    assert!(revoke(server.dir(), second, "").unwrap());
    server.reload_now().unwrap();
    assert!(server.current().revoked(first) && server.current().revoked(second));

    fs::write(&list, format!("{first}\nsha256:12\n")).unwrap();
    let error = server.reload_now().unwrap_err().to_string();
    assert!(error.contains("line 2 of revoked.txt is no fingerprint"), "{error}");
    assert!(server.current().revoked(second), "the old list stays");
    assert!(
        LiveCredentials::open(server.dir(), cluster.clock.clone()).is_err(),
        "and nobody starts with half a list"
    );
    fs::remove_file(&list).unwrap();
    server.reload_now().unwrap();
    assert!(!server.current().revoked(first));
}
