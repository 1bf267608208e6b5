//! The files of a process that serves: a directory for its user alone, and the node's name in it.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use wasmatrix_agent::node_id;
use wasmatrix_model::NodeId;

use crate::{
    args::PlaceArgs,
    dirs,
    error::{CliError, chain},
};

/// The data directory, made if it is not there.
///
/// # Errors
/// There is no home directory, or it can't be made.
pub(super) fn data_dir(place: &PlaceArgs) -> Result<PathBuf, CliError> {
    let no_home = || CliError::usage("there is no home directory: say where data is kept with --data-dir");
    let dir = place.data_dir.clone().or_else(dirs::data).ok_or_else(no_home)?;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
    made.map_err(|error| CliError::file(&dir, &error))?;
    Ok(dir)
}

/// What the node with its files in `dir` is called: as it was told, or as it was called before, or after its host.
///
/// # Errors
/// What it was called before can't be read or kept.
pub(super) fn node_id(dir: &Path, told: Option<&NodeId>) -> Result<NodeId, CliError> {
    match told {
        Some(id) => Ok(id.clone()),
        None => node_id::load_or_create(dir).map_err(|error| CliError::Host { message: chain(&error) }),
    }
}
