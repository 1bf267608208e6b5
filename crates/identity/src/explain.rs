//! What went wrong in a handshake, in words for the log and for users instead of the library's.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, pki_types::UnixTime};
use wasmatrix_model::Timestamp;

/// What an input or output error on a connection means.
pub(crate) fn explain_io(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => explain(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "it hung up during the handshake".into(),
        None => error.to_string(),
    }
}

/// What a TLS error means. "It" is the other end.
pub(crate) fn explain(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(reason) => certificate(reason),
        Error::NoCertificatesPresented => "it shows no certificate, and one is required".into(),
        Error::AlertReceived(alert) => format!("it refuses us: {}", refused(*alert)),
        Error::PeerIncompatible(reason) => {
            format!("it speaks another TLS than 1.3 with our ciphers ({reason:?})")
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => "it does not speak TLS".into(),
        other => other.to_string(),
    }
}

fn certificate(reason: &CertificateError) -> String {
    match reason {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("its certificate expired at {}", time(*not_after))
        }
        CertificateError::NotValidYetContext { not_before, time: now } => {
            format!("its certificate is valid from {} on, and it is {} here", time(*not_before), time(*now))
        }
        CertificateError::UnknownIssuer => "its certificate is not signed by this cluster's authority".into(),
        CertificateError::BadSignature => "it does not have the key of its certificate".into(),
        CertificateError::Revoked => "its certificate was revoked".into(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let hosts = presented.iter().filter(|name| !name.contains("://"));
            let presented: Vec<_> = hosts.map(|name| plain_name(name)).collect();
            format!(
                "its certificate is for {}, and not for {}: dial one of these, or issue one for that too",
                if presented.is_empty() { "no host".into() } else { presented.join(", ") },
                expected.to_str(),
            )
        }
        CertificateError::InvalidPurposeContext { .. } | CertificateError::InvalidPurpose => {
            "its certificate is not for this end of a connection".into()
        }
        CertificateError::Other(other) => other.to_string(),
        other => Error::InvalidCertificate(other.clone()).to_string(),
    }
}

/// The library writes `DnsName("a")` and `IpAddress(1.2.3.4)`.
fn plain_name(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"').to_owned()
}

fn refused(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateExpired => "our certificate has expired".into(),
        AlertDescription::CertificateRevoked => "our certificate was revoked".into(),
        AlertDescription::UnknownCA => "our certificate and it have different authorities".into(),
        AlertDescription::CertificateRequired => "it requires a certificate, and we show none".into(),
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied => "it does not accept our certificate; its log says why".into(),
        other => format!("alert {other:?}"),
    }
}

fn time(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(|_| "another age".into(), |time| time.to_string())
}
