//! Allocates memory without end: what a memory limit is for.
//!
//! ```text
//! wasmatrix run --memory 64MiB hog.wasm
//! ```
//!
//! Each line says how much it holds; the last one is near the limit. The crash names the limit, and no other
//! instance loses a byte.

#![forbid(unsafe_code)]

const STEP_MIB: usize = 8;

fn main() {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        // Written to, and not with zeros, so that the memory is not only promised.
        hoard.push(vec![0xA5; STEP_MIB << 20]);
        println!("holding {} MiB", hoard.len() * STEP_MIB);
    }
}
