//! Members who speak to each other, each with what it is.

use tokio::net::TcpListener;
use wasmatrix_identity::*;

use crate::cluster::*;

#[tokio::test]
async fn a_service_knows_who_calls() {
    let cluster = Cluster::new();
    let mut serving = serve(&cluster.control_plane(), ClientCertificate::Required, Access::MEMBER).await;
    for role in [Role::Admin, Role::Operator, Role::Viewer, node("a"), Role::ControlPlane] {
        let mut order = Order::new(role.clone()).named("ada");
        if role == Role::ControlPlane {
            order = order.at(["localhost".parse().unwrap()]);
        }
        let client = cluster.live("client", order);
        dial_and_call(&client.dialer(Expected::ControlPlane), &serving.url()).await.unwrap();
        let peer = serving.peers.recv().await.unwrap();
        assert!(peer.encrypted);
        let identity = peer.identity.unwrap();
        assert_eq!(*identity, *client.current().identity());
        assert_eq!((&identity.role, identity.name.as_str()), (&role, "ada"));
    }
    assert_eq!(serving.refusals.count(), 0);
}

#[tokio::test]
async fn a_role_that_does_not_suffice_is_told_which_would() {
    let cluster = Cluster::new();
    let serving = serve(&cluster.control_plane(), ClientCertificate::Required, Access::ADMIN).await;
    for (role, passes) in [(Role::Admin, true), (Role::Viewer, false), (node("a"), false)] {
        let client = cluster.live("client", Order::new(role.clone()));
        let called = dial_and_call(&client.dialer(Expected::ControlPlane), &serving.url()).await;
        assert_eq!(called.is_ok(), passes, "{role}");
        if let Err(error) = called {
            assert!(error.contains("needs the role admin") && error.contains(&role.to_string()), "{error}");
        }
    }
}

#[tokio::test]
async fn a_node_answers_its_control_plane() {
    let cluster = Cluster::new();
    let agent = cluster.live("a", Order::new(node("a")));
    let serving = serve(&agent, ClientCertificate::Required, Access::CONTROL_PLANE).await;
    let control_plane = cluster.control_plane();
    let to_a = control_plane.dialer(Expected::Node("a".parse().unwrap()));
    dial_and_call(&to_a, &serving.url()).await.unwrap();
    let another = cluster.live("b", Order::new(node("b"))).dialer(Expected::Node("a".parse().unwrap()));
    let error = dial_and_call(&another, &serving.url()).await.unwrap_err();
    assert!(error.contains("needs the role control plane"), "{error}");
}

#[tokio::test]
async fn a_listener_for_joiners_takes_those_without_a_certificate_and_still_proves_the_others() {
    let cluster = Cluster::new();
    let mut serving = serve(&cluster.control_plane(), ClientCertificate::Optional, Access::ANYONE).await;
    let stranger = Dialer::pinned(cluster.authority.fingerprint(), cluster.clock.clone());
    dial_and_call(&stranger, &serving.url()).await.unwrap();
    assert!(serving.peers.recv().await.unwrap().identity.is_none());
    let member = cluster.live("a", Order::new(node("a"))).dialer(Expected::ControlPlane);
    dial_and_call(&member, &serving.url()).await.unwrap();
    assert_eq!(serving.peers.recv().await.unwrap().identity.unwrap().role, node("a"));
}

#[tokio::test]
async fn in_plain_text_nobody_is_anybody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut serving = serve_incoming(address, Incoming::plain(listener), Access::ANYONE, HeldClock::new());
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    call(&endpoint.connect().await.unwrap()).await.unwrap();
    let peer = serving.peers.recv().await.unwrap();
    assert!(peer.identity.is_none() && !peer.encrypted);

    let cluster = Cluster::new();
    let dialer = cluster.live("a", Order::new(Role::Admin)).dialer(Expected::ControlPlane);
    let error = dial_and_call(&dialer, &serving.url()).await.unwrap_err();
    assert!(error.contains("does not speak TLS"), "{error}");
}

#[tokio::test]
async fn who_dies_in_the_middle_of_a_handshake_is_out_of_reach_and_no_impostor() {
    let cluster = Cluster::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let dying = tokio::spawn(async move {
        // Once with what was said to it unread, which is a reset, and once with all of it read.
        drop(listener.accept().await.unwrap());
        let (mut connection, _) = listener.accept().await.unwrap();
        tokio::io::AsyncReadExt::read_u8(&mut connection).await.unwrap();
        let mut rest = [0; 4096];
        let _ = connection.try_read(&mut rest);
    });
    let dialer = cluster.live("a", Order::new(Role::Admin)).dialer(Expected::ControlPlane);
    for _ in 0..2 {
        let error = dialer.connect(&endpoint(&url).unwrap()).await.unwrap_err();
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        let dial = std::iter::from_fn(|| {
            let now = cause?;
            cause = now.source();
            Some(now)
        });
        let dial = dial.into_iter().find_map(|cause| cause.downcast_ref::<DialError>()).unwrap();
        assert!(matches!(dial, DialError::Unreachable { .. }), "{dial}");
    }
    dying.await.unwrap();
}

#[tokio::test]
async fn a_users_certificate_answers_no_connections() {
    let cluster = Cluster::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = cluster.live("admin", Order::new(Role::Admin));
    let incoming = admin.incoming(listener, ClientCertificate::Required, HandshakeLimits::default());
    assert_eq!(incoming.unwrap_err(), NotAServer(Role::Admin));
}
