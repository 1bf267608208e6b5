//! What the tests that need more than one crate share: nodes, guests, and a way to say what a guest should do.
//!
//! Every test that runs guests runs them on each of [`executors`]: an executor joins all of them by its line in
//! [`EXECUTORS`].

#![forbid(unsafe_code)]

pub mod dialogue;
pub mod guests;
pub mod measure;
pub mod node;

pub use dialogue::Dialogue;
pub use node::{Case, Node, Outcome};

use std::{io::Write as _, sync::OnceLock};

use wasmatrix_model::ExecutorKind;

/// The executors that every conformance case and every property runs on.
pub const EXECUTORS: &[ExecutorKind] = &[ExecutorKind::Wasmtime, ExecutorKind::Microvm];

/// Those of [`EXECUTORS`] that this machine can use. One that it can't is skipped, and the reason said once on standard
/// error; where the machine should have it, `WASMATRIX_REQUIRE_KVM=1` makes that a failure.
///
/// # Panics
/// An executor is required and can't be used.
pub fn executors() -> &'static [ExecutorKind] {
    static USABLE: OnceLock<Vec<ExecutorKind>> = OnceLock::new();
    USABLE.get_or_init(|| {
        // A thread of its own, because a caller may be within a runtime already.
        let probe = std::thread::spawn(|| {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime can be built");
            runtime.block_on(Node::new()).agent.describe().executors
        });
        let statuses = probe.join().expect("a node can be built");
        let required = std::env::var_os("WASMATRIX_REQUIRE_KVM").is_some_and(|value| value == "1");
        let usable = |kind: &ExecutorKind| {
            let status =
                statuses.iter().find(|status| status.kind == *kind).expect("the node knows all kinds");
            let Some(why) = &status.unavailable else { return true };
            assert!(!required, "WASMATRIX_REQUIRE_KVM=1, but {kind} can't be used: {why}");
            let _ = writeln!(std::io::stderr(), "skipped on {kind}: {why}");
            false
        };
        EXECUTORS.iter().copied().filter(usable).collect()
    })
}
