//! Keys and certificates on disk: bounded reads, private directories, writes that happen whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

/// Largest file that is read: room for a bundle of authorities, none for a mistake.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 20;

/// Who may read what is written. Its writer alone may write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// 0600.
    Owner,
    /// 0644: certificates are no secret.
    Everybody,
}

/// What becomes of a file that is already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// It stays, and the write is refused.
    Refuse,
    /// It is replaced.
    Replace,
}

/// A file or directory that could not be used. Each message names it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is no such file.
    #[error("{} is missing", .0.display())]
    Missing(PathBuf),
    /// The file is larger than any such file is.
    #[error("{} is larger than such a file may be, so it is not what it should be", .0.display())]
    TooLarge(PathBuf),
    /// Reading failed.
    #[error("{} could not be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Writing failed; what was there before still is.
    #[error("{} could not be written", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It exists, and nobody said to replace it.
    #[error("{} exists and is not overwritten", .0.display())]
    Exists(PathBuf),
    /// Others may read a key, or write what we trust.
    #[error("{} may be {danger} by others (mode {mode:03o}): chmod {wanted:03o} {}", path.display(), path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// `read` or `written`.
        danger: &'static str,
        /// Its permission bits.
        mode: u32,
        /// What they should be.
        wanted: u32,
    },
    /// It is something else than a directory.
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
}

/// Makes `dir` (0700, and its parents if need be), or checks that only its owner may write to it.
pub(crate) fn private_dir(dir: &Path) -> Result<(), FileError> {
    let failed = |source| FileError::Write { path: dir.into(), source };
    match fs::metadata(dir) {
        Ok(metadata) if !metadata.is_dir() => Err(FileError::NotADirectory(dir.into())),
        Ok(metadata) if metadata.mode() & 0o022 != 0 => Err(FileError::Exposed {
            path: dir.into(),
            danger: "written",
            mode: metadata.mode() & 0o777,
            wanted: 0o700,
        }),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Refuses a directory in which anybody can put other files in the place of those that are believed.
pub(crate) fn trusted_dir(dir: &Path) -> Result<(), FileError> {
    match fs::metadata(dir).map(|metadata| metadata.mode() & 0o777) {
        Ok(mode) if mode & 0o002 != 0 => {
            Err(FileError::Exposed { path: dir.into(), danger: "written", mode, wanted: 0o700 })
        }
        // What is wrong otherwise comes up where its files are read.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Reads a file that anybody may know, and not everybody may write.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    read_up_to(path, FILE_BYTES_MAX)
}

/// The same of a file that may be of another size.
pub(crate) fn read_up_to(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FileError> {
    read_if(path, bytes_max, |mode| match mode {
        _ if mode & 0o002 == 0 => Ok(()),
        _ => Err(FileError::Exposed { path: path.into(), danger: "written", mode, wanted: 0o644 }),
    })
}

/// Reads a key: refused if others than its owner and group may read it, or others than its owner may write it.
pub(crate) fn read_key(path: &Path) -> Result<Vec<u8>, FileError> {
    read_if(path, FILE_BYTES_MAX, |mode| {
        let exposed = |danger| FileError::Exposed { path: path.into(), danger, mode, wanted: 0o600 };
        match mode {
            _ if mode & 0o022 != 0 => Err(exposed("written")),
            _ if mode & 0o004 != 0 => Err(exposed("read")),
            _ => Ok(()),
        }
    })
}

fn read_if(
    path: &Path,
    bytes_max: u64,
    check: impl FnOnce(u32) -> Result<(), FileError>,
) -> Result<Vec<u8>, FileError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => FileError::Missing(path.into()),
        _ => FileError::Read { path: path.into(), source },
    };
    // A pipe or a device would hold the reader for ever.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    let file = File::open(path).map_err(failed)?;
    check(file.metadata().map_err(failed)?.permissions().mode() & 0o777)?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        return Err(FileError::TooLarge(path.into()));
    }
    Ok(bytes)
}

/// Writes a file whole or not at all, and so that it is there after a power cut.
pub(crate) fn write(
    path: &Path,
    bytes: &[u8],
    readers: Readers,
    overwrite: Overwrite,
) -> Result<(), FileError> {
    let failed = |source| FileError::Write { path: path.into(), source };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(dir).map_err(failed)?; // made 0600
    file.write_all(bytes).map_err(failed)?;
    if readers == Readers::Everybody {
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed)?;
    }
    file.as_file().sync_all().map_err(failed)?;
    let persisted = match overwrite {
        Overwrite::Replace => file.persist(path),
        Overwrite::Refuse => file.persist_noclobber(path),
    };
    persisted.map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => FileError::Exists(path.into()),
        _ => failed(error.error),
    })?;
    sync_dir(dir).map_err(failed)
}

