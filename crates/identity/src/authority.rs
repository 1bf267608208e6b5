//! The cluster's authority: a key and a certificate in a directory, by which all other certificates are signed.
//!
//! ```text
//! DIR/             0700
//!   ca.pem         0644, the authority's certificate, 10 years; its fingerprint is in every join token
//!   ca-key.pem     0600, its key: whoever has it can be anybody
//!   issued.txt     0600, what it has signed
//! ```
//!
//! A request for a certificate (CSR) proves that its sender has the key, and nothing else of it is believed: role,
//! name, addresses and validity come from the [`Order`], that is, from who signs.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use wasmatrix_model::Timestamp;
use x509_parser::time::ASN1Time;

mod ledger;
mod order;
mod request;

pub use ledger::{Held, ISSUED_FILE, Issued, hold, issued};
pub use order::{BadOrder, Host, NotAHost, Order};
pub use request::{BadRequest, KeyAndRequest, ProvenRequest};

use ledger::Ledger;

use crate::{
    certificate::{self, Fingerprint, Identity},
    credentials::{Bundle, PrivateKeyPem},
    files::{self, FileError, Overwrite, Readers},
};

/// The authority's certificate, in its directory.
pub const CA_FILE: &str = "ca.pem";
/// The authority's key, in its directory.
pub const CA_KEY_FILE: &str = "ca-key.pem";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an authority is valid.
pub const AUTHORITY_VALIDITY: Duration = Duration::from_secs(10 * 365 * DAY.as_secs());
/// How far a certificate's beginning is put back, for machines whose clocks are behind.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);
const SERIAL_BYTES: usize = 16;

/// Signs certificates. Holds the key in memory; never prints it.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    not_after: Timestamp,
    ledger: Ledger,
}

