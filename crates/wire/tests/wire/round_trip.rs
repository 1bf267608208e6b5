//! Property 16: every message survives encode and decode; what a newer or an older minor version says is accepted.

use std::fmt::Debug;

use proptest::prelude::*;
use prost::{
    Message,
    bytes::Bytes,
    encoding::{WireType, encode_key},
};
use wasmatrix_model::{
    ExecutorKind, Exit, Fact, InstanceSpec, InstanceStatus, Limits, LogRecord, NodeStatus, Placement,
    ProviderStatus, Registration, RestartPolicy, Usage,
};
use wasmatrix_wire::{CHUNK_BYTES_MAX, Invalid, StartPart, artifact_chunks, packed, start_parts, v1};

use crate::strategies as any;

/// Two fields that no message has, as a newer minor version would send them: number 15,000, a text and a number.
fn of_a_newer_version() -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_key(15_000, WireType::LengthDelimited, &mut bytes);
    bytes.extend([3, b'n', b'e', b'w']);
    encode_key(15_000, WireType::Varint, &mut bytes);
    bytes.push(42);
    bytes
}

fn survives<M, W>(value: M) -> Result<(), TestCaseError>
where
    M: Clone + PartialEq + Debug + TryFrom<W, Error = Invalid>,
    W: From<M> + Message + Default,
{
    let mut bytes = W::from(value.clone()).encode_to_vec();
    let read = W::decode(bytes.as_slice()).unwrap();
    prop_assert_eq!(M::try_from(read), Ok(value.clone()));

    bytes.extend(of_a_newer_version());
    let read = W::decode(bytes.as_slice()).unwrap();
    prop_assert_eq!(M::try_from(read), Ok(value));
    Ok(())
}

macro_rules! every_message {
    ($($name:ident: $value:ident, $model:ty, $wire:ty;)+) => {
        proptest! {
            $(#[test]
            fn $name(value in any::$value()) {
                survives::<$model, $wire>(value)?;
            })+
        }
    };
}

every_message! {
    property_16_specs_survive: spec, InstanceSpec, v1::InstanceSpec;
    property_16_limits_survive: limits, Limits, v1::Limits;
    property_16_restart_policies_survive: restart_policy, RestartPolicy, v1::RestartPolicy;
    property_16_start_parts_survive: start_part, StartPart, v1::StartInstanceRequest;
    property_16_instance_statuses_survive: instance_status, InstanceStatus, v1::InstanceStatus;
    property_16_usages_survive: usage, Usage, v1::Usage;
    property_16_exits_survive: exit, Exit, v1::Exit;
    property_16_facts_survive: fact, Fact, v1::Fact;
    property_16_log_records_survive: log_record, LogRecord, v1::LogRecord;
    property_16_provider_statuses_survive: provider_status, ProviderStatus, v1::ProviderStatus;
    property_16_placements_survive: placement, Placement, v1::Placement;
    property_16_registrations_survive: registration, Registration, v1::Registration;
    property_16_node_statuses_survive: node_status, NodeStatus, v1::NodeStatus;
}

proptest! {
    #[test]
    fn property_16_an_artifact_survives_in_chunks(length in 0..3 * CHUNK_BYTES_MAX, seed in 0_u8..255) {
        let artifact: Bytes = (0..length).map(|index| (index as u8).wrapping_mul(seed)).collect();
        let mut read = Vec::new();
        for request in artifact_chunks(artifact.clone()) {
            match StartPart::try_from(request).unwrap() {
                StartPart::Chunk(bytes) => read.extend_from_slice(&bytes),
                StartPart::Spec(_) => prop_assert!(false, "a spec among the chunks"),
            }
        }
        prop_assert!(read == artifact);
    }
}

#[test]
fn a_start_request_is_the_spec_and_then_the_chunks() {
    let spec = InstanceSpec::new("counter".parse().unwrap(), wasmatrix_model::Digest::of(b"x"));
    let parts: Vec<StartPart> = start_parts(spec.clone(), Bytes::from(vec![7; CHUNK_BYTES_MAX + 1]))
        .map(|request| request.try_into().unwrap())
        .collect();
    let sizes: Vec<usize> = parts
        .iter()
        .map(|part| match part {
            StartPart::Spec(read) => {
                assert_eq!(**read, spec.clone().into());
                0
            }
            StartPart::Chunk(bytes) => bytes.len(),
        })
        .collect();
    assert_eq!(sizes, [0, CHUNK_BYTES_MAX, 1]);
    assert_eq!(start_parts(spec, Bytes::new()).count(), 1);
}

#[test]
fn what_an_older_version_leaves_out_is_the_default() {
    let digest = wasmatrix_model::Digest::of(b"x");
    let sent =
        v1::InstanceSpec { name: "counter".to_owned(), digest: digest.to_string(), ..Default::default() };
    let read = InstanceSpec::try_from(sent).unwrap();
    assert_eq!(read, InstanceSpec::new("counter".parse().unwrap(), digest));
    assert_eq!(read.executor, ExecutorKind::Wasmtime);
    assert_eq!(Limits::try_from(v1::Limits::default()), Ok(Limits::default()));
    assert_eq!(RestartPolicy::try_from(v1::RestartPolicy::default()), Ok(RestartPolicy::default()));
    assert_eq!(Usage::try_from(v1::Usage::default()), Ok(Usage::default()));
}

proptest! {
    /// A status that was packed to be remembered is the one that it was; its name and its changes leave the packed spec
    /// as it is.
    #[test]
    fn packed_statuses_survive(status in any::instance_status(), as_asked: bool, other in any::instance_status()) {
        let mut status = status;
        if as_asked {
            status.grants = status.spec.grants.clone();
        }
        let (head, bytes) = packed::pack(status.clone());
        prop_assert_eq!(packed::unpack(head, &bytes.spec, &bytes.rest), Ok(status.clone()));

        let mut alike = InstanceStatus { spec: status.spec, ..other };
        alike.spec.name = "another".parse().unwrap();
        prop_assert_eq!(packed::pack(alike).1.spec, bytes.spec);
    }
}
