//! What travels comes back as it was, and nothing that arrives can do harm.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops there")]

mod descriptor;
mod failures;
mod newer;
mod refusals;
mod round_trip;
mod strategies;
