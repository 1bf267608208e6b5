//! Those who do not belong: each is refused in the handshake, and the log says who and why.

use std::{sync::Arc, time::Duration};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use wasmatrix_identity::*;

use crate::cluster::*;

/// No more than this many handshakes are watched while they wait for nothing.
const FOR_EVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn who_shows_no_certificate_is_refused_and_logged() {
    let (log, _guard) = Log::capture();
    let cluster = Cluster::new();
    let serving = serve(&cluster.control_plane(), ClientCertificate::Required, Access::ANYONE).await;
    let stranger = Dialer::pinned(cluster.authority.fingerprint(), cluster.clock.clone());
    let error = dial_and_call(&stranger, &serving.url()).await.unwrap_err();
    assert!(error.contains("requires a certificate"), "{error}");
    serving.refusals.reach(1).await;
    let text = log.text();
    assert!(text.contains("peer=127.0.0.1:") && text.contains("it shows no certificate"), "{text}");
}

#[tokio::test]
async fn a_member_of_another_cluster_is_refused_by_both_sides() {
    let (log, _guard) = Log::capture();
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let serving = serve(&ours.control_plane(), ClientCertificate::Required, Access::ANYONE).await;

    let dialer = theirs.live("admin", Order::new(Role::Admin)).dialer(Expected::ControlPlane);
    let error = dial_and_call(&dialer, &serving.url()).await.unwrap_err();
    assert!(error.contains("not signed by this cluster's authority"), "{error}");

    // One that trusts our authority and has a certificate of the other: only the server can refuse it.
    let files = theirs.member("spy", Order::new(Role::Admin));
    let error = raw_call(&serving, &ours, &files).await.unwrap_err();
    assert!(error.contains("UnknownCA"), "{error}");
    serving.refusals.reach(2).await;
    let text = log.text();
    assert!(text.contains("reason=\"its certificate is not signed by this cluster's authority\""), "{text}");
}

#[tokio::test]
async fn a_certificate_without_exactly_one_role_is_refused_whoever_signed_it() {
    let (log, _guard) = Log::capture();
    let cluster = Cluster::new();
    let serving = serve(&cluster.control_plane(), ClientCertificate::Required, Access::ANYONE).await;
    let table: [(&[&str], &str); 4] = [
        (&[], "names no role"),
        (&["wasmatrix://role/viewer", "wasmatrix://role/admin"], "carries 2 URIs"),
        (&["wasmatrix://role/viewer", "spiffe://somewhere/else"], "carries 2 URIs"),
        (&["wasmatrix://role/king"], "its URI is not a role's"),
    ];
    for (refused, (uris, reason)) in table.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        forged(&cluster, dir.path(), uris);
        raw_call(&serving, &cluster, dir.path()).await.unwrap_err();
        serving.refusals.reach(refused as u64 + 1).await;
        let text = log.text();
        assert!(text.lines().last().unwrap().contains(reason), "{text}");
    }
}

#[tokio::test]
async fn the_authority_itself_is_nobody() {
    let cluster = Cluster::new();
    let serving = serve(&cluster.control_plane(), ClientCertificate::Required, Access::ANYONE).await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(cluster.ca_dir().join("ca.pem"), dir.path().join("cert.pem")).unwrap();
    std::fs::copy(cluster.ca_dir().join("ca-key.pem"), dir.path().join("key.pem")).unwrap();
    raw_call(&serving, &cluster, dir.path()).await.unwrap_err();
    serving.refusals.reach(1).await;
}

#[tokio::test]
async fn who_speaks_plain_text_to_tls_is_refused_and_logged() {
    let (log, _guard) = Log::capture();
    let cluster = Cluster::new();
    let serving = serve(&cluster.control_plane(), ClientCertificate::Optional, Access::ANYONE).await;
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    closed(&mut stream).await;
    serving.refusals.reach(1).await;
    let text = log.text();
    assert!(text.contains("reason=\"it does not speak TLS\""), "{text}");
}

#[tokio::test]
async fn those_who_say_nothing_keep_nobody_out() {
    let (log, _guard) = Log::capture();
    let cluster = Cluster::new();
    let limits = HandshakeLimits { unproven_max: 4, handshake: FOR_EVER, ..HandshakeLimits::default() };
    let serving =
        serve_within(&cluster.control_plane(), ClientCertificate::Required, Access::MEMBER, limits).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(connect_from("127.0.0.2:0", &serving).await);
    }
    let dialer = cluster.live("admin", Order::new(Role::Admin)).dialer(Expected::ControlPlane);
    let url = serving.url();
    let (first, second) = tokio::join!(dial_and_call(&dialer, &url), dial_and_call(&dialer, &url));
    assert_eq!((first, second), (Ok(()), Ok(())));
    closed(&mut silent[0]).await;
    serving.refusals.reach(1).await;
    let text = log.text();
    assert!(text.contains("peer=127.0.0.2:") && text.contains("this was the slowest"), "{text}");
}

