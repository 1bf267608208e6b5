//! The executor from outside: real guests, through the two traits.

mod ends;
mod harness;
