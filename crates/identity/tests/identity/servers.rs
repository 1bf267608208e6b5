//! Servers that are not the one that was meant: the client finds out before it says a word.

use wasmatrix_identity::*;

use crate::cluster::*;

#[tokio::test]
async fn a_node_is_no_control_plane_and_no_other_node() {
    let cluster = Cluster::new();
    let agent = cluster.live("a", Order::new(node("a")).at(["127.0.0.1".parse().unwrap()]));
    let serving = serve(&agent, ClientCertificate::Optional, Access::ANYONE).await;
    let admin = cluster.live("admin", Order::new(Role::Admin));
    let error = dial_and_call(&admin.dialer(Expected::ControlPlane), &serving.url()).await.unwrap_err();
    assert!(error.contains("it is node a, and not control plane"), "{error}");
    let to_b = admin.dialer(Expected::Node("b".parse().unwrap()));
    let error = dial_and_call(&to_b, &serving.url()).await.unwrap_err();
    assert!(error.contains("it is node a, and not node b"), "{error}");
    let joiner = Dialer::pinned(cluster.authority.fingerprint(), cluster.clock.clone());
    let error = dial_and_call(&joiner, &serving.url()).await.unwrap_err();
    assert!(error.contains("and not control plane"), "{error}");
}

#[tokio::test]
async fn a_control_plane_answers_at_its_own_hosts_only() {
    let cluster = Cluster::new();
    let elsewhere = Order::new(Role::ControlPlane).at(["cp.example".parse().unwrap()]);
    let serving = serve(&cluster.live("cp", elsewhere), ClientCertificate::Optional, Access::ANYONE).await;
    let admin = cluster.live("admin", Order::new(Role::Admin)).dialer(Expected::ControlPlane);
    let error = dial_and_call(&admin, &serving.url()).await.unwrap_err();
    assert!(error.contains("is for cp.example, and not for 127.0.0.1"), "{error}");
    let by_name = format!("https://localhost:{}", serving.address.port());
    let error = dial_and_call(&admin, &by_name).await.unwrap_err();
    assert!(error.contains("is for cp.example, and not for localhost"), "{error}");
}

#[tokio::test]
async fn a_joiner_believes_the_authority_of_its_token_and_no_other() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let serving = serve(&ours.control_plane(), ClientCertificate::Optional, Access::ANYONE).await;
    let to_ours = Dialer::pinned(ours.authority.fingerprint(), ours.clock.clone());
    dial_and_call(&to_ours, &serving.url()).await.unwrap();
    let to_theirs = Dialer::pinned(theirs.authority.fingerprint(), ours.clock.clone());
    let error = dial_and_call(&to_theirs, &serving.url()).await.unwrap_err();
    assert!(error.contains("belongs to another cluster than the token"), "{error}");
    // The server's own certificate is no authority, whatever the token says.
    let own = ours.live("again", control_plane());
    let to_leaf = Dialer::pinned(own.current().identity().fingerprint, ours.clock.clone());
    let serving = serve(&own, ClientCertificate::Optional, Access::ANYONE).await;
    assert!(dial_and_call(&to_leaf, &serving.url()).await.is_err());
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let cluster = Cluster::new();
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let dialer = cluster.live("admin", Order::new(Role::Admin)).dialer(Expected::ControlPlane);
    let error = dial_and_call(&dialer, &format!("https://{free}")).await.unwrap_err();
    assert!(error.contains(&format!("{free} can't be reached")), "{error}");
}
