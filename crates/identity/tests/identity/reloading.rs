//! Certificates that are replaced under running servers and clients.

use std::{fs, time::Duration};

use wasmatrix_identity::*;

use crate::cluster::*;

/// Bounds a wait for what must come.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn open_connections_go_on_and_new_ones_show_the_new_certificate() {
    let cluster = Cluster::new();
    let mut serving = serve(&cluster.control_plane(), ClientCertificate::Required, Access::MEMBER).await;
    let admin = cluster.live("admin", Order::new(Role::Admin));
    let dialer = admin.dialer(Expected::ControlPlane);
    let open = dialer.connect(&endpoint(&serving.url()).unwrap()).await.unwrap();
    call(&open).await.unwrap();
    let old = serving.peers.recv().await.unwrap().identity.unwrap();

    cluster.member("admin", Order::new(Role::Admin));
    assert_eq!(admin.reload_now().unwrap(), Reloaded::Changed);
    assert_eq!(admin.reload_now().unwrap(), Reloaded::Unchanged);
    call(&open).await.unwrap();
    assert_eq!(serving.peers.recv().await.unwrap().identity.unwrap(), old);
    dial_and_call(&dialer, &serving.url()).await.unwrap();
    let new = serving.peers.recv().await.unwrap().identity.unwrap();
    assert_ne!(new, old);
    assert_eq!(*new, *admin.current().identity());
}

/// The authority is replaced under a running server: the old clients keep their connections, and from then on only the
/// new ones can make one. So what a server shows and whom it trusts both change, without a restart.
#[tokio::test]
async fn a_server_changes_its_certificate_and_whom_it_trusts() {
    let (old, new) = (Cluster::new(), Cluster::new());
    let server = old.control_plane();
    let serving = serve(&server, ClientCertificate::Required, Access::MEMBER).await;
    let old_client = old.live("admin", Order::new(Role::Admin)).dialer(Expected::ControlPlane);
    let new_client = new.live("admin", Order::new(Role::Admin)).dialer(Expected::ControlPlane);
    let open = old_client.connect(&endpoint(&serving.url()).unwrap()).await.unwrap();
    call(&open).await.unwrap();
    assert!(dial_and_call(&new_client, &serving.url()).await.is_err());

    let bundle = new.authority.issue(&control_plane(), wasmatrix_model::Clock::now(&*new.clock)).unwrap();
    bundle.write(server.dir(), Overwrite::Replace).unwrap();
    assert_eq!(server.reload_now().unwrap(), Reloaded::Changed);
    dial_and_call(&new_client, &serving.url()).await.unwrap();
    assert!(dial_and_call(&old_client, &serving.url()).await.is_err());
    call(&open).await.unwrap();
}

#[tokio::test]
async fn bad_files_change_nothing_and_are_complained_about_once() {
    let (log, _guard) = Log::capture();
    let cluster = Cluster::new();
    let serving = serve(&cluster.control_plane(), ClientCertificate::Required, Access::MEMBER).await;
    let admin = cluster.live("admin", Order::new(Role::Admin));
    fs::write(admin.dir().join("cert.pem"), "half a certif").unwrap();
    for _ in 0..3 {
        assert!(admin.reload_now().is_err());
    }
    dial_and_call(&admin.dialer(Expected::ControlPlane), &serving.url()).await.unwrap();
    let complaints = |text: &str| text.matches("new credentials are not used").count();
    assert_eq!(complaints(&log.text()), 1, "{}", log.text());

    cluster.member("admin", Order::new(Role::Admin));
    assert_eq!(admin.reload_now().unwrap(), Reloaded::Changed);
    fs::write(admin.dir().join("cert.pem"), "half a certif").unwrap();
    assert!(admin.reload_now().is_err());
    assert_eq!(complaints(&log.text()), 2, "after good ones it is news again");
}

#[test]
fn a_process_does_not_become_somebody_else() {
    let cluster = Cluster::new();
    let viewer = cluster.live("x", Order::new(Role::Viewer));
    cluster.member("x", Order::new(Role::Admin));
    let error = viewer.reload_now().unwrap_err().to_string();
    assert!(error.contains("were those of viewer and are now those of admin"), "{error}");
    assert_eq!(viewer.current().identity().role, Role::Viewer);
}

#[tokio::test]
async fn files_are_followed_without_a_signal() {
    let cluster = Cluster::new();
    let agent = cluster.live("a", Order::new(node("a")));
    let mut changes = agent.changes();
    let _following = agent.follow(Duration::from_millis(5));
    for _ in 0..3 {
        cluster.member("a", Order::new(node("a")));
        tokio::time::timeout(SOON, changes.changed()).await.unwrap().unwrap();
    }
}

#[test]
fn the_last_week_is_warned_of_once_a_day() {
    let (log, _guard) = Log::capture();
    let cluster = Cluster::new();
    let dir = cluster.member("admin", Order::new(Role::Admin));
    let open = || LiveCredentials::open(&dir, cluster.clock.clone()).unwrap();
    drop(open());
    assert!(!log.text().contains("expires soon"), "{}", log.text());
    cluster.clock.turn(85 * DAY);
    drop(open());
    assert!(
        log.text().contains("expires soon: renew it") && log.text().contains("days_left=5"),
        "{}",
        log.text()
    );
}
