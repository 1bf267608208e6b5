//! Certificates whose time is over, on each end, before and during a connection.

use std::sync::Arc;

use wasmatrix_identity::*;
use wasmatrix_model::Clock;

use crate::cluster::*;

#[tokio::test]
async fn an_expired_client_is_refused_in_the_handshake_and_logged() {
    let (log, _guard) = Log::capture();
    let cluster = Cluster::new();
    let serving = serve(&cluster.control_plane(), ClientCertificate::Required, Access::ANYONE).await;
    // A client whose clock stands still does not know that its time is over.
    let client_clock: Arc<dyn Clock> = HeldClock::new();
    let admin =
        LiveCredentials::open(cluster.member("admin", Order::new(Role::Admin)), client_clock).unwrap();
    cluster.clock.turn(91 * DAY);
    let error = dial_and_call(&admin.dialer(Expected::ControlPlane), &serving.url()).await.unwrap_err();
    assert!(error.contains("our certificate has expired"), "{error}");
    serving.refusals.reach(1).await;
    let text = log.text();
    let expired = format!("its certificate expired at {}", admin.current().identity().not_after);
    assert!(text.contains("peer=127.0.0.1:") && text.contains(&expired), "{text}");
}

#[tokio::test]
async fn a_client_does_not_even_dial_with_an_expired_certificate() {
    let cluster = Cluster::new();
    let serving = serve(&cluster.control_plane(), ClientCertificate::Required, Access::ANYONE).await;
    let agent = cluster.live("a", Order::new(node("a")));
    cluster.clock.turn(31 * DAY);
    let error = dial_and_call(&agent.dialer(Expected::ControlPlane), &serving.url()).await.unwrap_err();
    assert!(error.contains("our own certificate expired at"), "{error}");
    assert_eq!(serving.refusals.count(), 0);
}

#[tokio::test]
async fn an_expired_server_is_refused_by_its_clients() {
    let cluster = Cluster::new();
    let short = control_plane().valid_for(std::time::Duration::from_secs(60));
    let serving = serve(&cluster.live("cp", short), ClientCertificate::Required, Access::ANYONE).await;
    let dialer = cluster.live("admin", Order::new(Role::Admin)).dialer(Expected::ControlPlane);
    dial_and_call(&dialer, &serving.url()).await.unwrap();
    cluster.clock.turn(61);
    let error = dial_and_call(&dialer, &serving.url()).await.unwrap_err();
    assert!(error.contains("its certificate expired at"), "{error}");
}

#[tokio::test]
async fn a_certificate_of_tomorrow_is_refused_today() {
    let (log, _guard) = Log::capture();
    let cluster = Cluster::new();
    let behind = HeldClock::new();
    let server = LiveCredentials::open(cluster.member("cp", control_plane()), behind.clone()).unwrap();
    let serving = serve(&server, ClientCertificate::Required, Access::ANYONE).await;
    cluster.clock.turn(DAY);
    let admin = cluster.live("admin", Order::new(Role::Admin)).dialer(Expected::ControlPlane);
    dial_and_call(&admin, &serving.url()).await.unwrap_err();
    let text = log.text();
    assert!(
        text.contains("its certificate is valid from") && text.contains(&behind.now().to_string()),
        "{text}"
    );
}

#[tokio::test]
async fn a_connection_that_outlives_its_certificate_is_denied_at_the_next_request() {
    let cluster = Cluster::new();
    let mut serving = serve(&cluster.control_plane(), ClientCertificate::Required, Access::ANYONE).await;
    let agent = cluster.live("a", Order::new(node("a")));
    let channel =
        agent.dialer(Expected::ControlPlane).connect(&endpoint(&serving.url()).unwrap()).await.unwrap();
    call(&channel).await.unwrap();
    assert!(!serving.peers.recv().await.unwrap().identity.unwrap().expired(cluster.clock.now()));
    cluster.clock.turn(31 * DAY);
    let error = call(&channel).await.unwrap_err();
    assert!(error.contains("the certificate expired at"), "{error}");
    assert!(serving.peers.recv().await.unwrap().identity.unwrap().expired(cluster.clock.now()));
}
