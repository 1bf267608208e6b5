//! Makes a component of a WASI preview-1 command, so that everything after has one kind of artifact.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wit_component::ComponentEncoder;

use crate::{Refusal, diagnose, rewrite::rewrite, world};

/// Wraps the module and the adapter that speaks preview 1 to it into one component.
///
/// # Errors
/// The module breaks a rule, or imports what is not offered.
pub fn adapt(module: &[u8]) -> Result<Vec<u8>, Refusal> {
    let encode = || -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
        Ok(ComponentEncoder::default()
            .module(&rewrite(module)?)?
            .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)?
            // The compiler validates all of it anyway.
            .validate(false)
            .encode()?)
    };
    let component = encode().map_err(|error| diagnose(module, &error.to_string()))?;
    // A module that brings its own world may import interfaces that only show now.
    world::check(&component)?;
    Ok(component)
}