/// Why there is no authority, or it did not sign.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file or the directory can't be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file holds something else.
    #[error("{} holds no {what}: restore it from a backup, or make a new authority elsewhere with `wasmatrix certs init`", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// The key is another one's.
    #[error("{} is not the key of {CA_FILE} beside it: restore both from the same backup", .0.display())]
    KeyMismatch(PathBuf),
    /// The authority's time is over, or has not come.
    #[error("the authority in {} is not valid now: it is valid from {not_before} to {not_after}", dir.display())]
    NotValidNow {
        /// The authority's directory.
        dir: PathBuf,
        /// Its first valid second.
        not_before: Timestamp,
        /// Its last valid second.
        not_after: Timestamp,
    },
    /// What was ordered can't be signed.
    #[error(transparent)]
    Order(#[from] BadOrder),
    /// The certificate could not be made.
    #[error("the certificate could not be made")]
    Signing(#[source] rcgen::Error),
}

impl Authority {
    /// Makes an authority of that name in `dir`, which is made if need be. Neither file may exist.
    ///
    /// # Errors
    /// A file exists, or can't be written, or others may write to the directory. A failure leaves neither file
    /// behind.
    pub fn create(dir: &Path, name: &str, now: Timestamp) -> Result<Self, AuthorityError> {
        order::legal_name(name)?;
        files::private_dir(dir)?;
        files::refuse_existing(&[dir.join(CA_KEY_FILE), dir.join(CA_FILE)])?;
        let key = KeyPair::generate().map_err(AuthorityError::Signing)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial());
        validity(&mut params, now, later(now, AUTHORITY_VALIDITY))?;
        let certificate = params.self_signed(&key).map_err(AuthorityError::Signing)?;
        let key_pem = PrivateKeyPem::new(key.serialize_pem());
        files::write(&dir.join(CA_KEY_FILE), key_pem.expose().as_bytes(), Readers::Owner, Overwrite::Refuse)?;
        let pem = certificate.pem();
        files::write(&dir.join(CA_FILE), pem.as_bytes(), Readers::Everybody, Overwrite::Refuse)
            .inspect_err(|_| files::undo([dir.join(CA_KEY_FILE).as_path()].into_iter()))?;
        Self::open(dir, now)
    }

    /// Opens the authority in `dir`.
    ///
    /// # Errors
    /// A file is missing, holds something else, or is another authority's; others may read the key; the authority is
    /// not valid now.
    pub fn open(dir: &Path, now: Timestamp) -> Result<Self, AuthorityError> {
        let (cert_path, key_path) = (dir.join(CA_FILE), dir.join(CA_KEY_FILE));
        let no_key = || AuthorityError::Unreadable { path: key_path.clone(), what: "private key in PEM" };
        let no_cert = || AuthorityError::Unreadable {
            path: cert_path.clone(),
            what: "certificate of an authority in PEM",
        };
        let key = PrivateKeyPem::read(&key_path)?.ok_or_else(no_key)?;
        let key = KeyPair::from_pem(key.expose()).map_err(|_| no_key())?;
        let pem = String::from_utf8(files::read(&cert_path)?).map_err(|_| no_cert())?;
        let certificate = crate::credentials::certificates(pem.as_bytes())
            .and_then(|mut found| (!found.is_empty()).then(|| found.swap_remove(0)))
            .ok_or_else(no_cert)?;
        let parsed = certificate::parse(&certificate).map_err(|_| no_cert())?;
        if !parsed.is_ca() {
            return Err(no_cert());
        }
        if parsed.public_key().subject_public_key.data != key.der_bytes() {
            return Err(AuthorityError::KeyMismatch(key_path));
        }
        let (not_before, not_after) = certificate::validity(&parsed).map_err(|_| no_cert())?;
        if now < not_before || now > not_after {
            return Err(AuthorityError::NotValidNow { dir: dir.into(), not_before, not_after });
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| no_cert())?;
        Ok(Self { issuer, pem, not_after, certificate: certificate.clone(), ledger: Ledger::of(dir) })
    }

    /// By which a joiner recognizes the authority.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// The authority's certificate, for those who are to trust it (`ca.pem`).
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// The last second in which it is valid.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Makes a key and a certificate for it. Blocks until what was signed is noted on the disk.
    ///
    /// # Errors
    /// The order can't be signed, see [`BadOrder`]; or it can't be noted.
    pub fn issue(&self, order: &Order, now: Timestamp) -> Result<Bundle, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Signing)?;
        let certificate_pem = self.certify(order, &key, now)?.0;
        Ok(Bundle {
            ca_pem: self.pem.clone(),
            certificate_pem,
            key_pem: PrivateKeyPem::new(key.serialize_pem()),
        })
    }

    /// Makes a certificate for the key of a request. What the request says of role, name or addresses is not read.
    /// Answers the certificate in PEM and what it says. Blocks until what was signed is noted on the disk.
    ///
    /// # Errors
    /// The order can't be signed, see [`BadOrder`]; or it can't be noted.
    pub fn sign(
        &self,
        request: &ProvenRequest,
        order: &Order,
        now: Timestamp,
    ) -> Result<(String, Identity), AuthorityError> {
        self.certify(order, request.key(), now)
    }

    /// The same for one who may have lost the right to it meanwhile: `entitled` is asked while nobody can take anything
    /// back (see [`hold`]), so that a certificate that is taken back is not renewed at the same moment. `None`: it is not.
    ///
    /// # Errors
    /// As [`Authority::sign`].
    pub fn sign_if(
        &self,
        request: &ProvenRequest,
        order: &Order,
        now: Timestamp,
        entitled: impl FnOnce() -> bool,
    ) -> Result<Option<(String, Identity)>, AuthorityError> {
        let held = self.ledger.hold()?;
        if !entitled() {
            return Ok(None);
        }
        self.certify_held(&held, order, request.key(), now).map(Some)
    }

    fn certify(
        &self,
        order: &Order,
        key: &impl PublicKeyData,
        now: Timestamp,
    ) -> Result<(String, Identity), AuthorityError> {
        self.certify_held(&self.ledger.hold()?, order, key, now)
    }

    fn certify_held(
        &self,
        held: &Held,
        order: &Order,
        key: &impl PublicKeyData,
        now: Timestamp,
    ) -> Result<(String, Identity), AuthorityError> {
        order.check()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&order.name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if order.role.serves() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.subject_alt_names = alternative_names(order)?;
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial());
        // A certificate that outlived its authority would end in a riddle.
        validity(&mut params, now, later(now, order.validity).min(self.not_after))?;
        let certificate = params.signed_by(key, &self.issuer).map_err(AuthorityError::Signing)?;
        let identity = Identity::from_der(certificate.der()).map_err(|_| {
            AuthorityError::Signing(rcgen::Error::CouldNotParseCertificate) // what we made, we can read
        })?;
        // Before anybody has it: one that nobody knows of can't be taken back.
        self.ledger.add(held, &Issued::from(&identity), now)?;
        Ok((certificate.pem(), identity))
    }
}

impl std::fmt::Debug for Authority {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn alternative_names(order: &Order) -> Result<Vec<SanType>, AuthorityError> {
    let ia5 = |text: &str| text.try_into().map_err(AuthorityError::Signing);
    let mut names = vec![SanType::URI(ia5(&order.role.uri())?)];
    for host in &order.hosts {
        names.push(match host {
            Host::Ip(address) => SanType::IpAddress(*address),
            Host::Dns(name) => SanType::DnsName(ia5(name)?),
        });
    }
    Ok(names)
}

/// Random, so that two certificates of one key differ; positive, as the standard wants it.
fn serial() -> SerialNumber {
    let mut bytes: [u8; SERIAL_BYTES] = rand::random();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    now.saturating_add(by).unwrap_or(Timestamp::MAX)
}

fn validity(params: &mut CertificateParams, now: Timestamp, end: Timestamp) -> Result<(), AuthorityError> {
    let begin = now.saturating_sub(CLOCK_SKEW).unwrap_or(Timestamp::UNIX_EPOCH);
    let at = |time: Timestamp| {
        ASN1Time::from_timestamp(time.as_second())
            .map(|time| time.to_datetime())
            .map_err(|_| AuthorityError::Signing(rcgen::Error::Time))
    };
    params.not_before = at(begin)?;
    params.not_after = at(end)?;
    Ok(())
}
