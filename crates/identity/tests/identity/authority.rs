//! The authority: what it makes, what it refuses, and what of a request it believes.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use wasmatrix_identity::*;
use wasmatrix_model::Clock;

use crate::cluster::*;

#[test]
fn it_is_made_once_privately_and_opened_again() {
    let cluster = Cluster::new();
    let dir = cluster.ca_dir();
    let mode = |file: &str| fs::metadata(dir.join(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("."), mode("ca-key.pem"), mode("ca.pem")), (0o700, 0o600, 0o644));
    let key = fs::read(dir.join("ca-key.pem")).unwrap();
    let again = Authority::create(&dir, "another", cluster.clock.now()).unwrap_err().to_string();
    assert!(again.contains("exists and is not overwritten"), "{again}");
    assert_eq!(fs::read(dir.join("ca-key.pem")).unwrap(), key);
    let opened = Authority::open(&dir, cluster.clock.now()).unwrap();
    assert_eq!(opened.fingerprint(), cluster.authority.fingerprint());
    let bundle = opened.issue(&Order::new(node("a")), cluster.clock.now()).unwrap();
    let clock: std::sync::Arc<dyn Clock> = cluster.clock.clone();
    assert!(bundle.prove(&clock).is_ok(), "what the opened one signs is the cluster's");
}

