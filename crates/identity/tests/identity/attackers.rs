//! An attacker's hour at the door: other protocols, other versions, roles in the wrong place, connections without end,
//! files that others can write to.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use wasmatrix_identity::*;

use crate::{
    cluster::*,
    strangers::{TimeOf, connect_from, raw_config},
};

type Stream = tokio_rustls::client::TlsStream<TcpStream>;

/// What a client of TLS 1.2 says first: that version, two of its ciphers, and nothing of 1.3.
const HELLO_OF_TLS_1_2: &[u8] = b"\x16\x03\x01\x00\x39\x01\x00\x00\x35\x03\x03\
    0123456789abcdef0123456789abcdef\x00\x00\x04\xc0\x2f\xc0\x2b\x01\x00\
    \x00\x08\x00\x0d\x00\x04\x00\x02\x04\x03";
/// An alert of TLS: fatal, `protocol_version`.
const ALERT_VERSION: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 70];

#[tokio::test]
async fn tls_1_2_is_refused_by_its_name() {
    let (log, _guard) = Log::capture();
    let cluster = Cluster::new();
    let serving = serve(&cluster.control_plane(), ClientCertificate::Optional, Access::ANYONE).await;
    let mut stream = connect_from("127.0.0.1:0", &serving).await;
    stream.write_all(HELLO_OF_TLS_1_2).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, ALERT_VERSION);
    serving.refusals.reach(1).await;
    assert!(log.text().contains("it speaks another TLS than 1.3"), "{}", log.text());
}

/// Somebody without a certificate, who offers those protocols.
async fn stranger(
    cluster: &Cluster,
    serving: &Serving,
    from: &str,
    protocols: &[&str],
) -> std::io::Result<Stream> {
    let mut roots = rustls::RootCertStore::empty();
    let authority = cluster.authority.certificate_pem();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let time = Arc::new(TimeOf(cluster.clock.clone()));
    let mut config = rustls::ClientConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_webpki_verifier(verifier.build().unwrap())
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = connect_from(from, serving).await;
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await
}

#[tokio::test]
async fn http_1_is_not_spoken() {
    let cluster = Cluster::new();
    let serving = serve(&cluster.control_plane(), ClientCertificate::Optional, Access::ANYONE).await;
    let refused = stranger(&cluster, &serving, "127.0.0.1:0", &["http/1.1"]).await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    // Who does not say what he speaks is found out by his first words.
    let mut stream = stranger(&cluster, &serving, "127.0.0.1:0", &[]).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await; // by an end or by a reset
    assert!(!answer.starts_with(b"HTTP/1"), "{answer:?}");
}

#[tokio::test]
async fn those_without_a_certificate_are_few_and_keep_nobody_out() {
    let cluster = Cluster::new();
    let limits = HandshakeLimits { strangers_max: 3, ..HandshakeLimits::default() };
    let serving =
        serve_within(&cluster.control_plane(), ClientCertificate::Optional, Access::ANYONE, limits).await;
    let mut there = Vec::new();
    for _ in 0..3 {
        let mut stream = stranger(&cluster, &serving, "127.0.0.2:0", &["h2"]).await.unwrap();
        greet(&mut stream).await;
        there.push(stream);
    }
    // Another source takes the place of the oldest of those.
    let mut newcomer = stranger(&cluster, &serving, "127.0.0.3:0", &["h2"]).await.unwrap();
    greet(&mut newcomer).await;
    ended(&mut there[0]).await;
    // Members are none of them.
    let dialer = cluster.live("admin", Order::new(Role::Admin)).dialer(Expected::ControlPlane);
    dial_and_call(&dialer, &serving.url()).await.unwrap();
}

#[tokio::test]
async fn those_without_a_certificate_do_not_stay() {
    let cluster = Cluster::new();
    let limits = HandshakeLimits { strangers_for: Duration::from_millis(50), ..HandshakeLimits::default() };
    let serving =
        serve_within(&cluster.control_plane(), ClientCertificate::Optional, Access::ANYONE, limits).await;
    ended(&mut stranger(&cluster, &serving, "127.0.0.1:0", &["h2"]).await.unwrap()).await;
}

