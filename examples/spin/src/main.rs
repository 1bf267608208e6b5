//! Loops for ever: what interruption is for.
//!
//! ```text
//! wasmatrix run --wall-time 2s spin.wasm
//! ```
//!
//! It never calls the host, and it is stopped all the same: at its time limit, or at once by `wasmatrix stop`.

#![forbid(unsafe_code)]

use std::hint::black_box;

fn main() {
    println!("spinning");
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}