#[tokio::test]
async fn a_handshake_has_an_end() {
    let (log, _guard) = Log::capture();
    let cluster = Cluster::new();
    let limits = HandshakeLimits { handshake: Duration::from_millis(50), ..HandshakeLimits::default() };
    let serving =
        serve_within(&cluster.control_plane(), ClientCertificate::Required, Access::MEMBER, limits).await;
    closed(&mut connect_from("127.0.0.1:0", &serving).await).await;
    serving.refusals.reach(1).await;
    let text = log.text();
    assert!(text.contains("was not finished within 0.05 seconds"), "{text}");
}

#[tokio::test]
async fn a_server_that_stops_lets_go_of_handshakes() {
    let cluster = Cluster::new();
    let limits = HandshakeLimits { handshake: FOR_EVER, ..HandshakeLimits::default() };
    let serving =
        serve_within(&cluster.control_plane(), ClientCertificate::Required, Access::MEMBER, limits).await;
    let mut silent = connect_from("127.0.0.1:0", &serving).await;
    drop(serving);
    closed(&mut silent).await;
}

#[tokio::test]
async fn refusals_are_all_counted_and_not_all_logged() {
    let (log, _guard) = Log::capture();
    let cluster = Cluster::new();
    let serving = serve(&cluster.control_plane(), ClientCertificate::Required, Access::MEMBER).await;
    let knock = async || {
        let mut stream = connect_from("127.0.0.1:0", &serving).await;
        stream.write_all(b"hello, hello").await.unwrap();
        closed(&mut stream).await;
    };
    for _ in 0..50 {
        knock().await;
    }
    serving.refusals.reach(50).await;
    let lines = |text: &str| text.lines().filter(|line| line.contains("handshake was refused")).count();
    assert_eq!(lines(&log.text()), 20);
    cluster.clock.turn(1);
    knock().await;
    serving.refusals.reach(51).await;
    let text = log.text();
    assert!(lines(&text) == 21 && text.lines().last().unwrap().contains("unlogged=30"), "{text}");
}

#[tokio::test]
async fn no_session_is_resumed_past_its_certificate() {
    let cluster = Cluster::new();
    let serving = serve(&cluster.control_plane(), ClientCertificate::Required, Access::MEMBER).await;
    let config = raw_config(&cluster, &cluster.member("admin", Order::new(Role::Admin)));
    for _ in 0..2 {
        let mut stream = raw_connect(&serving, config.clone()).await.unwrap();
        // The server's first bytes come after whatever tickets it would send.
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        stream.read_u8().await.unwrap();
        let connection = stream.get_ref().1;
        assert_eq!(connection.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(connection.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        assert_eq!(connection.tls13_tickets_received(), 0);
    }
}

pub(crate) async fn connect_from(source: &str, serving: &Serving) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(source.parse().unwrap()).unwrap();
    socket.connect(serving.address).await.unwrap()
}

/// Waits until the other end has closed it.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await; // by an end or by a reset
}

/// A client that is none of ours: it trusts `cluster`, shows whatever is in `files`, and keeps sessions.
pub(crate) fn raw_config(cluster: &Cluster, files: &std::path::Path) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(cluster.authority.certificate_pem().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let chain = vec![CertificateDer::from_pem_file(files.join("cert.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(files.join("key.pem")).unwrap();
    let time = Arc::new(TimeOf(cluster.clock.clone()));
    let mut config = rustls::ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_webpki_verifier(verifier.build().unwrap())
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

#[derive(Debug)]
pub(crate) struct TimeOf(pub(crate) Arc<HeldClock>);

impl rustls::time_provider::TimeProvider for TimeOf {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        use wasmatrix_model::Clock as _;
        let seconds = u64::try_from(self.0.now().as_second()).unwrap();
        Some(rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

async fn raw_connect(
    serving: &Serving,
    config: Arc<rustls::ClientConfig>,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(serving.address).await.unwrap();
    tokio_rustls::TlsConnector::from(config).connect("localhost".try_into().unwrap(), stream).await
}

/// Connects and waits for the first byte, which comes after the server has looked at the certificate.
async fn raw_call(serving: &Serving, cluster: &Cluster, files: &std::path::Path) -> Result<(), String> {
    let connected = raw_connect(serving, raw_config(cluster, files)).await;
    let mut stream = connected.map_err(|error| error.to_string())?;
    stream.read_u8().await.map(drop).map_err(|error| error.to_string())
}
