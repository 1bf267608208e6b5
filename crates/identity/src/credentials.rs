//! What one member of the cluster proves itself with: three files in a directory, read together and proven together.
//!
//! ```text
//! DIR/              0700
//!   ca.pem          whom we trust: one authority, or two while one replaces the other
//!   cert.pem        who we are, signed by one of them
//!   key.pem         0600, the key of cert.pem
//!   revoked.txt     if there are any: the fingerprints of certificates that we refuse
//!   key-next.pem    only after a renewal that was cut off: the key of a cert.pem newer than key.pem
//! ```
//!
//! Two files can't be replaced in one step, so a renewal writes `key-next.pem`, then `cert.pem`, then renames the key.
//! Whenever it is cut off, one of the two keys belongs to the certificate that is there, and that one is used.

use std::{fmt, path::Path, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use wasmatrix_model::{Clock, Timestamp};
use zeroize::Zeroizing;

mod problem;
mod revoked;

pub(crate) use problem::another;
pub use problem::{CredentialsError, Problem};
pub(crate) use revoked::check as check_revoked;
pub use revoked::{REVOKED_FILE, RevokeError, Revoked, revoke};

use crate::{
    certificate::{self, Fingerprint, Identity},
    files::{self, FileError, Overwrite, Readers, Stamp},
    tls,
};

/// Whom we trust.
pub const CA_FILE: &str = "ca.pem";
/// Who we are.
pub const CERT_FILE: &str = "cert.pem";
/// The key of who we are.
pub const KEY_FILE: &str = "key.pem";
/// The key of a renewal that was cut off.
const NEXT_KEY_FILE: &str = "key-next.pem";

/// A private key in PEM. It is wiped from memory when dropped, and never printed by `Debug`.
#[derive(Clone)]
pub struct PrivateKeyPem(Zeroizing<String>);

impl PrivateKeyPem {
    /// Takes the PEM text of a key.
    pub fn new(pem: String) -> Self {
        Self(Zeroizing::new(pem))
    }

    /// The text. It belongs into a file that only its owner reads, and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Reads a key file; `None` if it holds no private key.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, FileError> {
        let bytes = Zeroizing::new(files::read_key(path)?);
        let Ok(text) = std::str::from_utf8(&bytes) else { return Ok(None) };
        let key = Self::new(text.to_owned());
        Ok(key.der().map(|_| key))
    }

    fn der(&self) -> Option<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(self.0.as_bytes()).ok()
    }
}

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyPem(..)")
    }
}

/// What the three files hold, on its way to them.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The authorities to trust, in PEM.
    pub ca_pem: String,
    /// The certificate, in PEM.
    pub certificate_pem: String,
    /// Its key.
    pub key_pem: PrivateKeyPem,
}

impl Bundle {
    /// Proves that the parts belong together and are valid now, as [`Credentials::load`] would.
    ///
    /// # Errors
    /// They do not; see [`Problem`].
    pub fn prove(&self, clock: &Arc<dyn Clock>) -> Result<Credentials, Problem> {
        Parts { ca_pem: &self.ca_pem, certificate_pem: &self.certificate_pem, revoked: Revoked::default() }
            .prove(&self.key_pem, clock)
    }

    /// Whether the authority of that fingerprint is the only one it trusts: asked by a joiner of what it was sent,
    /// before it is written.
    pub fn trusts_only(&self, authority: Fingerprint) -> bool {
        certificates(self.ca_pem.as_bytes()).is_some_and(|found| {
            !found.is_empty() && found.iter().all(|der| Fingerprint::of(der) == authority)
        })
    }

    /// Writes the three files into `dir`, which is made (0700) if need be. With [`Overwrite::Replace`], whoever reads
    /// meanwhile, or after a power cut at any moment, finds the old credentials or the new ones. With
    /// [`Overwrite::Refuse`], a failure leaves no file behind.
    ///
    /// # Errors
    /// A file exists and is not to be replaced; others may write to the directory; writing failed.
    pub fn write(&self, dir: &Path, overwrite: Overwrite) -> Result<(), FileError> {
        let [ca, cert, key, next] = [CA_FILE, CERT_FILE, KEY_FILE, NEXT_KEY_FILE].map(|file| dir.join(file));
        files::private_dir(dir)?;
        if overwrite == Overwrite::Refuse {
            files::refuse_existing(&[ca.clone(), cert.clone(), key.clone()])?;
        } else {
            finish_renewal(dir)?;
        }
        let steps = [
            (&next, self.key_pem.expose(), Readers::Owner, Overwrite::Replace),
            (&ca, &self.ca_pem, Readers::Everybody, overwrite),
            (&cert, &self.certificate_pem, Readers::Everybody, overwrite),
        ];
        for (done, (path, text, readers, overwrite)) in steps.into_iter().enumerate() {
            if let Err(error) = files::write(path, text.as_bytes(), readers, overwrite) {
                if overwrite == Overwrite::Refuse {
                    files::undo(steps[..done].iter().map(|(path, ..)| path.as_path()));
                }
                return Err(error);
            }
        }
        files::rename(&next, &key)
    }
}

