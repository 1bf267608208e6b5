//! Who is let through a handshake: the rules of both ends, on top of the library's verification of chains.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::verify_tls13_signature,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use wasmatrix_model::NodeId;

use crate::{
    certificate::{self, BadCertificate, Fingerprint, Identity},
    credentials::{Revoked, check_revoked},
    role::Role,
    tls::provider,
};

/// Whom a client expects at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The control plane, whose certificate must also carry the host name or address that was dialled.
    ControlPlane,
    /// The node of that name, wherever it is.
    Node(NodeId),
}

impl Expected {
    fn role(&self) -> Role {
        match self {
            Self::ControlPlane => Role::ControlPlane,
            Self::Node(id) => Role::Node(id.clone()),
        }
    }
}

/// Why a certificate with a good chain is refused all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It does not say who its holder is.
    #[error("its certificate can't be used: {0}")]
    Certificate(#[source] BadCertificate),
    /// Its holder is somebody else.
    #[error("it is {is}, and not {expected}")]
    Role {
        /// Who was expected.
        expected: Role,
        /// Who it is.
        is: Role,
    },
    /// No certificate of the expected fingerprint was shown.
    #[error(
        "it does not show an authority of the fingerprint {0}: it belongs to another cluster than the token, or \
         somebody stands between"
    )]
    AnotherAuthority(Fingerprint),
    /// The authority's time is over, or has not come.
    #[error("its authority is not valid at this machine's time")]
    AuthorityNotValidNow,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        CertificateError::Other(OtherError(Arc::new(refusal))).into()
    }
}

/// The server's rule: a chain to our authority, in time, and exactly one role.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    chains: Arc<dyn ClientCertVerifier>,
    revoked: Revoked,
}

impl ClientVerifier {
    pub(crate) fn new(roots: &Arc<RootCertStore>, revoked: Revoked, required: bool) -> Result<Self, Error> {
        let builder = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider().clone());
        let builder = if required { builder } else { builder.allow_unauthenticated() };
        let chains = builder.build().map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { chains, revoked })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.chains.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Whose certificates we take is nobody's business before he has shown one.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chains.verify_client_cert(end_entity, intermediates, now).map_err(of_another)?;
        let identity = Identity::from_der(end_entity).map_err(Refusal::Certificate)?;
        check_revoked(&self.revoked, &identity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// How a client knows the authority.
#[derive(Clone, Debug)]
pub(crate) enum Anchor {
    /// By its certificate.
    Roots(Arc<RootCertStore>),
    /// By its fingerprint; the server shows the certificate.
    Pinned(Fingerprint),
}

/// The client's rule: a chain to the authority, in time, the expected role, and for a control plane the host dialled.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    anchor: Anchor,
    revoked: Revoked,
    expected: Expected,
}

impl ServerVerifier {
    pub(crate) fn new(anchor: Anchor, revoked: Revoked, expected: Expected) -> Self {
        Self { anchor, revoked, expected }
    }

    fn roots(&self, shown: &[CertificateDer<'_>], now: UnixTime) -> Result<Arc<RootCertStore>, Error> {
        let fingerprint = match &self.anchor {
            Anchor::Roots(roots) => return Ok(roots.clone()),
            Anchor::Pinned(fingerprint) => *fingerprint,
        };
        let authority = shown.iter().find(|der| Fingerprint::of(der) == fingerprint);
        let authority = authority.ok_or(Refusal::AnotherAuthority(fingerprint))?;
        // The library takes an anchor's validity for granted.
        let parsed = certificate::parse(authority).map_err(Refusal::Certificate)?;
        let (not_before, not_after) = certificate::validity(&parsed).map_err(Refusal::Certificate)?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if !parsed.is_ca() || now < not_before.as_second() || now > not_after.as_second() {
            return Err(Refusal::AuthorityNotValidNow.into());
        }
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        Ok(Arc::new(roots))
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let roots = self.roots(intermediates, now)?;
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &roots, intermediates, now, algorithms)
            .map_err(of_another)?;
        let identity = Identity::from_der(end_entity).map_err(Refusal::Certificate)?;
        check_revoked(&self.revoked, &identity)?;
        let expected = self.expected.role();
        if identity.role != expected {
            return Err(Refusal::Role { expected, is: identity.role }.into());
        }
        if self.expected == Expected::ControlPlane {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Another cluster's authority may have the same name as ours, and then the library finds its signature wrong instead
/// of its authority unknown.
fn of_another(error: Error) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::BadSignature) => CertificateError::UnknownIssuer.into(),
        other => other,
    }
}

fn only_tls13() -> Error {
    Error::General("only TLS 1.3 is spoken here".into())
}
