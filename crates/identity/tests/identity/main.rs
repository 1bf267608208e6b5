//! What the wire's security promises, tried with real handshakes over loopback and real tonic services.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops there")]

mod attackers;
mod authority;
mod cluster;
mod credentials;
mod damage;
mod expiry;
mod handshakes;
mod joining;
mod reloading;
mod revoking;
mod servers;
mod strangers;
