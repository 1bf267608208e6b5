//! The node: a driver per instance, the gate that checks every capability call, restart policy, facts.
//!
//! ```text
//!  gRPC ─► service ─► Agent ─► Registry: one Instance each ◄── state ── Driver ──► Executor ──► the guest
//!                       │                      │                          │                      │
//!                       │                      └──── grants ───► Gate ◄───┼── CapabilityCall ────┘
//!                       ▼                                         │       ▼
//!                     Facts ◄────────── everything that happens ──┴─── restart, logs
//! ```
//!
//! | module | what it decides or does |
//! |---|---|
//! | [`agent`] | what can be asked of a node, as plain calls |
//! | [`service`] | the same as gRPC |
//! | [`server`] | who may ask, and the servers that carry it |
//! | [`config`], `wiring` | what a node is made of; `wiring` alone names executors and providers |
//! | `registry` | which instances there are; which names are free |
//! | [`attend`] | lets the control plane know that the node is there |
//! | [`node_id`] | what the node is called, after a restart too |
//! | [`changes`] | which instances changed, for those who keep the same list |
//! | `artifacts` | the bytes that another node may need |
//! | `instance` | what is kept of one instance |
//! | `driver` | the life of one instance: the only place that takes a step of it |
//! | [`restart`] | whether it is started again, and when |
//! | `gate` | whether a capability call is allowed |
//! | `provision` | which providers answer |
//! | `rate` | how often something may become a fact |
//! | [`logs`] | what was said; what happened is in `wasmatrix-facts` |
//! | `metrics` | the counts that Prometheus reads |

#![forbid(unsafe_code)]

pub mod agent;
mod artifacts;
pub mod attend;
pub mod changes;
pub mod config;
mod driver;
mod gate;
mod instance;
pub mod logs;
mod metrics;
pub mod node_id;
mod provision;
mod rate;
mod registry;
pub mod restart;
pub mod server;
pub mod service;
mod wiring;

pub use agent::Agent;
pub use config::{BuildError, Config, KvBackend};
