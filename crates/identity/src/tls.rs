//! What both ends of a connection have in common: TLS 1.3 by aws-lc-rs, HTTP/2, a clock that can be held.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::TimeProvider,
    version::TLS13,
};
use wasmatrix_model::{Clock, Timestamp};

use crate::{
    credentials::Revoked,
    verify::{ClientVerifier, ServerVerifier},
};

const HTTP2: &[u8] = b"h2";

/// The one implementation of cryptography. It is named in every configuration, so that none is taken from the process.
pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    &PROVIDER
}

pub(crate) fn unix(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.as_second()).unwrap_or(0)))
}

/// Handshakes take the time from where everything of ours takes it.
#[derive(Debug)]
struct ClockTime(Arc<dyn Clock>);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix(self.0.now()))
    }
}

/// Those that are trust anchors; what is none was refused before.
pub(crate) fn roots(authorities: &[CertificateDer<'static>]) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities.iter().cloned());
    Arc::new(roots)
}

/// Whether one of the authorities signed the first certificate, by way of the others.
pub(crate) fn prove_chain(
    chain: &[CertificateDer<'static>],
    roots: &Arc<RootCertStore>,
    now: Timestamp,
) -> Result<(), rustls::Error> {
    let (end_entity, intermediates) = chain.split_first().ok_or(rustls::Error::NoCertificatesPresented)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider().clone())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    verifier.verify_client_cert(end_entity, intermediates, unix(now)).map(drop)
}

/// How a server answers. `required`: whether a client without a certificate is turned away.
pub(crate) fn server_config(
    key: &Arc<CertifiedKey>,
    roots: &Arc<RootCertStore>,
    revoked: &Revoked,
    required: bool,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let time = Arc::new(ClockTime(clock.clone()));
    let mut config = ServerConfig::builder_with_details(provider().clone(), time)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(ClientVerifier::new(roots, revoked.clone(), required)?))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key.clone())));
    config.alpn_protocols = vec![HTTP2.to_vec()];
    // A resumed session does not show its certificate again, so one that has expired would pass.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// How a client asks: with its certificate if it has one, of a server that `verifier` accepts.
pub(crate) fn client_config(
    key: Option<&Arc<CertifiedKey>>,
    verifier: ServerVerifier,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<rustls::ClientConfig>, rustls::Error> {
    let time = Arc::new(ClockTime(clock.clone()));
    let builder = rustls::ClientConfig::builder_with_details(provider().clone(), time)
        .with_protocol_versions(&[&TLS13])?
        .dangerous() // the library's word for a verifier of one's own
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match key {
        Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key.clone()))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
