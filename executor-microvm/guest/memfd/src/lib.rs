//! Empty on purpose: stands in for a crate that needs std and is never called here.
#![no_std]
