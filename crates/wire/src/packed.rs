//! A status in few bytes, for whoever remembers a great many of them: the control plane mirrors every instance.
//!
//! A status is taken apart: the [`Head`] stays as it is, because it is looked at; the rest is encoded, because it is
//! only handed on. The spec is encoded by itself, without the name that makes it unlike others, so that instances that
//! were made alike can share it.

use prost::Message as _;
use wasmatrix_model::{InstanceId, InstanceName, InstanceStatus, NodeId, Phase, failure::Invalid};

use crate::v1;

/// What of a status is kept as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which instance.
    pub id: InstanceId,
    /// On which node.
    pub node: NodeId,
    /// The name in its spec.
    pub name: InstanceName,
    /// Where it is in its life.
    pub phase: Phase,
    /// Among instances of one name, the higher is the later.
    pub generation: u64,
    /// Grows with every change of the node's instances.
    pub revision: u64,
    /// The key of the start request, if it had one.
    pub idempotency_key: Option<String>,
    /// Whether its grants are those of its spec; they are not encoded twice.
    pub grants_as_asked: bool,
}

/// What of a status is encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The spec without its name: a `wasmatrix.v1.InstanceSpec`. The same spec always gives the same bytes.
    pub spec: Vec<u8>,
    /// All that is neither in the head nor in the spec: a `wasmatrix.v1.InstanceStatus`.
    pub rest: Vec<u8>,
}

/// Takes a status apart.
pub fn pack(status: InstanceStatus) -> (Head, Packed) {
    let grants_as_asked = status.grants == status.spec.grants;
    let head = Head {
        id: status.id,
        node: status.node.clone(),
        name: status.spec.name.clone(),
        phase: status.phase,
        generation: status.generation,
        revision: status.revision,
        idempotency_key: status.idempotency_key.clone(),
        grants_as_asked,
    };
    let message = v1::InstanceStatus::from(status);
    let spec = v1::InstanceSpec { name: String::new(), ..message.spec.unwrap_or_default() };
    let rest = v1::InstanceStatus {
        id: String::new(),
        node: String::new(),
        spec: None,
        phase: 0,
        generation: 0,
        revision: 0,
        idempotency_key: String::new(),
        grants: if grants_as_asked { Vec::new() } else { message.grants },
        ..message
    };
    (head, Packed { spec: spec.encode_to_vec(), rest: rest.encode_to_vec() })
}

/// Puts a status together again.
///
/// # Errors
/// The bytes are not those of [`pack`].
pub fn unpack(head: Head, spec: &[u8], rest: &[u8]) -> Result<InstanceStatus, Invalid> {
    let unreadable = |what: &str| Invalid::new(what, "was not packed by this version of Wasmatrix");
    let spec = v1::InstanceSpec::decode(spec).map_err(|_| unreadable("spec"))?;
    let rest = v1::InstanceStatus::decode(rest).map_err(|_| unreadable("rest"))?;
    let grants = if head.grants_as_asked { spec.grants.clone() } else { rest.grants };
    let message = v1::InstanceStatus {
        id: head.id.to_string(),
        node: head.node.into(),
        spec: Some(v1::InstanceSpec { name: head.name.into(), ..spec }),
        phase: v1::Phase::from(head.phase).into(),
        generation: head.generation,
        revision: head.revision,
        idempotency_key: head.idempotency_key.unwrap_or_default(),
        grants,
        ..rest
    };
    message.try_into()
}
