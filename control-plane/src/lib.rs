//! Takes requests, picks a node, hands them to its agent, and tells what the nodes report. Cannot run code.
//!
//! ```text
//!  users ──gRPC──► service ──┬── start ── placement ──► route ──gRPC──► agents       (requests)
//!                            │                                            │
//!                            └──◄── mirror, record ◄────── link ◄─────────┤          (what is, what happened)
//!  agents ──gRPC──► attend ──► nodes ── liveness ──► succession           │
//!                                        (a node is lost) └───────────────┘          (successors, fences)
//! ```
//!
//! What it knows is a mirror of what the nodes say, in memory alone: it is killed and begun again at any moment, asks
//! every agent that attends, and knows the same as before. Nobody's instance depends on it.
//!
//! It depends on the model and the wire, never on an executor or a provider; a test holds it to that.
//!
//! | module | what it does |
//! |---|---|
//! | [`config`] | what a control plane is made of |
//! | [`server`] | takes connections, with health and reflection, and drains |
//! | `service` | validates each request of users and hands it on |
//! | `counted` | how many connections are served |
//! | [`access`] | the roles that each method needs |
//! | `allowance` | how often what others ask for may happen |
//! | [`enroll`] | how machines get certificates |
//! | `attend` | the service by which nodes attend |
//! | `cluster` | all that is known, and what follows when a node is heard or falls silent |
//! | `nodes` | the table of nodes |
//! | [`liveness`] | decides by a node's silence whether it is ready, suspect or lost |
//! | [`dial`] | from an address to a channel, if that is allowed |
//! | `link` | follows one node's agent |
//! | `mirror` | the instances of all nodes, as their agents last told |
//! | [`record`] | the facts of all nodes |
//! | `route` | from a request to the agent that can do it |
//! | `start` | a start: name, place, artifact |
//! | [`placement`] | decides which node runs an instance |
//! | `placing` | the board by which nodes are picked, and the places that starts under way have |
//! | [`discovery`] | learns of nodes from a list, or from etcd |
//! | [`view`] | remembers what the nodes told of their instances |
//! | `slab` | places numbered by 32 bits |
//! | `artifacts` | bytes of what may be restarted elsewhere |
//! | `succession` | who takes the place of what was lost, and the end of a copy that comes back |
//! | `cordon` | closes a node, and has its agent remember it |
//! | `drain` | empties a node |

#![forbid(unsafe_code)]

pub mod access;
mod allowance;
mod artifacts;
mod attend;
mod cluster;
pub mod config;
mod cordon;
mod counted;
pub mod dial;
pub mod discovery;
mod drain;
pub mod enroll;
mod link;
pub mod liveness;
mod mirror;
mod nodes;
pub mod placement;
mod placing;
pub mod record;
mod route;
pub mod server;
mod service;
mod slab;
mod start;
mod succession;
pub mod view;

pub use config::{Config, ControlPlane};
pub use dial::{Dial, PlainText, Proven};
pub use enroll::Joining;
pub use liveness::Timetable;
pub use server::{ServeError, serve};
