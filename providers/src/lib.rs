//! What guests can be granted: the [`Provider`] trait and the key-value provider with its backends.
//!
//! A provider answers calls; it never decides whether a call is allowed. That was done before, in the agent's gate.
//! What a provider does decide is whose data a call is about: each call comes with the [`Namespace`] of its caller,
//! and nothing in the call itself can name another.
//!
//! | module | what it offers |
//! |---|---|
//! | [`provider`] | the trait, and namespaces |
//! | [`kv`] | key-value storage, in memory or in a file |

#![forbid(unsafe_code)]

pub mod kv;
pub mod provider;

pub use kv::{KvLimits, KvProvider, OpenError};
pub use provider::{Namespace, Provider};
