//! What an authority has signed: a line for each certificate that may still be in use, so that one can be named when it
//! is to be taken back. No secret is in it.
//!
//! ```text
//! issued.txt      SERIAL FINGERPRINT NOT_AFTER ROLE NAME
//! ```
//!
//! Lines are appended under a lock, by whichever process signs; now and then those go whose time is over.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use wasmatrix_model::Timestamp;

use crate::{
    certificate::{Fingerprint, Identity},
    files::{self, FileError, Overwrite, Readers},
    role::Role,
};

/// The list, in the authority's directory.
pub const ISSUED_FILE: &str = "issued.txt";
/// From this size on, in bytes, what is over is taken out when the file has doubled.
const TIDY_FROM_BYTES: u64 = 1 << 20;
/// Largest list, in bytes: room for a quarter of a million certificates in use.
const BYTES_MAX: u64 = 64 << 20;

/// A certificate that was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// Which it is.
    pub fingerprint: Fingerprint,
    /// Its last valid second.
    pub not_after: Timestamp,
    /// What its holder is.
    pub role: Role,
    /// What its holder is called.
    pub name: String,
}

impl From<&Identity> for Issued {
    fn from(identity: &Identity) -> Self {
        Self {
            serial: identity.serial.clone(),
            fingerprint: identity.fingerprint,
            not_after: identity.not_after,
            role: identity.role.clone(),
            name: identity.name.clone(),
        }
    }
}

impl fmt::Display for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { serial, fingerprint, not_after, role, name } = self;
        write!(f, "{serial} {fingerprint} {not_after} {} {name}", role.uri())
    }
}

impl Issued {
    /// Reads a line of the list; `None`: it is none.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(5, ' ');
        Some(Self {
            serial: words.next()?.to_owned(),
            fingerprint: words.next()?.parse().ok()?,
            not_after: words.next()?.parse().ok()?,
            role: Role::from_uri(words.next()?).ok()?,
            name: words.next()?.to_owned(),
        })
    }
}

/// The list of one authority.
#[derive(Debug)]
pub(super) struct Ledger {
    dir: PathBuf,
    /// How large it was when it was last tidied, in bytes.
    tidied: AtomicU64,
}

impl Ledger {
    pub(super) fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), tidied: AtomicU64::new(0) }
    }

    /// Keeps everybody else from signing.
    pub(super) fn hold(&self) -> Result<Held, FileError> {
        hold(&self.dir)
    }

    /// Notes a certificate that was signed, so that it lasts. Blocks for a write to the disk.
    pub(super) fn add(&self, _: &Held, issued: &Issued, now: Timestamp) -> Result<(), FileError> {
        let path = self.dir.join(ISSUED_FILE);
        let failed = |source| FileError::Write { path: path.clone(), source };
        self.tidy(&path, now)?;
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        // A line that was cut off by a power failure is not continued.
        let begin = if ends_line(&mut file).map_err(failed)? { "" } else { "\n" };
        file.write_all(format!("{begin}{issued}\n").as_bytes()).map_err(failed)?;
        file.sync_data().map_err(failed)
    }

    /// Takes out what is over, if that is worth it.
    fn tidy(&self, path: &Path, now: Timestamp) -> Result<(), FileError> {
        let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        if size < TIDY_FROM_BYTES.max(2 * self.tidied.load(Relaxed)) {
            return Ok(());
        }
        let kept = read(path)?.into_iter().filter(|issued| issued.not_after >= now);
        let text: String = kept.map(|issued| format!("{issued}\n")).collect();
        files::write(path, text.as_bytes(), Readers::Owner, Overwrite::Replace)?;
        self.tidied.store(text.len() as u64, Relaxed);
        if text.len() as u64 >= BYTES_MAX { Err(FileError::TooLarge(path.into())) } else { Ok(()) }
    }
}

/// While it lives, the authority signs nothing, in whichever process.
#[derive(Debug)]
pub struct Held {
    _lock: File,
}

/// Keeps the authority in `dir` from signing, until what is given is dropped: for who takes certificates back. What it has
/// signed by then is listed, and whoever waits meanwhile for another certificate is judged by what was taken back.
///
/// # Errors
/// There is no such directory.
pub fn hold(dir: &Path) -> Result<Held, FileError> {
    files::lock(dir).map(|lock| Held { _lock: lock })
}

/// What the authority in `dir` has signed and is not over, oldest first. A line that can't be read is passed over.
///
/// # Errors
/// The list can't be read. That there is none, as of an authority from before there were lists, is no error.
pub fn issued(dir: &Path, now: Timestamp) -> Result<Vec<Issued>, FileError> {
    let mut all = read(&dir.join(ISSUED_FILE))?;
    all.retain(|issued| issued.not_after >= now);
    Ok(all)
}

fn read(path: &Path) -> Result<Vec<Issued>, FileError> {
    let bytes = match files::read_up_to(path, 2 * BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(FileError::Missing(_)) => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(String::from_utf8_lossy(&bytes).lines().filter_map(Issued::parse).collect())
}

fn ends_line(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn issued_until(second: i64) -> Issued {
        Issued {
            serial: format!("{second:032x}"),
            fingerprint: Fingerprint::of(&second.to_be_bytes()),
            not_after: at(second),
            role: Role::Node("worker-1".parse().unwrap()),
            name: "a name of several words".to_owned(),
        }
    }

    #[test]
    fn what_was_noted_is_read_until_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(issued(dir.path(), at(0)).unwrap(), [], "there is no list yet");
        let ledger = Ledger::of(dir.path());
        let all = [10, 20, 30].map(issued_until);
        all.iter().for_each(|one| ledger.add(&ledger.hold().unwrap(), one, at(0)).unwrap());
        assert_eq!(issued(dir.path(), at(0)).unwrap(), all);
        assert_eq!(issued(dir.path(), at(20)).unwrap(), all[1..]);
        let nameless = Issued { name: String::new(), role: Role::Viewer, ..issued_until(40) };
        ledger.add(&ledger.hold().unwrap(), &nameless, at(0)).unwrap();
        assert_eq!(issued(dir.path(), at(35)).unwrap(), [nameless]);
    }

    #[test]
    fn a_line_that_was_cut_off_costs_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::of(dir.path());
        ledger.add(&ledger.hold().unwrap(), &issued_until(1), at(0)).unwrap();
        let path = dir.path().join(ISSUED_FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}{}", &text[..50])).unwrap();
        ledger.add(&ledger.hold().unwrap(), &issued_until(2), at(0)).unwrap();
        assert_eq!(issued(dir.path(), at(0)).unwrap(), [1, 2].map(issued_until));
    }

    #[test]
    fn a_list_that_has_grown_is_rid_of_what_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ISSUED_FILE);
        let line = format!("{}\n", issued_until(5));
        let lines = usize::try_from(TIDY_FROM_BYTES).unwrap() / line.len() + 1;
        std::fs::write(&path, line.repeat(lines)).unwrap();
        let ledger = Ledger::of(dir.path());
        ledger.add(&ledger.hold().unwrap(), &issued_until(7), at(5)).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() > TIDY_FROM_BYTES, "none was over");
        ledger.add(&ledger.hold().unwrap(), &issued_until(8), at(6)).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() > TIDY_FROM_BYTES, "it was looked at a moment ago");
        let other = Ledger::of(dir.path());
        other.add(&other.hold().unwrap(), &issued_until(9), at(6)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3);
    }
}