/// If an earlier renewal was cut off after its certificate was written, its key becomes `key.pem`, so that the next
/// renewal has the other name for itself.
fn finish_renewal(dir: &Path) -> Result<(), FileError> {
    let next = dir.join(NEXT_KEY_FILE);
    let key = match PrivateKeyPem::read(&next) {
        Ok(Some(key)) => key,
        Ok(None) | Err(FileError::Missing(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    let chain = files::read(&dir.join(CERT_FILE)).ok().and_then(|pem| certificates(&pem)).unwrap_or_default();
    match certified(chain, &key) {
        Ok(_) => files::rename(&next, &dir.join(KEY_FILE)),
        Err(_) => Ok(()),
    }
}

/// Credentials that have been proven: the key is the certificate's, a trusted authority signed it, it is valid now,
/// and it says who its holder is.
pub struct Credentials {
    identity: Identity,
    ca_pem: String,
    authorities: Vec<Fingerprint>,
    roots: Arc<RootCertStore>,
    revoked: Revoked,
    key: Arc<CertifiedKey>,
    serving: Option<Serving>,
}

/// How connections are answered, for those whose role is to answer.
struct Serving {
    required: Arc<ServerConfig>,
    optional: Arc<ServerConfig>,
}

impl Credentials {
    /// Reads and proves the credentials in `dir`.
    ///
    /// # Errors
    /// A file is missing or can't be used, or they do not prove themselves. The message names the file, what is wrong,
    /// and the command that mends it.
    pub fn load(dir: &Path, clock: &Arc<dyn Clock>) -> Result<Self, CredentialsError> {
        let bad = |problem| CredentialsError::Bad { dir: dir.into(), problem };
        let file = |source| CredentialsError::File { source };
        files::trusted_dir(dir).map_err(file)?;
        let text = |name| {
            let bytes = files::read(&dir.join(name)).map_err(file)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let (ca_pem, certificate_pem) = (&text(CA_FILE)?, &text(CERT_FILE)?);
        let revoked = Revoked::read(dir).map_err(file)?.map_err(bad)?;
        let parts = Parts { ca_pem, certificate_pem, revoked };
        let key = PrivateKeyPem::read(&dir.join(KEY_FILE));
        let next = || PrivateKeyPem::read(&dir.join(NEXT_KEY_FILE)).ok().flatten();
        let proven = match &key {
            Ok(Some(key)) => parts.prove(key, clock),
            Ok(None) => Err(Problem::NoKey),
            Err(FileError::Missing(_)) => Err(Problem::KeyMismatch),
            Err(_) => return key.map_err(file).and(Err(bad(Problem::NoKey))),
        };
        match (proven, next()) {
            (Err(Problem::KeyMismatch), Some(next)) => parts.prove(&next, clock).map_err(bad),
            // Without a renewal to fall back on, the missing file is what has to be said.
            (Err(Problem::KeyMismatch), None) if key.is_err() => {
                Err(file(FileError::Missing(dir.join(KEY_FILE))))
            }
            (proven, _) => proven.map_err(bad),
        }
    }

    /// Whether a process with our rights can write to `dir`, as a renewal has to.
    ///
    /// # Errors
    /// It can't.
    pub fn can_be_renewed_in(dir: &Path) -> Result<(), FileError> {
        files::private_dir(dir)?;
        files::writable(dir)
    }

    /// Who they say we are.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The authorities that are trusted, in PEM, as in `ca.pem`.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The fingerprints of the authorities that are trusted, as in `ca.pem`.
    pub fn authorities(&self) -> &[Fingerprint] {
        &self.authorities
    }

    /// Whether that certificate is on the list of those we refuse.
    pub fn revoked(&self, certificate: Fingerprint) -> bool {
        self.revoked.contains(certificate)
    }

    pub(crate) fn revocations(&self) -> &Revoked {
        &self.revoked
    }

    pub(crate) fn roots(&self) -> &Arc<RootCertStore> {
        &self.roots
    }

    pub(crate) fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }

    /// `None` if the role is not one that answers connections.
    pub(crate) fn server_config(&self, required: bool) -> Option<&Arc<ServerConfig>> {
        self.serving.as_ref().map(|serving| if required { &serving.required } else { &serving.optional })
    }
}

/// What is to be proven, but for the key, of which there may be two.
struct Parts<'a> {
    ca_pem: &'a str,
    certificate_pem: &'a str,
    revoked: Revoked,
}

impl Parts<'_> {
    fn prove(&self, key: &PrivateKeyPem, clock: &Arc<dyn Clock>) -> Result<Credentials, Problem> {
        let now = clock.now();
        let authorities = authorities(self.ca_pem, now)?;
        let mut chain = certificates(self.certificate_pem.as_bytes()).ok_or(Problem::NoCertificate)?;
        let end_entity = chain.first().ok_or(Problem::NoCertificate)?;
        let identity = Identity::from_der(end_entity).map_err(Problem::Certificate)?;
        // Before the chain is looked at, so that an old certificate is called old and not foreign.
        if identity.expired(now) {
            return Err(Problem::Expired { role: identity.role, since: identity.not_after });
        }
        if now < identity.not_before {
            return Err(Problem::NotYetValid { from: identity.not_before, now });
        }
        let roots = tls::roots(&authorities);
        tls::prove_chain(&chain, &roots, now).map_err(|source| Problem::ForeignAuthority {
            role: identity.role.clone(),
            source: Box::new(source),
        })?;
        // The authority travels along, for joiners that know nothing of it but its fingerprint.
        let issuer = chain.last().and_then(|last| certificate::issuer_of(last, &authorities));
        if let Some(issuer) = issuer.filter(|issuer| !chain.contains(issuer)) {
            chain.push(issuer.clone());
        }
        let key = Arc::new(certified(chain, key)?);
        let config =
            |required| tls::server_config(&key, &roots, &self.revoked, required, clock).map_err(Problem::Tls);
        let serving = if identity.role.serves() {
            Some(Serving { required: config(true)?, optional: config(false)? })
        } else {
            None
        };
        Ok(Credentials {
            identity,
            ca_pem: self.ca_pem.to_owned(),
            authorities: authorities.iter().map(|der| Fingerprint::of(der)).collect(),
            roots,
            revoked: self.revoked.clone(),
            key,
            serving,
        })
    }
}

impl fmt::Debug for Credentials {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("identity", &self.identity).finish_non_exhaustive()
    }
}

