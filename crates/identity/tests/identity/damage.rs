//! Bytes that are almost right: whatever they are, they are answered, and never with more than the whole ones would get.

use std::{fs, sync::Arc};

use proptest::{prelude::*, test_runner::TestRunner};
use wasmatrix_identity::*;
use wasmatrix_model::Clock;

use crate::cluster::*;

/// Replaces, removes or doubles a piece.
fn damaged(bytes: &[u8], at: prop::sample::Index, by: &[u8], length: usize) -> Vec<u8> {
    let at = at.index(bytes.len());
    let end = (at + length).min(bytes.len());
    [&bytes[..at], by, &bytes[end..]].concat()
}

fn der(pem: &str) -> Vec<u8> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

fn pem(label: &str, der: &[u8]) -> String {
    // Whoever damages the contents still brings an envelope that opens.
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut body = String::new();
    for three in der.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, at| bits << 8 | u32::from(*three.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let digit = alphabet[(bits >> (18 - 6 * at) & 63) as usize];
            body.push(if at <= three.len() { digit.into() } else { '=' });
        }
        if body.len() % 65 == 64 {
            body.push('\n');
        }
    }
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// Where, by what, and over what length something is damaged.
fn damage(by_max: usize, length_max: usize) -> impl Strategy<Value = (prop::sample::Index, Vec<u8>, usize)> {
    (any::<prop::sample::Index>(), proptest::collection::vec(any::<u8>(), 0..by_max), 0..length_max)
}

/// Runs a property many times on what was made once.
fn many<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
    TestRunner::new(config).run(&strategy, test).unwrap();
}

#[test]
fn a_certificate_that_was_changed_proves_nothing() {
    let cluster = Cluster::new();
    let clock: Arc<dyn Clock> = cluster.clock.clone();
    let bundle = cluster.authority.issue(&Order::new(node("a")), clock.now()).unwrap();
    let whole = der(&bundle.certificate_pem);
    assert_eq!(der(&pem("CERTIFICATE", &whole)), whole);
    let own = bundle.prove(&clock).unwrap().identity().clone();
    many(1024, damage(4, 4), |(at, by, length)| {
        let changed = Bundle {
            certificate_pem: pem("CERTIFICATE", &damaged(&whole, at, &by, length)),
            ..bundle.clone()
        };
        // The envelope of a signature can be written in more than one way; what is signed can't.
        let proven = changed.prove(&clock).ok().map(|proven| proven.identity().clone());
        let same = |proven: Identity| Identity { fingerprint: own.fingerprint, ..proven } == own;
        prop_assert!(proven.is_none_or(same));
        Ok(())
    });
}

#[test]
fn a_request_that_was_changed_proves_no_other_key() {
    use rustls::pki_types::{CertificateSigningRequestDer, pem::PemObject as _};
    let request = KeyAndRequest::generate().unwrap().request_pem;
    let whole = CertificateSigningRequestDer::from_pem_slice(request.as_bytes()).unwrap().to_vec();
    let own = ProvenRequest::parse(&request).unwrap();
    many(1024, damage(4, 4), |(at, by, length)| {
        let changed = ProvenRequest::parse(&pem("CERTIFICATE REQUEST", &damaged(&whole, at, &by, length)));
        prop_assert!(changed.ok().is_none_or(|changed| changed == own));
        Ok(())
    });
}

#[test]
fn whatever_lies_in_the_files_is_answered() {
    let cluster = Cluster::new();
    let clock: Arc<dyn Clock> = cluster.clock.clone();
    let dir = cluster.member("a", Order::new(node("a")));
    credentials::revoke(&dir, cluster.authority.fingerprint(), "").unwrap();
    fs::copy(dir.join("key.pem"), dir.join("key-next.pem")).unwrap();
    let files = ["ca.pem", "cert.pem", "key.pem", "key-next.pem", "revoked.txt"];
    many(512, (0..files.len(), damage(8, 2000)), |(file, (at, by, length))| {
        let path = dir.join(files[file]);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, damaged(&whole, at, &by, length)).unwrap();
        let loaded = Credentials::load(&dir, &clock);
        fs::write(&path, whole).unwrap();
        if let Err(error) = loaded {
            prop_assert!(chain(&error).contains(dir.to_str().unwrap()));
        }
        Ok(())
    });
    assert!(Credentials::load(&dir, &clock).is_ok());
}

proptest! {
    #[test]
    fn whatever_is_sent_as_a_request_is_answered(text in "\\PC{0,200}", bytes: Vec<u8>) {
        prop_assert!(ProvenRequest::parse(&text).is_err());
        prop_assert!(ProvenRequest::parse(&pem("CERTIFICATE REQUEST", &bytes)).is_err());
    }
}