#[test]
fn what_is_wrong_with_its_files_is_said() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let dir = ours.ca_dir();
    let refused = || Authority::open(&dir, ours.clock.now()).unwrap_err().to_string();
    fs::copy(theirs.ca_dir().join("ca-key.pem"), dir.join("ca-key.pem")).unwrap();
    assert!(refused().contains("is not the key of ca.pem"), "{}", refused());
    fs::write(dir.join("ca-key.pem"), "hello").unwrap();
    assert!(refused().contains("ca-key.pem holds no private key"), "{}", refused());
    fs::set_permissions(dir.join("ca-key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refused().contains("chmod 600"), "{}", refused());
    fs::remove_file(dir.join("ca-key.pem")).unwrap();
    assert!(refused().contains("ca-key.pem is missing"), "{}", refused());

    let member = ours.member("a", Order::new(node("a")));
    fs::rename(member.join("cert.pem"), dir.join("ca.pem")).unwrap();
    fs::rename(member.join("key.pem"), dir.join("ca-key.pem")).unwrap();
    assert!(refused().contains("ca.pem holds no certificate of an authority"), "{}", refused());

    theirs.clock.turn(10 * 365 * DAY + 1);
    let old = Authority::open(&theirs.ca_dir(), theirs.clock.now()).unwrap_err().to_string();
    assert!(old.contains("is not valid now"), "{old}");
}

#[test]
fn a_directory_that_others_may_write_to_holds_no_authority() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o770)).unwrap();
    let error = Authority::create(dir.path(), "x", HeldClock::new().now()).unwrap_err().to_string();
    assert!(error.contains("may be written by others") && error.contains("chmod 700"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn of_a_request_only_the_key_is_believed() {
    let cluster = Cluster::new();
    let mut claims = rcgen::CertificateParams::default();
    claims.distinguished_name.push(rcgen::DnType::CommonName, "king");
    claims.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    claims.subject_alt_names = vec![rcgen::SanType::URI("wasmatrix://role/admin".try_into().unwrap())];
    let key = rcgen::KeyPair::generate().unwrap();
    let request = claims.serialize_request(&key).unwrap().pem().unwrap();
    let request = ProvenRequest::parse(&request).unwrap();
    let now = cluster.clock.now();
    let (pem, identity) = cluster.authority.sign(&request, &Order::new(node("a")), now).unwrap();
    assert_eq!((identity.role.clone(), identity.name.as_str()), (node("a"), "node a"));
    let bundle = Bundle {
        ca_pem: cluster.authority.certificate_pem().into(),
        certificate_pem: pem,
        key_pem: PrivateKeyPem::new(key.serialize_pem()),
    };
    let clock: std::sync::Arc<dyn Clock> = cluster.clock.clone();
    assert_eq!(*bundle.prove(&clock).unwrap().identity(), identity, "it is not an authority either");
}

#[test]
fn a_request_without_its_key_is_refused() {
    let pem = KeyAndRequest::generate().unwrap().request_pem;
    assert!(ProvenRequest::parse(&pem).is_ok());
    assert!(matches!(ProvenRequest::parse(""), Err(BadRequest::Encoding)));
    assert!(matches!(ProvenRequest::parse(&pem[..pem.len() / 2]), Err(BadRequest::Encoding)));
    assert!(matches!(ProvenRequest::parse(&"x".repeat(20_000)), Err(BadRequest::TooLong(20_000))));
    let certificate = Cluster::new().authority.certificate_pem().to_owned();
    assert!(matches!(ProvenRequest::parse(&certificate), Err(BadRequest::Encoding)));
    let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&rsa).unwrap().pem().unwrap();
    assert!(matches!(ProvenRequest::parse(&request), Err(BadRequest::KeyKind)));

    // One changed character of the signature, which are the last 64 bytes.
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let pem = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    assert!(ProvenRequest::parse(&pem).is_ok());
    let at = pem.find("\n-----END").unwrap() - 20;
    let other = if pem.as_bytes()[at] == b'A' { "B" } else { "A" };
    let changed = format!("{}{other}{}", &pem[..at], &pem[at + 1..]);
    assert!(matches!(ProvenRequest::parse(&changed), Err(BadRequest::Unproven)));
}

#[test]
fn an_order_that_makes_no_sense_is_refused() {
    let cluster = Cluster::new();
    let refused = |order: Order| match cluster.authority.issue(&order, cluster.clock.now()) {
        Err(AuthorityError::Order(bad)) => bad,
        other => panic!("{other:?}"),
    };
    let viewer = || Order::new(Role::Viewer);
    assert_eq!(refused(Order::new(Role::ControlPlane)), BadOrder::NoHosts);
    assert_eq!(refused(viewer().named("")), BadOrder::Name(String::new()));
    assert_eq!(refused(viewer().named("a\nb")), BadOrder::Name("ab".into()));
    assert!(matches!(refused(viewer().named("x".repeat(65))), BadOrder::Name(_)));
    assert_eq!(refused(viewer().valid_for(Duration::ZERO)), BadOrder::Validity);
    assert_eq!(refused(viewer().valid_for(Duration::MAX)), BadOrder::Validity);
    let many = (0..65).map(|number| format!("h{number}").parse().unwrap());
    assert_eq!(refused(viewer().at(many)), BadOrder::TooManyHosts(65));
    for bad in ["", "a b", "*.a", "a/b", "-a", "1.2.3.4:5"] {
        assert!(bad.parse::<Host>().is_err(), "{bad}");
    }
}

#[test]
fn a_certificate_begins_a_little_earlier_and_ends_with_its_authority() {
    let cluster = Cluster::new();
    let now = cluster.clock.now();
    let request = ProvenRequest::parse(&KeyAndRequest::generate().unwrap().request_pem).unwrap();
    let sign = |order: &Order, now| cluster.authority.sign(&request, order, now).unwrap().1;
    let order = Order::new(node("a")).valid_for(Duration::from_secs(3600));
    let identity = sign(&order, now);
    assert_eq!(now.as_second() - identity.not_before.as_second(), 300);
    assert_eq!(identity.not_after.as_second() - now.as_second(), 3600);
    assert_ne!(sign(&order, now).serial, identity.serial, "one key, two certificates, two numbers");
    let ten_years = Duration::from_secs(10 * 365 * 86_400);
    let end = sign(&order.clone().valid_for(ten_years), now).not_after;
    cluster.clock.turn(DAY);
    assert_eq!(sign(&order.valid_for(ten_years), cluster.clock.now()).not_after, end);
}
