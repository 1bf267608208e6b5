//! Runs guests in KVM micro-VMs: each run in a machine of its own, whose guest is the image in `guest/`.
//!
//! ```text
//!  prepare: artifact ─► intake ─► compile (Cranelift, here) ─► load into a machine ─► template
//!  launch:  pool ─► machine made from the template ─► a thread that runs its one vCPU
//!                                                      │ exit: a request, parsed once, served
//!                                                      └─► console, capabilities, clock
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | how an executor is set up |
//! | [`executor`] | the executor: prepare and launch |
//! | [`probe`] | whether this machine can run micro-VMs |
//! | [`compile`] | from an artifact to code for the guest |
//! | [`image`] | the guest's own image, loaded once |
//! | [`machine`] | one virtual machine: its tables, its memory, its exits; what machines begin with |
//! | [`templates`] | makes what machines begin with, and machines from it |
//! | [`pool`] | machines made ahead of need |
//! | [`run`] | one run: the vCPU's thread and the driver's handle |
//! | [`serve`] | what the host does for a guest |
//! | [`computing`] | what a run's thread computes, and may |
//! | [`ending`] | how an end is told |
//! | `fuzzing` | for fuzz targets alone: a run without KVM |
//! | [`sys`] | everything that needs `unsafe` |
//!
//! The host believes nothing that a machine says. A machine that breaks a rule is ended, alone.

#![deny(unsafe_code)]

mod compile;
mod computing;
mod config;
mod elf;
mod ending;
mod executor;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod image;
mod machine;
mod pool;
mod probe;
mod run;
mod serve;
#[expect(unsafe_code, reason = "KVM: memory lent to a machine, signals to its thread")]
mod sys;
mod templates;

pub use config::Config;
pub use executor::MicrovmExecutor;
