//! Runs guests in this process, with wasmtime.
//!
//! ```text
//!  Artifact ──wasmatrix-artifact──► component ──compile──► compiled code ──run──► ExitCause
//!                                     │  ▲                    │
//!                                     ▼  │                    ├── supervise: time, share, stop
//!                                    cache                    ├── limits: memory, tables, handles
//!                                                             └── host ──► Capabilities, Console
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | what an executor is built from |
//! | `executor` | threads, and the way into a run |
//! | `engine` | every knob of wasmtime |
//! | `compile` | makes it ready, once per digest |
//! | `cache` | keeps compiled code on disk, and trusts only its own |
//! | `run` | one run, from instantiation to exit |
//! | `limits` | memory, tables, handles |
//! | `trap` | how an end is told |
//! | `streams` | standard input, output and error |
//! | `host` | what guests can import |
//!
//! Guests run on threads of their own, in slices of one tick: one that spins takes nothing from the caller, and from
//! its neighbours only what they would share with any other.

#![deny(unsafe_code)]

mod cache;
mod compile;
pub mod config;
mod engine;
mod executor;
mod host;
mod limits;
mod run;
mod streams;
mod supervise;
mod ticker;
mod trap;

pub use config::Config;
pub use executor::WasmtimeExecutor;