#[tokio::test]
async fn one_certificate_has_so_many_connections_and_others_have_theirs() {
    let (log, _guard) = Log::capture();
    let cluster = Cluster::new();
    let limits = HandshakeLimits { per_certificate_max: 2, ..HandshakeLimits::default() };
    let serving =
        serve_within(&cluster.control_plane(), ClientCertificate::Required, Access::MEMBER, limits).await;
    let [one, other] = ["one", "other"].map(|name| cluster.live(name, Order::new(Role::Viewer)));
    let config = raw_config(&cluster, one.dir());
    let connect = || async {
        let stream = TcpStream::connect(serving.address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        tokio_rustls::TlsConnector::from(config.clone()).connect(name, stream).await.unwrap()
    };
    let mut there = Vec::new();
    for _ in 0..2 {
        let mut stream = connect().await;
        greet(&mut stream).await;
        there.push(stream);
    }
    ended(&mut connect().await).await;
    serving.refusals.reach(1).await;
    assert!(log.text().contains("2 connections are open with its certificate"), "{}", log.text());
    dial_and_call(&other.dialer(Expected::ControlPlane), &serving.url()).await.unwrap();
    // One that ends makes room; when that is noticed is the server's affair.
    drop(there);
    while dial_and_call(&one.dialer(Expected::ControlPlane), &serving.url()).await.is_err() {}
}

/// Waits for the server's first words: it is served.
async fn greet(stream: &mut Stream) {
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    stream.read_u8().await.unwrap();
}

async fn ended(stream: &mut Stream) {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await; // by an end or by a reset
}

/// A role in every place but the one where it is looked for is none.
#[tokio::test]
async fn a_role_in_the_wrong_place_is_none() {
    let (log, _guard) = Log::capture();
    let cluster = Cluster::new();
    let serving = serve(&cluster.control_plane(), ClientCertificate::Required, Access::ANYONE).await;
    let dir = tempfile::tempdir().unwrap();
    let read = |file: &str| fs::read_to_string(cluster.ca_dir().join(file)).unwrap();
    let ca_key = rcgen::KeyPair::from_pem(&read("ca-key.pem")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("ca.pem"), ca_key).unwrap();
    let admin = Role::Admin.uri();
    let mut params = rcgen::CertificateParams::default();
    params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    params.distinguished_name.push(rcgen::DnType::CommonName, admin.as_str());
    params.distinguished_name.push(rcgen::DnType::OrganizationalUnitName, "role/admin");
    params.subject_alt_names = vec![
        rcgen::SanType::Rfc822Name(admin.as_str().try_into().unwrap()),
        rcgen::SanType::DnsName("admin.role.wasmatrix".try_into().unwrap()),
    ];
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(dir.path().join("cert.pem"), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
    let stream = TcpStream::connect(serving.address).await.unwrap();
    let config = raw_config(&cluster, dir.path());
    let connected =
        tokio_rustls::TlsConnector::from(config).connect("localhost".try_into().unwrap(), stream).await;
    if let Ok(mut stream) = connected {
        ended(&mut stream).await;
    }
    serving.refusals.reach(1).await;
    assert!(log.text().contains("names no role"), "{}", log.text());
}

#[test]
fn what_anybody_can_write_to_is_not_believed() {
    let cluster = Cluster::new();
    let dir = cluster.member("admin", Order::new(Role::Admin));
    let open =
        || LiveCredentials::open(&dir, cluster.clock.clone()).map(drop).map_err(|error| error.to_string());
    fs::write(dir.join("revoked.txt"), "").unwrap();
    assert_eq!(open(), Ok(()));
    let chmod = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for (name, good, bad) in [
        ("ca.pem", 0o644, 0o646),
        ("cert.pem", 0o664, 0o666),
        ("revoked.txt", 0o644, 0o666),
        ("key.pem", 0o600, 0o602),
        ("", 0o755, 0o777),
        ("", 0o700, 0o1777),
    ] {
        let path = dir.join(name);
        chmod(&path, bad);
        let error = open().unwrap_err();
        assert!(error.contains("may be written by others") && error.contains("chmod"), "{name}: {error}");
        chmod(&path, good);
        assert_eq!(open(), Ok(()), "{name}");
    }
}

/// Whoever can make a name in the directory can't make us write somewhere else, or read for ever.
#[test]
fn a_link_is_replaced_and_not_followed_and_a_pipe_is_not_read() {
    let cluster = Cluster::new();
    let dir = cluster.member("a", Order::new(node("a")));
    let elsewhere = cluster.dir.path().join("elsewhere");
    fs::write(&elsewhere, "mine").unwrap();
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o600)).unwrap();
    for file in ["ca.pem", "cert.pem", "key.pem", "key-next.pem"] {
        let _ = fs::remove_file(dir.join(file)); // the last is there only meanwhile
        std::os::unix::fs::symlink(&elsewhere, dir.join(file)).unwrap();
    }
    cluster.member("a", Order::new(node("a")));
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
    let key = dir.join("key.pem").symlink_metadata().unwrap();
    assert!(key.is_file() && key.permissions().mode() & 0o777 == 0o600, "{key:?}");
    let list = dir.join("revoked.txt");
    std::os::unix::fs::symlink(&elsewhere, &list).unwrap();
    assert!(credentials::revoke(&dir, cluster.authority.fingerprint(), "").is_err(), "it is no list");
    fs::remove_file(&list).unwrap();
    std::os::unix::fs::symlink(dir.join("nowhere"), &list).unwrap();
    credentials::revoke(&dir, cluster.authority.fingerprint(), "").unwrap();
    assert!(list.symlink_metadata().unwrap().is_file() && !dir.join("nowhere").exists());

    rustix::fs::mkfifoat(rustix::fs::CWD, dir.join("pipe"), rustix::fs::Mode::RUSR).unwrap();
    fs::rename(dir.join("pipe"), &list).unwrap();
    let error = LiveCredentials::open(&dir, cluster.clock.clone()).unwrap_err().to_string();
    assert!(error.contains("revoked.txt could not be read"), "{error}");
    // An authority whose name is taken by a link is not made.
    let ca = cluster.dir.path().join("other-ca");
    fs::create_dir(&ca).unwrap();
    fs::set_permissions(&ca, fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink(&elsewhere, ca.join("ca-key.pem")).unwrap();
    let now = wasmatrix_model::Clock::now(&*cluster.clock);
    assert!(Authority::create(&ca, "x", now).is_err());
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
}
