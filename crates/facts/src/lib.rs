//! The record of what happened: numbered, bounded, followed by many. Each agent keeps one, and so does the control plane.
//!
//! | module | what it is |
//! |---|---|
//! | [`record`] | facts of one node, with tokens to go on from |
//! | [`ring`] | the bounded, numbered memory under it, for anything else that is followed |

#![forbid(unsafe_code)]

pub mod record;
pub mod ring;

pub use record::{Facts, Watched};
pub use ring::Ring;