pub(crate) type Stamps = [Stamp; 5];

/// What tells whether any of the files in `dir` has changed.
pub(crate) fn stamps(dir: &Path) -> Stamps {
    [CA_FILE, CERT_FILE, KEY_FILE, NEXT_KEY_FILE, REVOKED_FILE].map(|file| files::stamp(&dir.join(file)))
}

/// All certificates in a PEM text; `None` if one is damaged.
pub(crate) fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()
}

/// The authorities in `ca.pem` that are valid now.
fn authorities(ca_pem: &str, now: Timestamp) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let all = certificates(ca_pem.as_bytes()).ok_or(Problem::NoAuthority)?;
    let mut valid = Vec::new();
    let mut ended = None;
    for der in all {
        let authority = certificate::parse(&der).map_err(|_| Problem::NoAuthority)?;
        if !authority.is_ca() {
            return Err(Problem::NotAnAuthority(certificate::common_name(&authority)));
        }
        let (not_before, not_after) = certificate::validity(&authority).map_err(|_| Problem::NoAuthority)?;
        if now < not_before || now.as_second() > not_after.as_second() {
            ended = Some(Problem::AuthorityNotValidNow { not_before, not_after });
        } else {
            valid.push(der);
        }
    }
    if valid.is_empty() { Err(ended.unwrap_or(Problem::NoAuthority)) } else { Ok(valid) }
}

fn certified(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyPem) -> Result<CertifiedKey, Problem> {
    let key = key.der().ok_or(Problem::NoKey)?;
    let key = tls::provider().key_provider.load_private_key(key).map_err(|_| Problem::NoKey)?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|_| Problem::KeyMismatch)?;
    Ok(certified)
}
