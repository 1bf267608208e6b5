//! A start request in parts: the spec first, then the artifact in chunks.

use std::iter;

use prost::bytes::Bytes;
use wasmatrix_model::{InstanceSpec, failure::Invalid};

use crate::{
    CHUNK_BYTES_MAX, field,
    v1::{self, start_instance_request::Part},
};

/// One part of a start request, proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartPart {
    /// What to start. The first part, and only the first.
    Spec(Box<InstanceSpec>),
    /// The next bytes of the artifact: 1 to [`CHUNK_BYTES_MAX`].
    Chunk(Bytes),
}

impl From<StartPart> for v1::StartInstanceRequest {
    fn from(part: StartPart) -> Self {
        let part = match part {
            StartPart::Spec(spec) => Part::Spec(Box::new((*spec).into())),
            StartPart::Chunk(bytes) => Part::Chunk(bytes),
        };
        Self { part: Some(part) }
    }
}

impl TryFrom<v1::StartInstanceRequest> for StartPart {
    type Error = Invalid;

    fn try_from(request: v1::StartInstanceRequest) -> Result<Self, Invalid> {
        match field::required("part", request.part)? {
            Part::Spec(spec) => field::message("spec", *spec).map(|spec| Self::Spec(Box::new(spec))),
            Part::Chunk(bytes) if (1..=CHUNK_BYTES_MAX).contains(&bytes.len()) => Ok(Self::Chunk(bytes)),
            Part::Chunk(bytes) => {
                let problem = format!("a chunk has 1 to {CHUNK_BYTES_MAX} bytes, this one {}", bytes.len());
                Err(Invalid::new("chunk", problem))
            }
        }
    }
}

/// All parts of a start request, in order. Without an artifact (empty bytes) there is the spec alone.
pub fn start_parts(
    spec: InstanceSpec,
    artifact: Bytes,
) -> impl Iterator<Item = v1::StartInstanceRequest> + Send + 'static {
    iter::once(StartPart::Spec(Box::new(spec)).into()).chain(artifact_chunks(artifact))
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
