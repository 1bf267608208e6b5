//! A request for a certificate: made by who wants one, proven by who signs.

use rcgen::{CertificateParams, KeyPair, PublicKeyData, SubjectPublicKeyInfo};
use x509_parser::{
    certification_request::X509CertificationRequest, pem::parse_x509_pem, prelude::FromDer as _,
};

use crate::credentials::PrivateKeyPem;

/// Longest request that is read, in bytes of PEM.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// A new key, which stays where it was made, and the request (CSR) that travels.
#[derive(Clone, Debug)]
pub struct KeyAndRequest {
    /// The key, in PEM.
    pub key_pem: PrivateKeyPem,
    /// The request, in PEM.
    pub request_pem: String,
}

impl KeyAndRequest {
    /// Makes a key (ECDSA P-256) and a request for it.
    ///
    /// # Errors
    /// There is no randomness to be had.
    pub fn generate() -> Result<Self, BadRequest> {
        let key = KeyPair::generate().map_err(BadRequest::Generate)?;
        let mut params = CertificateParams::default();
        // Says nothing: what the certificate will say is decided by who signs it.
        params.distinguished_name = rcgen::DistinguishedName::new();
        let request = params.serialize_request(&key).map_err(BadRequest::Generate)?;
        Ok(Self {
            request_pem: request.pem().map_err(BadRequest::Generate)?,
            key_pem: PrivateKeyPem::new(key.serialize_pem()),
        })
    }
}

/// A request whose sender proved to have the key. Nothing else of the request is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenRequest {
    key: SubjectPublicKeyInfo,
}

impl ProvenRequest {
    /// Reads a request in PEM and checks the proof. Do this before a join token is redeemed, so that a bad request
    /// does not cost the token.
    ///
    /// # Errors
    /// It is too long, no request, not signed by its key, or of a kind of key that is not taken.
    pub fn parse(request_pem: &str) -> Result<Self, BadRequest> {
        if request_pem.len() > REQUEST_BYTES_MAX {
            return Err(BadRequest::TooLong(request_pem.len()));
        }
        let (_, pem) = parse_x509_pem(request_pem.as_bytes()).map_err(|_| BadRequest::Encoding)?;
        if !pem.label.ends_with("CERTIFICATE REQUEST") {
            return Err(BadRequest::Encoding);
        }
        let request = match X509CertificationRequest::from_der(&pem.contents) {
            Ok(([], request)) => request,
            _ => return Err(BadRequest::Encoding),
        };
        request.verify_signature().map_err(|_| BadRequest::Unproven)?;
        let key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
            .map_err(|_| BadRequest::KeyKind)?;
        let taken = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
        if !taken.contains(&key.algorithm()) {
            return Err(BadRequest::KeyKind);
        }
        Ok(Self { key })
    }

    pub(super) fn key(&self) -> &SubjectPublicKeyInfo {
        &self.key
    }
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    /// More bytes than any request has.
    #[error("a certificate request of {0} bytes is longer than the {REQUEST_BYTES_MAX} that are read")]
    TooLong(usize),
    /// Something else.
    #[error("it is no certificate request (PKCS #10) in PEM")]
    Encoding,
    /// The signature is not the key's.
    #[error("the certificate request is not signed by its own key, so its sender may not have it")]
    Unproven,
    /// A key that is not taken.
    #[error(
        "the certificate request's key is of a kind that is not taken: use ECDSA P-256, P-384 or Ed25519"
    )]
    KeyKind,
    /// A key or request could not be made.
    #[error("a key could not be made")]
    Generate(#[source] rcgen::Error),
}
