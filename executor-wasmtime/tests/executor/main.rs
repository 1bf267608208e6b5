//! The executor from outside: real guests, through the two traits.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on stops there")]

mod caching;
mod ends;
mod harness;
mod keyvalue;
mod limits;
mod refusals;
mod scheduling;
mod streams;
mod worlds;
