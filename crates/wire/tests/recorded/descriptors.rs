//! Every message and method of 1.0 against today's: filled to the last field by one version, read by the other.

use prost::Message as _;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey,
    MessageDescriptor, Value,
};

/// The proto files of 1.0.
pub(crate) fn then() -> DescriptorPool {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded/v1.0");
    let files =
        protox::compile(["wasmatrix/v1/types.proto", "wasmatrix/v1/service.proto"], [folder]).unwrap();
    DescriptorPool::from_file_descriptor_set(files).unwrap()
}

pub(crate) fn now() -> DescriptorPool {
    DescriptorPool::decode(wasmatrix_wire::FILE_DESCRIPTOR_SET).unwrap()
}

fn ours(pool: &DescriptorPool) -> impl Iterator<Item = MessageDescriptor> {
    pool.all_messages().filter(|message| message.package_name() == "wasmatrix.v1" && !message.is_map_entry())
}

/// A message with every field set to something that follows from its number, and of each oneof the field with index
/// `turn`. `known` is the same message of another version: of oneofs and enums only what it knows is taken.
fn filled(message: &MessageDescriptor, known: Option<&MessageDescriptor>, turn: usize) -> DynamicMessage {
    let mut filled = DynamicMessage::new(message.clone());
    let chosen = |field: &FieldDescriptor| {
        let Some(oneof) = field.containing_oneof().filter(|oneof| oneof.fields().len() > 1) else {
            return true;
        };
        let is_known = |other: &FieldDescriptor| {
            known.is_none_or(|known| known.get_field_by_name(other.name()).is_some())
        };
        let choices: Vec<_> = oneof.fields().filter(is_known).collect();
        choices.get(turn % choices.len().max(1)).is_some_and(|choice| choice.name() == field.name())
    };
    for field in message.fields().filter(chosen) {
        let twin = known.and_then(|known| known.get_field_by_name(field.name()));
        filled.set_field(&field, value_of(&field, twin.as_ref(), turn));
    }
    filled
}

fn value_of(field: &FieldDescriptor, twin: Option<&FieldDescriptor>, turn: usize) -> Value {
    if field.is_map() {
        let (key, value) =
            (MapKey::String("key".to_owned()), Value::String(format!("value {}", field.number())));
        return Value::Map([(key, value)].into());
    }
    let one = single(field, twin, turn);
    if field.cardinality() == Cardinality::Repeated { Value::List(vec![one.clone(), one]) } else { one }
}

fn single(field: &FieldDescriptor, twin: Option<&FieldDescriptor>, turn: usize) -> Value {
    let number = field.number();
    match field.kind() {
        Kind::Message(message) => {
            let known = twin.and_then(|twin| twin.kind().as_message().cloned());
            Value::Message(filled(&message, known.as_ref(), turn))
        }
        Kind::Enum(choices) => {
            let last = |choices: &EnumDescriptor| choices.values().map(|value| value.number()).max();
            let known = twin.and_then(|twin| twin.kind().as_enum().and_then(last)).unwrap_or(i32::MAX);
            Value::EnumNumber(last(&choices).unwrap().min(known))
        }
        Kind::String => Value::String(format!("text {number}")),
        Kind::Bytes => Value::Bytes(vec![7; number as usize].into()),
        Kind::Bool => Value::Bool(true),
        Kind::Uint32 => Value::U32(number + 1),
        Kind::Uint64 => Value::U64(u64::from(number) + 1),
        Kind::Int32 => Value::I32(number.cast_signed() + 1),
        Kind::Int64 => Value::I64(i64::from(number) + 1),
        other => panic!("{} is of a kind that nobody used before: {other:?}", field.full_name()),
    }
}

/// The same without what its own version does not know; `true`: there was such a thing.
fn forget_unknown(message: &mut DynamicMessage) -> bool {
    let mut found = message.take_unknown_fields().count() > 0;
    for (_, value) in message.fields_mut() {
        match value {
            Value::Message(within) => found |= forget_unknown(within),
            Value::List(list) => {
                for value in list {
                    if let Value::Message(within) = value {
                        found |= forget_unknown(within);
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// Most fields of a oneof: `Fact` has the most.
const TURNS: usize = 40;

#[test]
fn property_16_all_that_1_0_can_say_is_understood_today() {
    let now = now();
    for old in ours(&then()) {
        let new =
            now.get_message_by_name(old.full_name()).unwrap_or_else(|| panic!("{} is gone", old.full_name()));
        for turn in 0..TURNS {
            let said = filled(&old, Some(&new), turn);
            let mut heard = DynamicMessage::decode(new.clone(), said.encode_to_vec().as_slice()).unwrap();
            assert!(!forget_unknown(&mut heard), "{} lost a field of 1.0: {said}", old.full_name());
            let back = DynamicMessage::decode(old.clone(), heard.encode_to_vec().as_slice()).unwrap();
            assert_eq!(back.to_string(), said.to_string(), "{}", old.full_name());
        }
    }
}

#[test]
fn property_16_what_is_said_today_is_understood_by_1_0_as_far_as_it_goes() {
    let now = now();
    let mut news = 0;
    for old in ours(&then()) {
        let new = now.get_message_by_name(old.full_name()).unwrap();
        for turn in 0..TURNS {
            let said = filled(&new, Some(&old), turn);
            let mut heard = DynamicMessage::decode(old.clone(), said.encode_to_vec().as_slice()).unwrap();
            news += usize::from(forget_unknown(&mut heard));
            assert_eq!(heard.to_string(), filled(&old, Some(&new), turn).to_string(), "{}", old.full_name());
        }
    }
    assert!(news > 0, "today's messages have fields that 1.0 skips");
}

#[test]
fn every_method_of_1_0_is_there_and_takes_and_gives_the_same() {
    let now = now();
    let mut methods = 0;
    for service in then().services() {
        let Some(today) = now.get_service_by_name(service.full_name()) else {
            panic!("{} is gone", service.full_name())
        };
        for method in service.methods() {
            let form = |method: &prost_reflect::MethodDescriptor| {
                let (input, output) = (method.input(), method.output());
                let names = (input.full_name().to_owned(), output.full_name().to_owned());
                (names, method.is_client_streaming(), method.is_server_streaming())
            };
            let today = today.methods().find(|other| other.name() == method.name());
            assert_eq!(today.as_ref().map(form), Some(form(&method)), "{}", method.full_name());
            methods += 1;
        }
    }
    assert!(methods > 20, "{methods}");
}

#[test]
fn the_fill_leaves_no_field_out() {
    let fact = now().get_message_by_name("wasmatrix.v1.Fact").unwrap();
    let kinds = (0..TURNS).map(|turn| filled(&fact, None, turn));
    let kinds: std::collections::BTreeSet<u32> =
        kinds.flat_map(|fact| fact.fields().map(|(field, _)| field.number()).collect::<Vec<_>>()).collect();
    assert_eq!(kinds.len(), fact.fields().len());
}
