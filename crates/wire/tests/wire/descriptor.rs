//! Whether a path in an objection is one that the proto files know.

use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet, field_descriptor_proto::Type};

/// Follows a path such as `spec.grants[3]` from a message of wasmatrix.v1, e.g. `InstanceStatus`.
pub(crate) fn knows(message: &str, path: &str) -> bool {
    let set = FileDescriptorSet::decode(wasmatrix_wire::FILE_DESCRIPTOR_SET).unwrap();
    let mut at = find(&set, &format!(".wasmatrix.v1.{message}"));
    let mut words = path.split('.').peekable();
    while let Some(word) = words.next() {
        let name = word.split_once('[').map_or(word, |(name, _)| name);
        let Some(within) = at else { return false };
        if let Some(field) = within.field.iter().find(|field| field.name() == name) {
            at = (field.r#type() == Type::Message).then(|| find(&set, field.type_name())).flatten();
        } else {
            // A oneof of which nothing was said has no path within it.
            return words.peek().is_none() && within.oneof_decl.iter().any(|oneof| oneof.name() == name);
        }
    }
    true
}

fn find<'a>(set: &'a FileDescriptorSet, full_name: &str) -> Option<&'a DescriptorProto> {
    fn within<'a>(list: &'a [DescriptorProto], prefix: &str, full_name: &str) -> Option<&'a DescriptorProto> {
        list.iter().find_map(|message| {
            let name = format!("{prefix}.{}", message.name());
            if name == full_name { Some(message) } else { within(&message.nested_type, &name, full_name) }
        })
    }
    set.file.iter().find_map(|file| within(&file.message_type, &format!(".{}", file.package()), full_name))
}

#[test]
fn paths_are_followed() {
    assert!(knows("InstanceStatus", "spec.limits.memory_bytes_max"));
    assert!(knows("InstanceStatus", "spec.grants[3]"));
    assert!(knows("Fact", "instance_crashed.exit.cause"));
    assert!(!knows("InstanceStatus", "spec.limits.memory"));
    assert!(!knows("InstanceStatus", "id.spec"));
    assert!(!knows("Fact", "kind.exit"));
}
