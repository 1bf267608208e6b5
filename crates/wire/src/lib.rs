//! What travels between processes: the wasmatrix.v1 protobuf and its conversion from and to the model.
//!
//! A process reads a message here, at its edge, and works with the model from there on. Model to [`v1`] is `From`
//! and cannot fail; [`v1`] to model is `TryFrom` and fails with [`Invalid`], whose field is a path in the words of
//! the proto file, e.g. `limits.memory_bytes_max`. Whoever unpacks an outer message adds its own word in front with
//! [`Invalid::within`]. Fields that a newer minor version added are skipped, and a kind of fact that it
//! added is told as unrecognized; other numbers and kinds that it added are refused, because there is nothing here that
//! they could mean. A client reads what it is told by [`Told::read`], which refuses nothing for being newer; and what an
//! older client would refuse is not said to it, see [`older`].
//!
//! | module | what it carries |
//! |---|---|
//! | [`v1`] | the generated messages, clients and servers |
//! | [`spec`] | specs, limits, restart policies |
//! | [`grant`] | lists of grants |
//! | [`start`] | a start request in parts |
//! | [`status`] | instances, providers |
//! | [`packed`] | a status in few bytes, to be remembered |
//! | [`node`] | nodes |
//! | [`exit`] | how a run ended |
//! | [`fact`] | what happened |
//! | [`log`] | what an instance said |
//! | [`newer`] | what a client makes of what a newer server says |
//! | [`older`] | what a server says to an older client |
//! | [`failure`] | why a request was refused: the one mapping between the model's failures and gRPC's |
//! | [`protocol`] | which version is spoken, and how that is told |
//! | [`time`] | durations and timestamps |

#![forbid(unsafe_code)]

mod choice;
pub mod exit;
pub mod fact;
pub mod failure;
mod field;
pub mod grant;
pub mod log;
pub mod newer;
pub mod node;
pub mod older;
pub mod packed;
pub mod protocol;
pub mod spec;
pub mod start;
pub mod status;
pub mod time;

use std::time::Duration;

pub use newer::Told;
pub use protocol::PROTOCOL;
pub use start::{Assignment, StartPart, StartRequest, artifact_chunks, start_parts};
pub use wasmatrix_model::failure::Invalid;

/// The generated code: messages, and a client and a server for each service.
pub mod v1 {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::allow_attributes_without_reason,
        clippy::too_many_lines,
        reason = "generated; what it means is said in the proto files"
    )]
    tonic::include_proto!("wasmatrix.v1");
}

/// The proto files and all they import, as an encoded `google.protobuf.FileDescriptorSet`: for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("wasmatrix.v1");

/// Largest chunk of an artifact, in bytes.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Largest message, in bytes, that a client or a server takes. Set it on both: tonic's own limit may change.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// What a message takes on the wire, in bytes.
pub fn encoded_bytes(message: &impl prost::Message) -> usize {
    message.encoded_len()
}

/// Entries of a listing's page when the request leaves it open.
pub const PAGE_SIZE_DEFAULT: u32 = 500;

/// Most entries of a listing's page.
pub const PAGE_SIZE_MAX: u32 = 1000;

/// How long host calls in flight may take after a stop, when the request leaves it open.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(5);

/// The longest grace, or drain, that a request may ask for.
pub const GRACE_MAX: Duration = Duration::from_secs(600);

/// How long calls in flight may take after a provider's stop, when the request leaves it open.
pub const DRAIN_DEFAULT: Duration = Duration::from_secs(5);
