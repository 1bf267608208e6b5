//! The project's own chores, behind `cargo xtask`. Each is a module that a test can call too.
//!
//! | module | chore |
//! |---|---|
//! | [`examples`] | build the guests |
//! | [`ci`] | all that must hold before a change is taken |
//! | [`kvm_amd`] | the micro-VM executor's tests on the KVM that users have |
//! | [`chaos`] | real processes, killed, frozen and cut off at random |
//! | [`fuzz`] | what reads hostile bytes, given bytes that reach all of it |
//! | [`compatibility`] | programs of others, on both executors |
//! | [`dist`] | what a release is made of |
//! | [`tidy`] | the checks that are not a compiler's |
//! | [`workspace`] | where things are, and how cargo is called |
//! | [`tools`] | programs that a chore needs, and what to install when they are missing |

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a chore is a dialogue with a terminal")]

pub mod chaos;
pub mod ci;
pub mod compatibility;
pub mod dist;
pub mod examples;
pub mod fuzz;
pub mod kvm_amd;
pub mod tidy;
pub mod tools;
pub mod workspace;
