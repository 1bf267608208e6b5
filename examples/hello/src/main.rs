//! Greets, and shows what it was started with: the smallest job there is.
//!
//! ```text
//! wasmatrix run hello.wasm arg1 arg2
//! ```
//!
//! It needs no grant. Standard output, the arguments and the exit code belong to every job.

#![forbid(unsafe_code)]

fn main() {
    println!("Hello from WebAssembly!");
    for (position, argument) in std::env::args().skip(1).enumerate() {
        println!("argument {}: {argument}", position + 1);
    }
}
