//! Certificates that are refused though their time is not over: a list in a file, beside the credentials of who refuses.

use std::{collections::HashSet, path::Path, sync::Arc};

use super::Problem;
use crate::{
    certificate::{Fingerprint, Identity},
    files::{self, FileError, Overwrite, Readers},
};

/// The list: a fingerprint a line, and after a `#` whatever somebody should know about it.
pub const REVOKED_FILE: &str = "revoked.txt";

/// The fingerprints of the certificates that are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Revoked(Arc<HashSet<Fingerprint>>);

impl Revoked {
    pub(crate) fn contains(&self, fingerprint: Fingerprint) -> bool {
        self.0.contains(&fingerprint)
    }

    /// Reads the list in `dir`; without one, nothing is revoked.
    pub(super) fn read(dir: &Path) -> Result<Result<Self, Problem>, FileError> {
        match files::read(&dir.join(REVOKED_FILE)) {
            Ok(bytes) => Ok(Self::parse(&String::from_utf8_lossy(&bytes))),
            Err(FileError::Missing(_)) => Ok(Ok(Self::default())),
            Err(error) => Err(error),
        }
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

/// Puts a certificate on the list in `dir`, with `note` for whoever reads it. Those who follow the files of `dir` refuse
/// it from their next look on: new connections and, where requests are checked, open ones. Whether it is new there.
///
/// # Errors
/// The list can't be read or written, or would be longer than what is read.
pub fn revoke(dir: &Path, fingerprint: Fingerprint, note: &str) -> Result<bool, FileError> {
    let path = dir.join(REVOKED_FILE);
    let mut text = match files::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(FileError::Missing(_)) => String::new(),
        Err(error) => return Err(error),
    };
    let entry = fingerprint.to_string();
    if text.lines().any(|line| line.trim_start().starts_with(&entry)) {
        return Ok(false);
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let note: String =
        note.chars().map(|char| if char.is_control() { ' ' } else { char }).take(200).collect();
    text += &if note.is_empty() { format!("{entry}\n") } else { format!("{entry}  # {note}\n") };
    if text.len() as u64 > files::FILE_BYTES_MAX {
        return Err(FileError::TooLarge(path));
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
