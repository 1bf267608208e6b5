//! The verbs that serve: control plane and node in one process, or each in its own, by the same code.
//!
//! ```text
//!  up            = control + node, over a pipe in memory
//!  control-plane = control
//!  agent         =           node, over a socket; its address and certificate are given
//!  join          =           node, over a socket; both are found out
//!
//!  a signal ──► drain: nothing new is taken, what runs ends within --grace ──► exit
//!                └─ second signal ──► ends at once
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`up`], [`control`], [`agent`], [`join`] | the verbs, and the halves they are made of |
//! | [`node`] | a node from its flags |
//! | [`discovery`] | where a control plane learns of nodes |
//! | [`certified`] | the certificates of a process that serves, made and followed |
//! | [`enroll`], [`renewal`] | how a node gets its first certificate, and the next |
//! | [`place`] | its files |
//! | [`listen`] | its sockets, and which may be open to whom |
//! | [`ways`] | how agents reach the control plane |
//! | [`http`] | what monitoring asks |

pub(crate) mod agent;
mod certified;
pub(crate) mod control;
mod discovery;
mod enroll;
mod http;
pub(crate) mod join;
mod listen;
mod node;
mod place;
mod renewal;
pub(crate) mod up;
mod ways;

use std::io::Write as _;

use crate::args::Global;

/// Says something to whoever started the process, on standard error.
fn tell(global: &Global, text: &str) {
    if !global.quiet {
        let _ = std::io::stderr().write_all(text.as_bytes()); // with standard error gone there is nobody to tell
    }
}

/// What is said, each time, of a listener in plain text that other machines can reach.
fn warn_of_plaintext(what: &str) {
    let _ = writeln!(
        std::io::stderr(),
        "WARNING: {what} in plain text: whoever can reach it can run programs here, and read and change what is said. \
         --insecure-plaintext-i-trust-this-network allows that"
    );
}
