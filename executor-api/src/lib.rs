//! What an executor is: two traits, the capability calls that a guest can make, and the errors. Runs nothing.
//!
//! An executor runs instances at one isolation level. The agent holds one per level and never asks which it is:
//! [`Executor`] makes an artifact ready and launches it, [`Instance`] is what came of a launch. Everything that a
//! guest wants from outside comes out of an executor as a typed [`CapabilityCall`] through the
//! [`Capabilities`] handle of its launch, or as bytes through its [`Console`]. There is no third way out.
//!
//! | module | what it says |
//! |---|---|
//! | [`executor`] | the two traits and what passes through them |
//! | [`call`] | what a guest can ask for, what each call needs, what comes back |
//! | [`console`] | standard input, output, error and the log |
//! | [`share`] | how much of a processor one run may have |
//! | [`error`] | why something could not be prepared or launched |

#![forbid(unsafe_code)]

pub mod call;
pub mod console;
pub mod error;
pub mod executor;
pub mod share;

pub use call::{
    Capabilities, CapabilityCall, CapabilityError, CapabilityErrorKind, CapabilityReply, KvCall, KvReply,
    Page, Swapped, Version, Versioned,
};
pub use console::{Closed, Console, Output};
pub use error::{Error, ErrorKind};
pub use executor::{Artifact, Capacity, Executor, Instance, Launch, Meter, Prepared, RunUsage};
pub use share::Share;
