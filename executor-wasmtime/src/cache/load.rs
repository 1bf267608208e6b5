//! The one unsafe call of this crate: taking compiled code for what it says it is.

use wasmtime::{Engine, component::Component};

/// Maps compiled code, which must be what [`Component::serialize`] gave.
///
/// Only for [`super::Cache`], which has proven with the node's key that it wrote these very bytes itself.
#[expect(
    unsafe_code,
    reason = "wasmtime can't check compiled code, so loading it is unsafe whatever the caller does"
)]
pub(super) fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` asks that the bytes be the unchanged output of `Component::serialize`. The caller has
    // checked an HMAC over them under a key that only this user can read and that authenticates nothing but what
    // `Cache::store` serialized. They are in memory of ours, so no file can change under the call. That they were
    // made for this engine, wasmtime checks itself.
    unsafe { Component::deserialize(engine, code) }
}
