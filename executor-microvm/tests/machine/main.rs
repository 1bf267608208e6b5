//! The executor on a real KVM: what runs, how it ends, what it may take, what it can ask for.
//!
//! Without KVM these tests have nothing to test; they say so and pass, unless `WASMATRIX_REQUIRE_KVM=1` says that
//! the machine should have it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that can't go on says so and fails, and one that is skipped says so"
)]

mod broken;
mod chance;
mod ends;
mod keyvalue;
mod limits;
mod oracle;
mod stage;
mod streams;
