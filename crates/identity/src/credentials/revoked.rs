//! Certificates that are refused though their time is not over: a list in a file, beside the credentials of who refuses.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::Problem;
use crate::{
    certificate::{Fingerprint, Identity},
    files::{self, FileError, Overwrite, Readers},
};

/// The list: a fingerprint a line, and after a `#` whatever somebody should know about it.
pub const REVOKED_FILE: &str = "revoked.txt";
/// Longest note on a line, in characters.
const NOTE_CHARS_MAX: usize = 200;

/// The fingerprints of the certificates that are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked(Arc<HashSet<Fingerprint>>);

/// Why a list was not read, or not added to.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// The file can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A line of it is no fingerprint, and a list with such a line is not used by anybody.
    #[error("{}: {problem}", path.display())]
    Line {
        /// The list.
        path: PathBuf,
        /// Which line, and what to do.
        #[source]
        problem: Problem,
    },
}

impl Revoked {
    /// Whether that certificate is among them.
    pub fn contains(&self, fingerprint: Fingerprint) -> bool {
        self.0.contains(&fingerprint)
    }

    /// Reads the list in `dir`; without one, nothing is revoked.
    ///
    /// # Errors
    /// It can't be read, or not whole.
    pub fn in_dir(dir: &Path) -> Result<Self, RevokeError> {
        let path = dir.join(REVOKED_FILE);
        Self::read(dir)?.map_err(|problem| RevokeError::Line { path, problem })
    }

    pub(super) fn read(dir: &Path) -> Result<Result<Self, Problem>, FileError> {
        Ok(Self::parse(&text(dir)?))
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        let mut revoked = HashSet::new();
        for (number, line) in text.lines().enumerate() {
            let entry = line.split('#').next().unwrap_or_default().trim();
            if !entry.is_empty() {
                // A line that is passed over would let somebody in.
                revoked.insert(entry.parse().map_err(|_| Problem::Revoked { line: number + 1 })?);
            }
        }
        Ok(Self(Arc::new(revoked)))
    }
}

fn text(dir: &Path) -> Result<String, FileError> {
    match files::read(&dir.join(REVOKED_FILE)) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(FileError::Missing(_)) => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// Puts a certificate on the list in `dir`, with `note` for whoever reads it. Those who follow the files of `dir` refuse
/// it from their next look on: new connections and, where requests are checked, open ones. Whether it is new there.
///
/// # Errors
/// The list can't be read or written, holds a line that keeps it from being used, or would be longer than what is read.
pub fn revoke(dir: &Path, fingerprint: Fingerprint, note: &str) -> Result<bool, RevokeError> {
    let path = dir.join(REVOKED_FILE);
    // Two who revoke at a time are not to forget each other's.
    let _locked = files::lock(dir)?;
    if Revoked::in_dir(dir)?.contains(fingerprint) {
        return Ok(false);
    }
    let mut text = text(dir)?;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let note: String =
        note.chars().map(|char| if char.is_control() { ' ' } else { char }).take(NOTE_CHARS_MAX).collect();
    text += &if note.is_empty() { format!("{fingerprint}\n") } else { format!("{fingerprint}  # {note}\n") };
    if text.len() as u64 > files::FILE_BYTES_MAX {
        return Err(FileError::TooLarge(path).into());
    }
    files::write(&path, text.as_bytes(), Readers::Everybody, Overwrite::Replace)?;
    Ok(true)
}

/// Whether a handshake may go on, as far as the list has a say.
pub(crate) fn check(revoked: &Revoked, identity: &Identity) -> Result<(), rustls::Error> {
    if revoked.contains(identity.fingerprint) {
        Err(rustls::CertificateError::Revoked.into())
    } else {
        Ok(())
    }
}
