//! The executor from outside: real guests, through the two traits.

mod caching;
mod ends;
mod harness;
mod keyvalue;
mod limits;
mod refusals;
mod scheduling;
mod streams;
mod worlds;
