//! Property 18: nothing malformed is accepted, nothing that arrives makes a conversion panic, and every refusal names
//! a field that the proto files know.

use proptest::{collection, prelude::*, sample::Index};
use prost::Message;
use wasmatrix_model::{
    ErrorCode, ExecutorStatus, Exit, Fact, Failure, InstanceSpec, InstanceStatus, Limits, LogRecord,
    NodeStatus, ProviderStatus, RestartPolicy, Subject, Timestamp, Usage,
};
use wasmatrix_wire::{Invalid, StartPart, failure, v1};

use crate::{descriptor, strategies as any};

/// Reads bytes as one message after the other. What cannot be decoded has been refused by prost already.
fn read_as_everything(bytes: &[u8]) -> Result<(), TestCaseError> {
    read_as::<v1::StartInstanceRequest, StartPart>("StartInstanceRequest", bytes)?;
    read_as::<v1::InstanceSpec, InstanceSpec>("InstanceSpec", bytes)?;
    read_as::<v1::Limits, Limits>("Limits", bytes)?;
    read_as::<v1::RestartPolicy, RestartPolicy>("RestartPolicy", bytes)?;
    read_as::<v1::InstanceStatus, InstanceStatus>("InstanceStatus", bytes)?;
    read_as::<v1::Usage, Usage>("Usage", bytes)?;
    read_as::<v1::Exit, Exit>("Exit", bytes)?;
    read_as::<v1::Fact, Fact>("Fact", bytes)?;
    read_as::<v1::Subject, Subject>("Subject", bytes)?;
    read_as::<v1::LogRecord, LogRecord>("LogRecord", bytes)?;
    read_as::<v1::ProviderStatus, ProviderStatus>("ProviderStatus", bytes)?;
    read_as::<v1::ExecutorStatus, ExecutorStatus>("ExecutorStatus", bytes)?;
    read_as::<v1::NodeStatus, NodeStatus>("NodeStatus", bytes)
}

fn read_as<W: Message + Default, M: TryFrom<W, Error = Invalid>>(
    message: &str,
    bytes: &[u8],
) -> Result<(), TestCaseError> {
    let Ok(sent) = W::decode(bytes) else { return Ok(()) };
    if let Err(invalid) = M::try_from(sent) {
        prop_assert!(descriptor::knows(message, &invalid.field), "{} in {}", invalid, message);
        prop_assert!(!invalid.problem.is_empty());
        let refusal = Failure::invalid(&invalid, Timestamp::UNIX_EPOCH);
        let received = failure::from_status(&failure::to_status(&refusal), Timestamp::MAX);
        prop_assert_eq!(received.code, ErrorCode::InvalidRequest);
        prop_assert_eq!(received.at, Timestamp::UNIX_EPOCH);
        prop_assert_eq!(received.details.get("field"), Some(&invalid.field));
    }
    Ok(())
}

fn valid_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::spec().prop_map(|value| v1::InstanceSpec::from(value).encode_to_vec()),
        any::instance_status().prop_map(|value| v1::InstanceStatus::from(value).encode_to_vec()),
        any::fact().prop_map(|value| v1::Fact::from(value).encode_to_vec()),
        any::node_status().prop_map(|value| v1::NodeStatus::from(value).encode_to_vec()),
        any::log_record().prop_map(|value| v1::LogRecord::from(value).encode_to_vec()),
        any::start_part().prop_map(|value| v1::StartInstanceRequest::from(value).encode_to_vec()),
    ]
}

