//! What a micro-VM's guest and its host say to each other: the words, where they are put, and how code is compiled.
//!
//! The guest writes a [`Request`] at [`layout::REQUEST`] and writes the request's length to the port
//! [`layout::HYPERCALL_PORT`]; the host copies it out, reads it with [`Request::parse`], and answers with a
//! [`Response`] at [`layout::RESPONSE`], with its length in the four bytes before it. There is no other way out.
//!
//! | module | what it says |
//! |---|---|
//! | [`layout`] | which address and port means what |
//! | [`request`] | what a guest asks for |
//! | [`response`] | what it is told |
//! | [`kv`] | the same, of key-value storage |
//! | [`codec`] | how that becomes bytes, with every length checked |
//! | [`engine`] | every knob of wasmtime that compiler and runtime must agree on |
//!
//! The host believes nothing that it reads here; the guest believes its host.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod codec;
pub mod engine;
pub mod kv;
pub mod layout;
pub mod request;
pub mod response;

pub use codec::Malformed;
pub use kv::{KvAnswer, KvRequest};
pub use request::{Backtrace, End, LastWords, Request, StackFrame};
pub use response::{Response, Start};
