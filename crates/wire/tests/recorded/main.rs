//! Property 16 across versions: a minor version apart works both ways.
//!
//! `v1.0.jsonl` was written by the code that spoke 1.0, before 1.1 was added: on each line a message's name, its bytes
//! in hexadecimal digits, and what they meant to that code, as JSON. `v1.0/` holds the proto files of that time. Neither
//! is ever changed; a later version adds files of its own.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on stops there")]

mod descriptors;
mod messages;
mod older;