proptest! {
    #[test]
    fn property_18_arbitrary_bytes_never_panic(bytes in collection::vec(any::<u8>(), 0..300)) {
        read_as_everything(&bytes)?;
    }

    #[test]
    fn property_18_damaged_messages_never_panic(
        mut bytes in valid_bytes(),
        damage in collection::vec((any::<Index>(), any::<u8>()), 1..8),
        keep in any::<Index>(),
    ) {
        for (index, byte) in damage {
            if !bytes.is_empty() {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
        }
        read_as_everything(&bytes)?;
        read_as_everything(&bytes[..keep.index(bytes.len() + 1)])?;
    }

    /// The numbers of a spec, each anything at all: what comes through obeys the model's rules, whatever was sent.
    #[test]
    fn property_18_no_spec_out_of_range_is_accepted(
        good in any::spec(),
        numbers in any::<(Option<u64>, Option<u64>, Option<u32>, Option<u32>, Option<u32>, i32, i32)>(),
        time in any::<(Option<(i64, i32)>, Option<(i64, i32)>, Option<u32>)>(),
    ) {
        let (memory, table, handles, cpu, lines, executor, mode) = numbers;
        let (wall_time, backoff, jitter_percent) = time;
        let duration = |(seconds, nanos)| prost_types::Duration { seconds, nanos };
        let mut sent = v1::InstanceSpec::from(good);
        sent.executor = executor;
        sent.limits = Some(v1::Limits {
            memory_bytes_max: memory,
            table_elements_max: table,
            handles_max: handles,
            wall_time_max: wall_time.map(duration),
            cpu_millis_per_second: cpu,
            log_lines_per_second: lines,
            log_line_bytes_max: None,
            log_lines_kept: None,
        });
        sent.restart = Some(v1::RestartPolicy {
            mode,
            backoff_initial: backoff.map(duration),
            jitter_percent,
            ..Default::default()
        });
        match InstanceSpec::try_from(sent) {
            Ok(spec) => prop_assert_eq!(spec.validate(), Ok(())),
            Err(invalid) => prop_assert!(descriptor::knows("InstanceSpec", &invalid.field), "{}", invalid),
        }
    }
}

/// What is wrong with a spec, and the field that must be blamed for it.
#[test]
fn every_refusal_names_its_field() {
    type Spoil = fn(&mut v1::InstanceSpec);
    let spoilt: [(&str, Spoil); 20] = [
        ("name", |spec| spec.name = "No Name".to_owned()),
        ("digest", |spec| spec.digest.clear()),
        ("executor", |spec| spec.executor = 99),
        ("args", |spec| spec.args.push("nul\0".to_owned())),
        ("env", |spec| drop(spec.env.insert("a=b".to_owned(), String::new()))),
        ("config", |spec| spec.config.extend((0..2000).map(|key| (key.to_string(), String::new())))),
        ("grants[1]", |spec| spec.grants = vec!["kv:read".to_owned(), "kv:reed".to_owned()]),
        ("grants", |spec| spec.grants = (0..257).map(|number| format!("kv:read:b{number}")).collect()),
        ("limits.memory_bytes_max", |spec| limits(spec).memory_bytes_max = Some(1)),
        ("limits.table_elements_max", |spec| limits(spec).table_elements_max = Some(0)),
        ("limits.handles_max", |spec| limits(spec).handles_max = Some(0)),
        ("limits.wall_time_max", |spec| limits(spec).wall_time_max = Some(seconds(0))),
        ("limits.cpu_millis_per_second", |spec| limits(spec).cpu_millis_per_second = Some(1001)),
        ("limits.log_lines_per_second", |spec| limits(spec).log_lines_per_second = Some(0)),
        ("limits.log_line_bytes_max", |spec| limits(spec).log_line_bytes_max = Some(0)),
        ("limits.log_lines_kept", |spec| limits(spec).log_lines_kept = Some(0)),
        ("restart.mode", |spec| restart(spec).mode = -1),
        ("restart.backoff_initial", |spec| restart(spec).backoff_initial = Some(seconds(-1))),
        ("restart.backoff_max", |spec| restart(spec).backoff_max = Some(seconds(0))),
        ("restart.jitter_percent", |spec| restart(spec).jitter_percent = Some(101)),
    ];
    for (field, spoil) in spoilt {
        let name = "counter".parse().unwrap();
        let mut spec = InstanceSpec::new(name, wasmatrix_model::Digest::of(b"x")).into();
        spoil(&mut spec);
        assert_eq!(InstanceSpec::try_from(spec.clone()).unwrap_err().field, field);
        let part = Some(v1::start_instance_request::Part::Spec(Box::new(spec)));
        let refusal =
            StartPart::try_from(v1::StartInstanceRequest { part, ..Default::default() }).unwrap_err();
        assert_eq!(refusal.field, format!("spec.{field}"));
    }
}

fn limits(spec: &mut v1::InstanceSpec) -> &mut v1::Limits {
    spec.limits.get_or_insert_default()
}

fn restart(spec: &mut v1::InstanceSpec) -> &mut v1::RestartPolicy {
    spec.restart.get_or_insert_default()
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

#[test]
fn a_chunk_has_bytes_and_not_too_many() {
    use v1::start_instance_request::Part;
    let read =
        |part: Option<Part>| StartPart::try_from(v1::StartInstanceRequest { part, ..Default::default() });
    assert_eq!(read(None).unwrap_err().field, "part");
    assert_eq!(read(Some(Part::Chunk(Default::default()))).unwrap_err().field, "chunk");
    let chunk = |bytes| Some(Part::Chunk(vec![0; bytes].into()));
    assert!(read(chunk(wasmatrix_wire::CHUNK_BYTES_MAX)).is_ok());
    assert_eq!(read(chunk(wasmatrix_wire::CHUNK_BYTES_MAX + 1)).unwrap_err().field, "chunk");
}
