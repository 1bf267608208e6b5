//! What is said to a client of 1.0, read by the proto files of 1.0: nothing of it is a number or a kind that it lacks.

use prost::Message as _;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, Value};
use wasmatrix_model::{Digest, ProtocolVersion};
use wasmatrix_wire::{older, v1};

use crate::descriptors::{now, then};

const FIRST: ProtocolVersion = ProtocolVersion { major: 1, minor: 0 };
const SECOND: ProtocolVersion = ProtocolVersion { major: 1, minor: 1 };

/// An instance whose node is lost.
fn unknown(last_phase: v1::Phase) -> v1::InstanceStatus {
    let at = prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 };
    let unknown =
        v1::Unknown { since: Some(at), last_phase: last_phase.into(), reason: "node b is lost".to_owned() };
    let spec = wasmatrix_model::InstanceSpec::new("web".parse().unwrap(), Digest::of(b"x"));
    v1::InstanceStatus {
        id: "018f8f3a-0000-7000-8000-000000000001".to_owned(),
        node: "b".to_owned(),
        spec: Some(spec.into()),
        phase: v1::Phase::Unknown.into(),
        created_at: Some(at),
        unknown: Some(unknown),
        ..Default::default()
    }
}

fn read_then(message: &str, bytes: &[u8]) -> DynamicMessage {
    let descriptor = then().get_message_by_name(&format!("wasmatrix.v1.{message}")).unwrap();
    DynamicMessage::decode(descriptor, bytes).unwrap()
}

/// Every number of an enum in a message that the enum has no value for.
fn unread(message: &DynamicMessage) -> Vec<String> {
    message
        .fields()
        .flat_map(|(field, value)| match (field.kind(), value) {
            (Kind::Enum(kind), Value::EnumNumber(number)) if kind.get_value(*number).is_none() => {
                vec![format!("{} {number}", field.full_name())]
            }
            (_, Value::Message(inner)) => unread(inner),
            _ => Vec::new(),
        })
        .collect()
}

#[test]
fn property_16_an_unknown_instance_is_listed_to_1_0_as_it_was_last_seen() {
    for last in [v1::Phase::Running, v1::Phase::Pending, v1::Phase::Stopping] {
        let (plain, told) = (unknown(last), older::instance_for(FIRST, unknown(last)));
        assert_eq!(
            unread(&read_then("InstanceStatus", &plain.encode_to_vec())).len(),
            1,
            "it would be refused"
        );
        let read = read_then("InstanceStatus", &told.encode_to_vec());
        assert_eq!(unread(&read), Vec::<String>::new());
        assert_eq!(read.get_field_by_name("phase").unwrap().as_enum_number(), Some(last.into()));
        assert_eq!(older::instance_for(SECOND, unknown(last)), unknown(last), "1.1 is told all");
    }
}

#[test]
fn property_16_facts_that_1_0_has_no_word_for_are_not_told_to_it() {
    let kinds = |fact: MessageDescriptor| {
        let oneof = fact.oneofs().find(|oneof| oneof.name() == "kind").unwrap();
        oneof.fields().map(|field| field.name().to_owned()).collect::<Vec<_>>()
    };
    let (fact_then, fact_now) =
        [then(), now()].map(|pool| pool.get_message_by_name("wasmatrix.v1.Fact").unwrap()).into();
    let known = kinds(fact_then);
    let mut told = 0;
    for kind in kinds(fact_now.clone()) {
        let mut message = DynamicMessage::new(fact_now.clone());
        let field = fact_now.get_field_by_name(&kind).unwrap();
        let empty = DynamicMessage::new(field.kind().as_message().unwrap().clone());
        message.set_field(&field, Value::Message(empty));
        let fact = v1::Fact::decode(message.encode_to_vec().as_slice()).unwrap();
        assert_eq!(older::has_word_for(FIRST, &fact), known.contains(&kind), "{kind}");
        assert!(older::has_word_for(SECOND, &fact), "{kind}");
        told += usize::from(known.contains(&kind));
    }
    assert!(told == known.len() && told > 10, "{known:?}");
    assert!(!older::has_word_for(FIRST, &v1::Fact::default()), "one of a newer version still");
}
