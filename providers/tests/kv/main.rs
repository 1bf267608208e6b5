//! The key-value provider, as the agent's gate calls it: the same scenarios on every backend, and what only a file
//! can go through.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on stops there")]

mod atomicity;
mod calls;
mod crash;
mod guest;
mod limits;
mod model;
mod opening;
mod shutdown;
