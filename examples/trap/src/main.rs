//! Crashes in the way that it is told to, so that you can see what a crash looks like from outside.
//!
//! ```text
//! wasmatrix run trap.wasm divide        # or: unreachable, bounds, indirect, stack, panic, abort
//! ```
//!
//! The error names the trap and shows the functions that led to it. Nothing else on the node notices.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use trap::Kind;

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_else(|| "unreachable".to_owned());
    match wanted.parse::<Kind>() {
        Ok(kind) => kind.spring(),
        Err(problem) => {
            eprintln!("trap: {problem}");
            ExitCode::FAILURE
        }
    }
}