/// Keeps every other process that asks for the same out of `dir`, until it is dropped: for who reads and then writes.
pub(crate) fn lock(dir: &Path) -> Result<File, FileError> {
    let failed = |source| FileError::Write { path: dir.into(), source };
    let dir = File::open(dir).map_err(failed)?;
    dir.lock().map_err(failed)?;
    Ok(dir)
}

/// Whether files can be written to `dir`, tried by writing one.
pub(crate) fn writable(dir: &Path) -> Result<(), FileError> {
    NamedTempFile::new_in(dir).map(drop).map_err(|source| FileError::Write { path: dir.into(), source })
}

/// Gives a file another name, in place of what had it, and so that it lasts.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    let failed = |source| FileError::Write { path: to.into(), source };
    fs::rename(from, to).map_err(failed)?;
    sync_dir(to.parent().unwrap_or(Path::new("."))).map_err(failed)
}

/// Takes back what was written just now, before somebody relies on half of it.
pub(crate) fn undo<'a>(written: impl Iterator<Item = &'a Path>) {
    for path in written {
        let _ = fs::remove_file(path); // the failure that led here is the one to be told
    }
}

/// Refuses if any of these exists: asked before the first of several writes.
pub(crate) fn refuse_existing(paths: &[PathBuf]) -> Result<(), FileError> {
    paths
        .iter()
        .find(|path| fs::symlink_metadata(path).is_ok())
        .map_or(Ok(()), |path| Err(FileError::Exists(path.clone())))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// What tells that a file is no longer the one that was read: which file it is, its size and when it was written.
pub(crate) type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// The stamp of a file; `None` if it can't be looked at.
pub(crate) fn stamp(path: &Path) -> Stamp {
    let seen = fs::metadata(path).ok()?;
    Some((seen.dev(), seen.ino(), seen.size(), seen.ctime(), seen.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn what_is_written_is_as_private_as_was_asked() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        private_dir(&inner).unwrap();
        assert_eq!((mode(&inner), mode(&dir.path().join("a"))), (0o700, 0o700));
        write(&inner.join("key"), b"k", Readers::Owner, Overwrite::Refuse).unwrap();
        write(&inner.join("cert"), b"c", Readers::Everybody, Overwrite::Refuse).unwrap();
        assert_eq!((mode(&inner.join("key")), mode(&inner.join("cert"))), (0o600, 0o644));
    }

    #[test]
    fn nothing_is_overwritten_unless_told_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write(&path, b"1", Readers::Owner, Overwrite::Refuse).unwrap();
        let again = write(&path, b"2", Readers::Owner, Overwrite::Refuse);
        assert!(matches!(again, Err(FileError::Exists(_))));
        assert_eq!(read(&path).unwrap(), b"1");
        write(&path, b"3", Readers::Owner, Overwrite::Replace).unwrap();
        assert_eq!(read(&path).unwrap(), b"3");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        write(&path, b"k", Readers::Owner, Overwrite::Refuse).unwrap();
        for (bits, good) in [(0o600, true), (0o400, true), (0o640, true), (0o644, false), (0o660, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
            assert_eq!(read_key(&path).is_ok(), good, "{bits:o}");
        }
        let message = read_key(&path).unwrap_err().to_string();
        assert!(message.contains("chmod 600") && message.contains("key.pem"), "{message}");
    }

    #[test]
    fn what_is_no_file_or_too_large_is_refused_and_not_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(dir.path()), Err(FileError::Read { .. })));
        assert!(matches!(read(&dir.path().join("none")), Err(FileError::Missing(_))));
        let large = dir.path().join("large");
        File::create(&large).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        assert!(matches!(read(&large), Err(FileError::TooLarge(_))));
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(private_dir(dir.path()), Err(FileError::Exposed { .. })));
    }
}
