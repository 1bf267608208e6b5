//! What runs in a micro-VM: wasmtime's runtime without a compiler, WASI and one hypercall, all in ring 3.
//!
//! ```text
//!  _start ─► boot: engine, linker ─► Ready ═══► Start ─► instantiate ─► Started ─► run ─► End
//!                                     (parked in the pool)
//! ```
//!
//! There is no operating system, no second thread and no second run: a machine is thrown away after one.
//!
//! | module | what it does |
//! |---|---|
//! | [`run`] | the way above |
//! | [`host`] | the hypercall, typed |
//! | [`ending`] | how an end is told |
//! | [`limits`] | what the component may take |
//! | [`state`] | what stands behind its imports |
//! | [`wasi`] | WASI 0.2 |
//! | [`absent`] | files and networks, of which there are none |
//! | [`keyvalue`], [`configuration`], [`logging`] | the interfaces of those names |
//! | [`sys`] | everything that needs `unsafe` |

#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod absent;
mod configuration;
mod ending;
mod host;
mod keyvalue;
mod limits;
mod logging;
mod run;
mod state;
#[expect(unsafe_code, reason = "the machine itself: entry, traps, memory, the port")]
mod sys;
mod wasi;
