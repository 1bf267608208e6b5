//! Reading a certificate: who holds it, until when, and by which fingerprint it is known.

use std::{fmt, str::FromStr, time::Duration};

use rustls::pki_types::CertificateDer;
use wasmatrix_model::{Digest, NodeId, Timestamp};
use x509_parser::{
    certificate::X509Certificate,
    extensions::{GeneralName, SubjectAlternativeName},
    prelude::FromDer,
};

use crate::{
    access::Denied,
    authority::CLOCK_SKEW,
    role::{Role, UnknownRole},
};

/// The SHA-256 of a certificate (its DER bytes): what it is called in logs, and how an authority is recognized before
/// it is trusted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(Digest);

impl Fingerprint {
    /// Of a certificate's DER bytes.
    pub(crate) fn of(der: &[u8]) -> Self {
        Self(Digest::of(der))
    }

    /// The 64 hexadecimal digits, without the `sha256:` in front.
    pub fn hex(&self) -> String {
        self.0.hex()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    /// Reads `sha256:` and 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, NotAFingerprint> {
        text.parse().map(Self).map_err(|_| NotAFingerprint)
    }
}

/// Text that is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a certificate's fingerprint is `sha256:` and 64 hexadecimal digits")]
pub struct NotAFingerprint;

/// Who a certificate says its holder is. On a connection: proven, by the holder's key and a chain to the authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What the holder is.
    pub role: Role,
    /// What the holder is called (the subject's common name), for logs only; nothing is decided by it.
    pub name: String,
    /// Which certificate it is.
    pub fingerprint: Fingerprint,
    /// The certificate's serial number, in hexadecimal.
    pub serial: String,
    /// From when the certificate is valid.
    pub not_before: Timestamp,
    /// The last second in which it is.
    pub not_after: Timestamp,
}

impl Identity {
    /// Reads it from a certificate's DER bytes. Proves nothing: that is done by who verified the chain.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, BadCertificate> {
        let certificate = parse(der)?;
        if certificate.is_ca() {
            return Err(BadCertificate::Authority);
        }
        let names = certificate.subject_alternative_name().map_err(|_| BadCertificate::Encoding)?;
        let role = one_role(names.map(|names| names.value))?;
        let (not_before, not_after) = validity(&certificate)?;
        Ok(Self {
            role,
            name: common_name(&certificate),
            fingerprint: Fingerprint::of(der),
            serial: hex(certificate.raw_serial()),
            not_before,
            not_after,
        })
    }

    /// Whether the certificate's time is over. A connection outlives its handshake, so this is asked at each request.
    pub fn expired(&self, now: Timestamp) -> bool {
        // As in a handshake, where time is counted in whole seconds.
        now.as_second() > self.not_after.as_second()
    }

    /// Whole days until the certificate expires; 0 on the last day and after.
    pub fn days_left(&self, now: Timestamp) -> u64 {
        let seconds = self.not_after.as_second().saturating_sub(now.as_second());
        u64::try_from(seconds / DAY_SECONDS).unwrap_or(0)
    }

    /// Whether less than a third of the certificate's life is left: the time to ask for the next one.
    pub fn renewal_due(&self, now: Timestamp) -> bool {
        self.renewal_in(now).is_zero()
    }

    /// How long until less than a third of the certificate's life is left; zero from then on.
    pub fn renewal_in(&self, now: Timestamp) -> Duration {
        // Its beginning was put back when it was signed, and that time is no part of its life.
        let begin = self.not_before.saturating_add(CLOCK_SKEW).unwrap_or(self.not_before);
        let life = self.not_after.duration_since(begin.min(self.not_after)).unsigned_abs();
        let due = self.not_after.saturating_sub(life / 3).unwrap_or(self.not_after);
        now.duration_until(due.max(now)).unsigned_abs()
    }

    /// How long until the certificate is over; zero from then on.
    pub fn ends_in(&self, now: Timestamp) -> Duration {
        // Its last second counts whole.
        let end = self.not_after.saturating_add(Duration::from_secs(1)).unwrap_or(Timestamp::MAX);
        now.duration_until(end.max(now)).unsigned_abs()
    }

    /// Whether it may speak for that node: only the node itself may.
    ///
    /// # Errors
    /// It is somebody else, who is named.
    pub fn speaks_for(&self, node: &NodeId) -> Result<(), Denied> {
        match &self.role {
            Role::Node(own) if own == node => Ok(()),
            is => Err(Denied::AnotherNode { is: is.clone(), node: node.clone() }),
        }
    }
}

