//! A start request as it comes in: the spec first, then the artifact in chunks, within a room that all uploads share.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Status, Streaming};
use wasmatrix_executor_api::Artifact;
use wasmatrix_model::{ErrorCode, Failure, failure::Invalid};
use wasmatrix_wire::{
    failure::to_status,
    start::{StartPart, StartRequest},
    v1,
};

use super::AgentService;

/// Largest artifact taken in, in bytes.
pub const ARTIFACT_BYTES_MAX: usize = 128 << 20;
/// All artifacts together that are being taken in or wait to be compiled, in bytes.
pub const UPLOADS_BYTES_MAX: usize = 4 * ARTIFACT_BYTES_MAX;

impl AgentService {
    /// Reads a start request to its end: the spec first, then the artifact, which must be the one of the digest.
    pub(super) async fn read_start(
        &self,
        mut parts: Streaming<v1::StartInstanceRequest>,
    ) -> Result<(StartRequest, Option<Artifact>), Status> {
        let out_of_order = |problem: &str| {
            self.invalid(&Invalid::new("part", format!("{problem}: send the spec first, then chunks")))
        };
        let part = |message| StartPart::try_from(message).map_err(|invalid| self.invalid(&invalid));
        let StartPart::Spec(start) = part(parts.message().await?.unwrap_or_default())? else {
            return Err(out_of_order("a chunk came before the spec"));
        };
        let mut upload = Upload { bytes: BytesMut::new(), room: None };
        while let Some(message) = parts.message().await? {
            let StartPart::Chunk(chunk) = part(message)? else {
                return Err(out_of_order("a second spec came"));
            };
            upload.take(&chunk, &self.uploads).map_err(|problem| {
                to_status(&Failure::new(ErrorCode::ResourceExhausted, problem, self.agent.now()))
            })?;
        }
        if upload.bytes.is_empty() {
            return Ok((*start, None));
        }
        let artifact = hash(Bytes::from_owner(upload)).await?;
        Ok((*start, Some(artifact)))
    }
}

/// An artifact as it comes in. Takes up room as long as anybody holds its bytes.
struct Upload {
    bytes: BytesMut,
    room: Option<OwnedSemaphorePermit>,
}

impl Upload {
    /// Adds a chunk, or says what stands in the way. Never waits: uploads that each waited for the others to make room
    /// would wait for ever.
    fn take(&mut self, chunk: &[u8], uploads: &Arc<Semaphore>) -> Result<(), String> {
        if self.bytes.len() + chunk.len() > ARTIFACT_BYTES_MAX {
            return Err(format!(
                "the artifact is larger than {ARTIFACT_BYTES_MAX} bytes, the most that is taken"
            ));
        }
        // A chunk is no larger than an artifact, so it can be counted.
        let room = u32::try_from(chunk.len())
            .ok()
            .and_then(|bytes| Arc::clone(uploads).try_acquire_many_owned(bytes).ok())
            .ok_or_else(|| {
                format!(
                    "artifacts of {UPLOADS_BYTES_MAX} bytes, the most at one time, are being taken in already: try \
                     again later"
                )
            })?;
        match &mut self.room {
            Some(taken) => taken.merge(room),
            none => *none = Some(room),
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }
}

impl AsRef<[u8]> for Upload {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Computes the digest off the async threads: an artifact has many megabytes.
async fn hash(bytes: Bytes) -> Result<Artifact, Status> {
    tokio::task::spawn_blocking(move || Artifact::new(bytes))
        .await
        .map_err(|_| Status::internal("the artifact's digest could not be computed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_share_one_room_until_their_bytes_are_gone() {
        let uploads = Arc::new(Semaphore::new(10));
        let upload = || Upload { bytes: BytesMut::new(), room: None };
        let (mut first, mut second) = (upload(), upload());
        assert_eq!(first.take(b"abc", &uploads), Ok(()));
        assert_eq!(first.take(b"def", &uploads), Ok(()));
        assert!(second.take(b"12345", &uploads).unwrap_err().contains("try again later"));
        let bytes = Bytes::from_owner(first);
        let slice = bytes.slice(1..3);
        drop(bytes);
        assert!(second.take(b"12345", &uploads).is_err(), "somebody still holds a part of the first");
        drop(slice);
        assert_eq!(second.take(b"1234567890", &uploads), Ok(()));
    }

    #[test]
    fn an_artifact_has_an_end() {
        let uploads = Arc::new(Semaphore::new(UPLOADS_BYTES_MAX));
        let mut upload = Upload { bytes: BytesMut::zeroed(ARTIFACT_BYTES_MAX), room: None };
        assert!(upload.take(b"x", &uploads).unwrap_err().contains("larger than"));
    }
}
