//! Simulated nodes: thousands in one process, each speaking the real protocol over a network that fails on demand.
//!
//! A control plane can't tell them from real ones: each serves the gRPC service `Agent`, attends by `Nodes.Attend`, and
//! keeps instances, grants, facts and revisions as the real agent does. Only that no code runs: what instances do is
//! drawn by lot. It is for tests of the control plane, and of whatever you build on its API.
//!
//! ```text
//!                      ┌─ link ─ node-0: service ── machine ── agenda
//! control plane ── net ┼─ link ─ node-1
//!                      └─ link ─ …            links: delay, slowness, silence, cuts
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`seed`] | one number from which all chance follows |
//! | [`clock`] | the time of day, held, moved and set wrong by tests |
//! | [`net`] | pipes in memory, or TCP on the loopback |
//! | [`link`] | what can befall the line of a node |
//! | [`node`] | a node that boots and crashes |
//! | [`machine`] | what a node holds between the two |
//! | [`lives`] | what becomes of its instances |
//! | [`fault`] | what goes wrong, by whom and when |
//! | [`world`] | a whole cluster: a real control plane, nodes, users |
//! | [`user`] | who asks, asks again, and watches |
//! | [`service`] | the gRPC service `Agent` |

#![forbid(unsafe_code)]

mod attend;
pub mod clock;
pub mod fault;
pub mod link;
pub mod lives;
pub mod machine;
pub mod net;
pub mod node;
pub mod seed;
pub mod service;
pub mod user;
pub mod world;

pub use clock::SimClock;
pub use fault::{Fault, Schedule};
pub use link::{Direction, Link};
pub use lives::Lives;
pub use machine::{Machine, Traits};
pub use net::Net;
pub use node::SimNode;
pub use seed::Seed;
pub use user::{Observer, User};
pub use world::World;
