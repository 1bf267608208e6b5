//! Tests that need more than one crate: conformance, properties, end to end.
