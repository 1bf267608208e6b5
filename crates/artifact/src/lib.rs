//! What a user handed in: told apart, checked, and made a component.
//!
//! ```text
//!  bytes ──sniff──► text, HTML, ELF … ──────────────────────────────► refused
//!          │
//!          ├─► component ─────────┐
//!          └─► core module ─adapt─┴─► names of imports and exports ──► refused, or ready to compile
//! ```
//!
//! Everything here looks at names only, so a refusal costs no compilation. Whether the code itself is sound is for
//! wasmtime to say; [`diagnose`] then finds words for it. Every executor takes in the same artifacts, so this is in
//! none of them.

#![forbid(unsafe_code)]

use wasmatrix_executor_api::ErrorKind;
use wasmparser::{Validator, WasmFeatures};

mod adapt;
mod module;
pub mod names;
pub mod offered;
mod rewrite;
mod sniff;
mod world;

pub use adapt::adapt;

/// Proposals that a guest of ours has no need of, and that no executor runs. What is on by default and is not here
/// stays on: bulk memory, multiple values and memories, reference types, SIMD and relaxed SIMD, tail calls, extended
/// constants.
pub const REFUSED: WasmFeatures = WasmFeatures::THREADS
    .union(WasmFeatures::MEMORY64)
    .union(WasmFeatures::GC)
    .union(WasmFeatures::FUNCTION_REFERENCES)
    .union(WasmFeatures::EXCEPTIONS);

/// Why an artifact can't be run. Kept apart from the API's error, which can't be shared between those who wait.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What kind of refusal.
    pub kind: ErrorKind,
    /// What was wrong, and what to do.
    pub message: String,
}

impl Refusal {
    /// It can't be run by anybody.
    pub fn bad(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::BadArtifact, message: message.into() }
    }

    /// It can't be run here.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Unsupported, message: message.into() }
    }
}

/// What the artifact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A component, to be compiled as it is.
    Component,
    /// A WASI preview-1 command, to be adapted first.
    Module,
}

/// Tells what the bytes are and whether their imports and exports can be served.
///
/// # Errors
/// They can't; the refusal says why.
pub fn inspect(bytes: &[u8], bytes_max: u64) -> Result<Form, Refusal> {
    if bytes.len() as u64 > bytes_max {
        return Err(Refusal {
            kind: ErrorKind::Exhausted,
            message: format!(
                "the artifact has {} bytes and at most {bytes_max} are taken in: strip its debug information, or \
                 raise artifact_bytes_max",
                bytes.len()
            ),
        });
    }
    let form = sniff::sniff(bytes)?;
    match form {
        Form::Component => world::check(bytes)?,
        Form::Module => module::check(bytes)?,
    }
    Ok(form)
}

/// Says why bytes that looked right would not compile. `error` is what the compiler said.
pub fn diagnose(bytes: &[u8], error: &str) -> Refusal {
    let validate = |features| Validator::new_with_features(features).validate_all(bytes).map(drop);
    // What an engine of ours takes, and a little more: proposals that nobody asked for are not worth a word.
    let offered = WasmFeatures::WASM3.difference(REFUSED).union(WasmFeatures::COMPONENT_MODEL);
    match (validate(offered), validate(WasmFeatures::all())) {
        (Err(problem), Err(_)) => Refusal::bad(format!(
            "the file is corrupt, it breaks a rule of WebAssembly: {problem}; build or copy it again"
        )),
        (Err(problem), Ok(())) => Refusal::unsupported(format!(
            "the code uses a part of WebAssembly that is not offered: {problem}; build it for wasm32-wasip1 or \
             wasm32-wasip2 without threads, 64-bit memory, garbage collection, exceptions and WASI 0.3"
        )),
        (Ok(()), _) => Refusal::unsupported(format!("the code could not be compiled: {error}")),
    }
}

/// Most imports, and most exports, of an artifact. They are read before wasmtime has a chance to refuse them, and each
/// of the millions that fit into a file costs much more here than there.
const NAMES_MAX: usize = 100_000;

/// Refuses the artifact that has one name too many.
fn counted(names: usize) -> Result<(), Refusal> {
    if names > NAMES_MAX {
        return Err(Refusal::bad(format!(
            "it has more than {NAMES_MAX} imports or exports, the most that are taken"
        )));
    }
    Ok(())
}

/// Names as a list in a sentence.
fn list<T: ToString>(names: impl IntoIterator<Item = T>) -> String {
    /// More names than anybody reads.
    const NAMES_MAX: usize = 100;
    /// More of a name than anybody reads, in bytes.
    const NAME_BYTES_MAX: usize = 200;
    let cut = |mut name: String| {
        if name.len() > NAME_BYTES_MAX {
            name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
            name.push('…');
        }
        name
    };
    let mut names: Vec<String> = names.into_iter().map(|name| cut(name.to_string())).collect();
    names.sort();
    names.dedup();
    let more = names.len().saturating_sub(NAMES_MAX);
    names.truncate(NAMES_MAX);
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}

/// What is wrong when a section can't be read.
fn corrupt(error: &wasmparser::BinaryReaderError) -> Refusal {
    Refusal::bad(format!("the file is corrupt: {error}; build or copy it again"))
}
