//! The id of a node that was not given one: made up once, kept in a file, the same after every restart.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use wasmatrix_model::NodeId;

/// The file's name.
const FILE: &str = "node-id";
/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 10;
/// Random characters at the end of an id that is made up.
const LOT: usize = 6;
/// How much of the machine's name goes into it, in bytes.
const HOST_BYTES_MAX: usize = 40;

/// Why there is no id.
#[derive(Debug, thiserror::Error)]
pub enum NodeIdError {
    /// The file could not be read or written.
    #[error("the node's id can't be kept in {path}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{path} holds `{text}`, which is no node id: write the node's id into it (1 to 63 of a-z, 0-9 and inner \
         hyphens), or remove it to have a new one made up"
    )]
    NotAnId {
        /// Which file.
        path: PathBuf,
        /// What it holds, or the beginning of that.
        text: String,
    },
}

/// The id that is kept in `dir`, or a new one, kept there from now on; the directory is made if it is missing. Several
/// processes that do so at one time get the same.
///
/// # Errors
/// The directory can't be used, or its file holds no id.
pub fn load_or_create(dir: &Path) -> Result<NodeId, NodeIdError> {
    let path = dir.join(FILE);
    let failed = |source| NodeIdError::Io { path: path.clone(), source };
    if let Some(id) = load(&path)? {
        return Ok(id);
    }
    fs::create_dir_all(dir).map_err(failed)?;
    let id = make_up(rustix::system::uname().nodename().to_string_lossy().as_ref(), rand::random());
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    file.write_all(format!("{id}\n").as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    match file.persist_noclobber(&path) {
        Ok(_) => {}
        // Somebody was quicker: theirs counts.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error.error)),
    }
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    load(&path)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

fn load(path: &Path) -> Result<Option<NodeId>, NodeIdError> {
    let failed = |source| NodeIdError::Io { path: path.to_owned(), source };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    let shown = || text.chars().take(80).collect();
    text.parse().map(Some).map_err(|_| NodeIdError::NotAnId { path: path.to_owned(), text: shown() })
}

/// `HOST-LOT`, as far as the host's name can be part of an id.
fn make_up(host: &str, lot: u64) -> NodeId {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let legal = |letter: char| letter.is_ascii_alphanumeric().then(|| letter.to_ascii_lowercase());
    let host: String = host.chars().map(|letter| legal(letter).unwrap_or('-')).take(HOST_BYTES_MAX).collect();
    let host = Some(host.trim_matches('-')).filter(|host| !host.is_empty()).unwrap_or("node");
    let letter = |index: usize| char::from(LETTERS[(lot >> (5 * index)) as usize % LETTERS.len()]);
    let lot: String = (0..LOT).map(letter).collect();
    let id = format!("{host}-{lot}");
    id.parse().expect("it has legal letters, and inner hyphens only")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_id_is_made_up_once() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("not-there-yet");
        let id = load_or_create(&dir).unwrap();
        assert_eq!(load_or_create(&dir).unwrap(), id);
        let kept: Vec<_> = fs::read_dir(&dir).unwrap().collect();
        assert_eq!(kept.len(), 1, "nothing else is left behind");
    }

    #[test]
    fn who_comes_at_the_same_time_gets_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let ids: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| load_or_create(dir.path()).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "{ids:?}");
    }

    #[test]
    fn what_is_no_id_is_named_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["", "Not An Id", "-x", &"x".repeat(5000)] {
            fs::write(dir.path().join(FILE), bad).unwrap();
            let error = load_or_create(dir.path()).unwrap_err();
            assert!(matches!(error, NodeIdError::NotAnId { .. }), "{error}");
            assert_eq!(fs::read_to_string(dir.path().join(FILE)).unwrap(), bad);
        }
        fs::write(dir.path().join(FILE), "by-hand").unwrap();
        assert_eq!(load_or_create(dir.path()).unwrap().as_str(), "by-hand");
    }

    #[test]
    fn a_place_that_can_not_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let error = load_or_create(&file).unwrap_err();
        assert!(error.to_string().contains("file/node-id"), "{error}");
    }

    #[test]
    fn the_name_of_any_machine_will_do() {
        for (host, begins) in [
            ("worker-1", "worker-1-"),
            ("Büro.Example", "b-ro-example-"),
            ("", "node-"),
            ("---", "node-"),
            (&"h".repeat(200), "hhh"),
        ] {
            for lot in [0, u64::MAX, 0x0123_4567_89ab_cdef] {
                assert!(make_up(host, lot).as_str().starts_with(begins), "{host}");
            }
        }
    }
}
