//! `app.toml`: several instances in one file.
//!
//! The file is read whole and every problem that can be found is told at once, each with its line and column. A key
//! that is not known is one of them, with the nearest one that is: a misspelt limit must not become no limit.
//!
//! | module | what it does |
//! |---|---|
//! | [`schema`] | what an `[[instance]]` holds |
//! | [`reader`] | walks the tables, checks types and keys, collects problems |
//! | [`problem`] | a problem and its place |

mod problem;
mod reader;
mod schema;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use wasmatrix_executor_api::Artifact;
use wasmatrix_model::{
    Digest, ExecutorKind, Grants, InstanceName, InstanceSpec, Limits, Placement, RestartPolicy,
    failure::Invalid,
};

use crate::{artifact, error::CliError, value};

pub(crate) use problem::{Place, Problems};

/// Longest `app.toml`, in bytes.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// An instance as the file defines it; its artifact has not been looked at.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    /// Where the instance stands in the file.
    pub place: Place,
    /// What it is called.
    pub name: InstanceName,
    /// Its artifact, as written in the file.
    pub file: PathBuf,
    /// Where that is written.
    pub file_place: Place,
    executor: ExecutorKind,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    config: BTreeMap<String, String>,
    grants: Grants,
    limits: Limits,
    restart: RestartPolicy,
    placement: Placement,
    replicas: Option<u32>,
}

impl Draft {
    /// The spec of each of its replicas, or its one spec, once it is known what runs.
    ///
    /// # Errors
    /// A rule that concerns several values together.
    pub(crate) fn specs(self, digest: Digest) -> Result<Vec<InstanceSpec>, Invalid> {
        let spec = InstanceSpec {
            name: self.name,
            digest,
            executor: self.executor,
            args: self.args,
            env: self.env,
            config: self.config,
            grants: self.grants,
            limits: self.limits,
            restart: self.restart,
            placement: self.placement,
        };
        spec.validate()?;
        value::replicas(&spec, self.replicas)
    }
}

/// An instance that is ready to be started.
#[derive(Debug)]
pub(crate) struct Entry {
    /// What it is.
    pub spec: InstanceSpec,
    /// What it runs.
    pub artifact: Artifact,
}

/// Reads the text of an `app.toml`; `path` is what it is called in problems.
///
/// # Errors
/// All problems of the text.
pub(crate) fn parse(path: &str, text: &str) -> Result<Vec<Draft>, Problems> {
    let mut problems = Problems::new(path);
    let drafts = schema::instances(text, &mut problems);
    problems.none_or(drafts)
}

/// Reads an `app.toml` (`-`: standard input) and the artifacts that it names, relative to its own directory.
///
/// # Errors
/// The file can't be read; or all problems of the text; or all problems of the artifacts.
pub(crate) fn load(path: &Path) -> Result<Vec<Entry>, CliError> {
    let text = artifact::read_text(path, MANIFEST_BYTES_MAX)?;
    let shown = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let drafts = parse(&shown, &text).map_err(CliError::Manifest)?;
    let base = path.parent().unwrap_or(Path::new(""));
    let mut problems = Problems::new(&shown);
    let mut entries = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let (place, file_place) = (draft.place, draft.file_place);
        let artifact = match artifact::read(&base.join(&draft.file)) {
            Ok(artifact) => artifact,
            Err(error) => {
                problems.push(file_place, error.to_string());
                continue;
            }
        };
        if let Err(refusal) = wasmatrix_artifact::inspect(&artifact.bytes, artifact::PROGRAM_BYTES_MAX) {
            problems.push(file_place, format!("{}: {refusal}", draft.file.display()));
        }
        match draft.specs(artifact.digest) {
            Ok(specs) => {
                entries.extend(specs.into_iter().map(|spec| Entry { spec, artifact: artifact.clone() }));
            }
            Err(invalid) => problems.push(place, invalid.to_string()),
        }
    }
    problems.none_or(entries).map_err(CliError::Manifest)
}

#[cfg(test)]
mod tests;
