//! What the tests that need more than one crate share: nodes, guests, and a way to say what a guest should do.
//!
//! Every test that runs guests runs them on each of [`EXECUTORS`]: an executor joins all of them by its line there.

#![forbid(unsafe_code)]

pub mod dialogue;
pub mod guests;
pub mod measure;
pub mod node;

pub use dialogue::Dialogue;
pub use node::{Case, Node, Outcome};

use wasmatrix_model::ExecutorKind;

/// The executors that every conformance case and every property runs on.
pub const EXECUTORS: &[ExecutorKind] = &[ExecutorKind::Wasmtime, ExecutorKind::Microvm];
