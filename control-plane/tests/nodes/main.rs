//! A control plane and simulated nodes that speak the real protocol, over pipes in memory and under a paused clock.

#![expect(clippy::unwrap_used, reason = "what a test takes for granted and is not so ends it")]

mod cordons;
mod liveness;
mod recovery;
mod starts;
mod succession;
mod world;

pub(crate) use world::World;