impl fmt::Display for Identity {
    /// As in a log line: the role, the name if it says more, and the certificate.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = self.role.to_string();
        if role.ends_with(&self.name) {
            write!(f, "{role} ({})", self.fingerprint)
        } else {
            write!(f, "{role} `{}` ({})", self.name, self.fingerprint)
        }
    }
}

/// Why a certificate can't say who its holder is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificate {
    /// The bytes are no X.509 certificate, or a contradictory one.
    #[error("it is no X.509 certificate that can be read")]
    Encoding,
    /// It is an authority's certificate, which identifies nobody.
    #[error("it is an authority's certificate and identifies nobody")]
    Authority,
    /// It carries no URI.
    #[error(
        "it names no role: a certificate of this cluster carries one URI such as wasmatrix://role/viewer"
    )]
    NoRole,
    /// It carries more than one URI.
    #[error("it carries {0} URIs, and exactly one is allowed: the role")]
    SeveralRoles(usize),
    /// Its URI is no role.
    #[error("its URI is not a role's")]
    UnknownRole(#[source] UnknownRole),
}

const DAY_SECONDS: i64 = 24 * 60 * 60;
/// Longest name that is read from a certificate, in characters; X.509 allows as many.
pub(crate) const NAME_CHARS_MAX: usize = 64;

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, BadCertificate> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(BadCertificate::Encoding),
    }
}

/// From when until when it is valid, both included.
pub(crate) fn validity(certificate: &X509Certificate<'_>) -> Result<(Timestamp, Timestamp), BadCertificate> {
    let at = |seconds| Timestamp::from_second(seconds).map_err(|_| BadCertificate::Encoding);
    let validity = certificate.validity();
    Ok((at(validity.not_before.timestamp())?, at(validity.not_after.timestamp())?))
}

/// The first of the certificates that signed `certificate`.
pub(crate) fn issuer_of<'a>(
    certificate: &CertificateDer<'_>,
    authorities: &'a [CertificateDer<'static>],
) -> Option<&'a CertificateDer<'static>> {
    let certificate = parse(certificate).ok()?;
    authorities.iter().find(|authority| {
        parse(authority)
            .is_ok_and(|authority| certificate.verify_signature(Some(authority.public_key())).is_ok())
    })
}

pub(crate) fn common_name(certificate: &X509Certificate<'_>) -> String {
    let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    name.unwrap_or("").chars().filter(|char| !char.is_control()).take(NAME_CHARS_MAX).collect()
}

fn one_role(names: Option<&SubjectAlternativeName<'_>>) -> Result<Role, BadCertificate> {
    let uris: Vec<&str> = names
        .into_iter()
        .flat_map(|names| &names.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris.as_slice() {
        [] => Err(BadCertificate::NoRole),
        [uri] => Role::from_uri(uri).map_err(BadCertificate::UnknownRole),
        several => Err(BadCertificate::SeveralRoles(several.len())),
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // writing to a String cannot fail
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate that was signed at second 1,000 for that long.
    fn signed_for(life: i64) -> Identity {
        let at = |second| Timestamp::from_second(second).unwrap();
        Identity {
            role: Role::Node("a".parse().unwrap()),
            name: "a".into(),
            fingerprint: Fingerprint::of(b""),
            serial: "01".into(),
            not_before: at(1_000).saturating_sub(CLOCK_SKEW).unwrap(),
            not_after: at(1_000 + life),
        }
    }

    #[test]
    fn a_renewal_is_due_when_a_third_is_left_however_short_the_life() {
        for life in [3, 30, 3_000, 30 * DAY_SECONDS] {
            let identity = signed_for(life);
            let after = |seconds| Timestamp::from_second(1_000 + seconds).unwrap();
            assert_eq!(identity.renewal_in(after(0)), Duration::from_secs((life / 3 * 2).unsigned_abs()));
            assert!(
                !identity.renewal_due(after(life / 3 * 2 - 1)) && identity.renewal_due(after(life / 3 * 2))
            );
            assert!(
                !identity.expired(after(life)) && identity.ends_in(after(life)) == Duration::from_secs(1)
            );
            assert!(identity.expired(after(life + 1)) && identity.ends_in(after(life + 1)).is_zero());
        }
        // One of others' making may be younger than we put ours back.
        let odd = Identity { not_before: Timestamp::from_second(1_000).unwrap(), ..signed_for(60) };
        assert!(!odd.renewal_due(Timestamp::from_second(1_050).unwrap()));
        assert!(odd.renewal_due(Timestamp::from_second(1_061).unwrap()));
    }
}
