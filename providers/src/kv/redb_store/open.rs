//! Finds or makes the file of a store, and says why it can't.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use redb::{Database, DatabaseError, ReadableDatabase as _, StorageError, TableHandle as _};

use super::tables::{COUNTERS, ENTRIES, FORMAT};

/// Which layout the tables have. A store of another one is refused, never guessed at.
const FORMAT_VERSION: u64 = 1;
/// Memory for pages of the file, in bytes.
const CACHE_BYTES: usize = 64 << 20;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or this one, has it open.
    #[error("{} is in use: stop the process that has it open, or choose another file", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The path is that of a directory.
    #[error("{} is a directory: choose a file in it", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// The file holds something else, or is damaged.
    #[error(
        "{} is not a key-value store, or it is damaged ({reason}): restore it from a copy, or move it away to begin \
         with an empty one",
        path.display()
    )]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What gave it away.
        reason: String,
    },
    /// The file was written by a version of Wasmatrix that lays it out in another way.
    #[error("{} has the layout {found}; this version of Wasmatrix reads layout {FORMAT_VERSION}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u64,
    },
    /// The operating system refused.
    #[error("{} can't be read and written: see that its directory is there and belongs to this user", path.display())]
    Inaccessible {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// No thread could be started for the writer.
    #[error("no thread could be started for the key-value store")]
    Thread {
        /// What the operating system said.
        source: io::Error,
    },
}

/// Opens the file, or makes it and its tables.
pub(super) fn database(path: &Path) -> Result<Database, OpenError> {
    let file = file(path)?;
    let database = redb::Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create_file(file)
        .map_err(|error| refusal(path, error))?;
    check_or_make_tables(&database, path)?;
    Ok(database)
}

/// Opens the file itself, for this user alone, since what guests store is nobody else's business.
fn file(path: &Path) -> Result<File, OpenError> {
    let inaccessible = |source| OpenError::Inaccessible { path: path.to_owned(), source };
    // Before it is opened: to open a pipe or a device may already do something.
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => return Err(OpenError::Directory { path: path.to_owned() }),
        Ok(metadata) if !metadata.is_file() => {
            return Err(OpenError::NotAStore {
                path: path.to_owned(),
                reason: "it is no regular file".to_owned(),
            });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(inaccessible(error)),
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.clone().create_new(true).open(path) {
        Ok(file) => {
            // Otherwise a power failure could take the name of the file away, with all that was acknowledged.
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(directory.unwrap_or(Path::new(".")))
                .and_then(|directory| directory.sync_all())
                .map_err(inaccessible)?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            options.open(path).map_err(inaccessible)
        }
        Err(error) => Err(inaccessible(error)),
    }
}

fn refusal(path: &Path, error: DatabaseError) -> OpenError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path },
        // redb says so of a file that does not begin as one of its own.
        DatabaseError::Storage(StorageError::Io(source)) if source.kind() == io::ErrorKind::InvalidData => {
            OpenError::NotAStore { path, reason: source.to_string() }
        }
        DatabaseError::Storage(StorageError::Io(source)) => OpenError::Inaccessible { path, source },
        other => OpenError::NotAStore { path, reason: other.to_string() },
    }
}

fn check_or_make_tables(database: &Database, path: &Path) -> Result<(), OpenError> {
    let unreadable =
        |error: redb::Error| OpenError::NotAStore { path: path.to_owned(), reason: error.to_string() };
    match found(database).map_err(unreadable)? {
        Found::Nothing => make_tables(database).map_err(unreadable),
        Found::Store(FORMAT_VERSION) => Ok(()),
        Found::Store(found) => Err(OpenError::Format { path: path.to_owned(), found }),
        Found::SomethingElse => Err(OpenError::NotAStore {
            path: path.to_owned(),
            reason: "it is the database of another program".to_owned(),
        }),
    }
}

enum Found {
    Nothing,
    Store(u64),
    SomethingElse,
}

fn found(database: &Database) -> Result<Found, redb::Error> {
    let transaction = database.begin_read()?;
    let tables: Vec<String> = transaction.list_tables()?.map(|table| table.name().to_owned()).collect();
    if tables.is_empty() {
        return Ok(Found::Nothing);
    }
    if !tables.iter().any(|name| name == COUNTERS.name()) {
        return Ok(Found::SomethingElse);
    }
    let format = transaction.open_table(COUNTERS)?.get(FORMAT)?.map(|format| format.value());
    Ok(format.map_or(Found::SomethingElse, Found::Store))
}

pub(super) fn make_tables(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(ENTRIES)?;
    transaction.open_table(COUNTERS)?.insert(FORMAT, FORMAT_VERSION)?;
    transaction.commit()?;
    Ok(())
}
