//! Takes requests, hands them to the node, and tells what the node reports. Cannot run code.
//!
//! ```text
//! client ──gRPC──► service ──gRPC──► agent          (requests)
//! client ◄──────── service ◄──────── agent          (answers, logs, facts)
//! ```
//!
//! It keeps no instance, no grant and no fact of its own: whatever it is asked, it asks the agent, so what it says is
//! what the agent saw, and a restart loses nothing. It knows one node for now; with several, placement and routing
//! have their place here, between the two arrows.
//!
//! It depends on the model and the wire, never on an executor or a provider; a test holds it to that.
//!
//! | module | what it does |
//! |---|---|
//! | [`service`] | validates each request and forwards it |
//! | [`server`] | binds, with health and reflection, and drains |
//! | [`placement`] | decides which node runs an instance |
//! | [`liveness`] | decides whether a node is heard |
//! | [`discovery`] | learns of nodes from a list, or from etcd |
//! | [`view`] | remembers what the nodes told of their instances |

#![forbid(unsafe_code)]

pub mod discovery;
pub mod liveness;
pub mod placement;
pub mod server;
pub mod service;
pub mod view;

pub use server::{ServeError, serve};
pub use service::ControlPlane;
