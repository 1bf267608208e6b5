//! A start request in parts: the spec first, then the artifact in chunks.

use std::iter;

use prost::bytes::Bytes;
use wasmatrix_model::{Grants, InstanceId, InstanceSpec, failure::Invalid};

use crate::{
    CHUNK_BYTES_MAX, field,
    grant::{grants_from_v1, grants_to_v1},
    v1::{self, start_instance_request::Part},
};

/// Longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 64;

/// The first part of a start request: what to start, and how to know it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartRequest {
    /// What to start.
    pub spec: InstanceSpec,
    /// 1 to [`IDEMPOTENCY_KEY_BYTES_MAX`] visible ASCII characters; a start with the key of an instance that is listed
    /// answers with that instance. `None`: every start is new.
    pub idempotency_key: Option<String>,
    /// What the control plane decided about it. `None` in what users send.
    pub assignment: Option<Assignment>,
}

/// What the control plane decides about a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Among instances of one name, the higher is the later; the first is 1.
    pub generation: u64,
    /// The instance that it replaces.
    pub predecessor: Option<InstanceId>,
    /// What it holds at its begin: what its predecessor held, as assigned and revoked since. `None`: what its spec says.
    pub grants: Option<Grants>,
}

impl Default for Assignment {
    fn default() -> Self {
        Self { generation: 1, predecessor: None, grants: None }
    }
}

impl From<InstanceSpec> for StartRequest {
    fn from(spec: InstanceSpec) -> Self {
        Self { spec, idempotency_key: None, assignment: None }
    }
}

/// One part of a start request, proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartPart {
    /// What to start. The first part, and only the first.
    Spec(Box<StartRequest>),
    /// The next bytes of the artifact: 1 to [`CHUNK_BYTES_MAX`].
    Chunk(Bytes),
}

impl From<StartPart> for v1::StartInstanceRequest {
    fn from(part: StartPart) -> Self {
        match part {
            StartPart::Spec(request) => Self {
                part: Some(Part::Spec(Box::new(request.spec.into()))),
                idempotency_key: request.idempotency_key.unwrap_or_default(),
                assignment: request.assignment.map(Into::into),
            },
            StartPart::Chunk(bytes) => Self { part: Some(Part::Chunk(bytes)), ..Self::default() },
        }
    }
}

impl TryFrom<v1::StartInstanceRequest> for StartPart {
    type Error = Invalid;

    fn try_from(request: v1::StartInstanceRequest) -> Result<Self, Invalid> {
        match field::required("part", request.part)? {
            Part::Spec(spec) => Ok(Self::Spec(Box::new(StartRequest {
                spec: field::message("spec", *spec)?,
                idempotency_key: idempotency_key(request.idempotency_key)?,
                assignment: request
                    .assignment
                    .map(|assignment| field::message("assignment", assignment))
                    .transpose()?,
            }))),
            Part::Chunk(bytes) if (1..=CHUNK_BYTES_MAX).contains(&bytes.len()) => Ok(Self::Chunk(bytes)),
            Part::Chunk(bytes) => {
                let problem = format!("a chunk has 1 to {CHUNK_BYTES_MAX} bytes, this one {}", bytes.len());
                Err(Invalid::new("chunk", problem))
            }
        }
    }
}

fn idempotency_key(key: String) -> Result<Option<String>, Invalid> {
    if key.len() > IDEMPOTENCY_KEY_BYTES_MAX || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem =
            format!("take at most {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters, e.g. a UUID");
        return Err(Invalid::new("idempotency_key", problem));
    }
    Ok(field::none_if_empty(key))
}

impl From<Assignment> for v1::Assignment {
    fn from(assignment: Assignment) -> Self {
        Self {
            generation: assignment.generation,
            predecessor: assignment.predecessor.map(|id| id.to_string()).unwrap_or_default(),
            grants: assignment.grants.map(|grants| v1::HeldGrants { grants: grants_to_v1(&grants) }),
        }
    }
}

impl TryFrom<v1::Assignment> for Assignment {
    type Error = Invalid;

    fn try_from(assignment: v1::Assignment) -> Result<Self, Invalid> {
        Ok(Self {
            generation: assignment.generation.max(1),
            predecessor: field::optional_text("predecessor", &assignment.predecessor)?,
            grants: assignment.grants.map(|held| grants_from_v1(&held.grants)).transpose()?,
        })
    }
}

/// All parts of a start request, in order. Without an artifact (empty bytes) there is the spec alone.
pub fn start_parts(
    request: impl Into<StartRequest>,
    artifact: Bytes,
) -> impl Iterator<Item = v1::StartInstanceRequest> + Send + 'static {
    iter::once(StartPart::Spec(Box::new(request.into())).into()).chain(artifact_chunks(artifact))
}

/// The parts that carry an artifact. Copies nothing; no bytes, no parts.
pub fn artifact_chunks(
    mut artifact: Bytes,
) -> impl Iterator<Item = v1::StartInstanceRequest> + Send + 'static {
    iter::from_fn(move || {
        let chunk = artifact.split_to(artifact.len().min(CHUNK_BYTES_MAX));
        (!chunk.is_empty()).then(|| StartPart::Chunk(chunk).into())
    })
}
