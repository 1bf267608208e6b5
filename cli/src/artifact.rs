//! Files that a user names: programs to run, and texts.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use wasmatrix_executor_api::Artifact;

use crate::error::{CliError, FileProblem};

/// Largest program, in bytes: that which a node takes.
pub(crate) const PROGRAM_BYTES_MAX: u64 = wasmatrix_agent::service::ARTIFACT_BYTES_MAX as u64;

/// Reads a program. Whether it can be run, an executor says.
///
/// # Errors
/// There is no such file, it is no file, or it is larger than any program that a node takes.
pub(crate) fn read(path: &Path) -> Result<Artifact, CliError> {
    Ok(Artifact::new(read_up_to(path, open(path)?, PROGRAM_BYTES_MAX)?.into()))
}

/// Reads a text; `-` is standard input.
///
/// # Errors
/// It can't be read, is no text, or is longer than `bytes_max`.
pub(crate) fn read_text(path: &Path, bytes_max: u64) -> Result<String, CliError> {
    let bytes = if path == Path::new("-") {
        read_up_to(path, io::stdin().lock(), bytes_max)?
    } else {
        read_up_to(path, open(path)?, bytes_max)?
    };
    String::from_utf8(bytes).map_err(|_| unusable(path, "is not text in UTF-8"))
}

fn open(path: &Path) -> Result<File, CliError> {
    let file = File::open(path).map_err(|error| CliError::file(path, &error))?;
    let metadata = file.metadata().map_err(|error| CliError::file(path, &error))?;
    if metadata.is_dir() {
        return Err(unusable(path, "is a directory; name a file in it"));
    }
    Ok(file)
}

fn read_up_to(path: &Path, from: impl Read, bytes_max: u64) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    from.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| CliError::file(path, &error))?;
    if bytes.len() as u64 > bytes_max {
        return Err(unusable(path, &format!("is larger than {bytes_max} bytes, the most that is taken")));
    }
    Ok(bytes)
}

fn unusable(path: &Path, problem: &str) -> CliError {
    CliError::File { path: path.to_owned(), problem: problem.to_owned(), kind: FileProblem::Unusable }
}
