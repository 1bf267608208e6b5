//! What can be wrong with credentials, and what to do about it.

use std::path::PathBuf;

use wasmatrix_model::Timestamp;

use super::{CA_FILE, CERT_FILE, KEY_FILE, REVOKED_FILE};
use crate::{certificate::BadCertificate, files::FileError, role::Role};

/// Why the credentials in a directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file is missing, exposed or can't be read.
    #[error(
        "{source}; a credentials directory holds {CA_FILE}, {CERT_FILE} and {KEY_FILE}: a node gets them from \
         `wasmatrix join`, a user or a control plane from `wasmatrix certs issue`"
    )]
    File {
        /// Which, and why.
        source: FileError,
    },
    /// The files are there and do not prove who we are.
    #[error("the credentials in {} can't be used: {problem}", dir.display())]
    Bad {
        /// Their directory.
        dir: PathBuf,
        /// What is wrong with them.
        #[source]
        problem: Problem,
    },
    /// The new files are good and of somebody else: a running process does not change who it is.
    #[error("the credentials in {} were those of {was} and are now those of {is}: restart to become another", dir.display())]
    AnotherRole {
        /// Their directory.
        dir: PathBuf,
        /// Who we are.
        was: Role,
        /// Who the files say we are.
        is: Role,
    },
}

/// What is wrong with credentials.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// `ca.pem` holds no certificate, or a damaged one.
    #[error(
        "{CA_FILE} holds no certificate of an authority in PEM: copy it again from the control plane's machine"
    )]
    NoAuthority,
    /// `ca.pem` holds a certificate of a member.
    #[error(
        "{CA_FILE} holds the certificate of `{0}`, which is no authority: copy {CA_FILE} again from the control \
         plane's machine"
    )]
    NotAnAuthority(String),
    /// No authority in `ca.pem` is valid now.
    #[error(
        "the authority in {CA_FILE} is valid from {not_before} to {not_after}, which is not now: check this machine's \
         clock, or make a new authority with `wasmatrix certs init`"
    )]
    AuthorityNotValidNow {
        /// Its first valid second.
        not_before: Timestamp,
        /// Its last valid second.
        not_after: Timestamp,
    },
    /// `cert.pem` holds no certificate, or a damaged one.
    #[error(
        "{CERT_FILE} holds no certificate in PEM: get another with `wasmatrix join` or `wasmatrix certs issue`"
    )]
    NoCertificate,
    /// `cert.pem` does not say who its holder is.
    #[error("{CERT_FILE} can't be used: get another with `wasmatrix join` or `wasmatrix certs issue`")]
    Certificate(#[source] BadCertificate),
    /// `cert.pem` was valid once.
    #[error("{CERT_FILE}, of {role}, expired at {since}: {}", another(role))]
    Expired {
        /// Whose it is.
        role: Role,
        /// Its last valid second.
        since: Timestamp,
    },
    /// `cert.pem` will be valid.
    #[error("{CERT_FILE} is valid from {from} on and it is {now} here: set this machine's clock, or wait")]
    NotYetValid {
        /// Its first valid second.
        from: Timestamp,
        /// The time here.
        now: Timestamp,
    },
    /// No authority in `ca.pem` signed `cert.pem`.
    #[error("{CERT_FILE}, of {role}, is not signed by the authority in {CA_FILE}: {}", another(role))]
    ForeignAuthority {
        /// Whose it is.
        role: Role,
        /// Why the chain does not hold.
        source: Box<rustls::Error>,
    },
    /// `key.pem` holds no key.
    #[error(
        "{KEY_FILE} holds no private key in PEM: restore it, or get another pair with `wasmatrix join` or `wasmatrix certs issue`"
    )]
    NoKey,
    /// `key.pem` is another certificate's.
    #[error(
        "{KEY_FILE} is not the key of {CERT_FILE}: put the two of one pair together, or get another pair with `wasmatrix join` or `wasmatrix certs issue`"
    )]
    KeyMismatch,
    /// A line of `revoked.txt` is no fingerprint.
    #[error(
        "line {line} of {REVOKED_FILE} is no fingerprint: write sha256: and 64 hexadecimal digits, and notes after a #"
    )]
    Revoked {
        /// Which line, from 1.
        line: usize,
    },
    /// TLS can't be set up with them.
    #[error("TLS could not be set up with {CERT_FILE} and {KEY_FILE}")]
    Tls(#[source] rustls::Error),
}

/// What to do about a certificate that is over.
pub(crate) fn another(role: &Role) -> &'static str {
    match role {
        Role::Node(_) => {
            "join again with `wasmatrix join` and a token made for this node, or put another certificate there: it is \
             taken up at once"
        }
        _ => "issue another with `wasmatrix certs issue` on the control plane's machine",
    }
}
