//! Counts its visits, and remembers them the only way that a guest can: through key-value storage.
//!
//! ```text
//! wasmatrix run --kv counter.redb --grant kv:read,kv:write counter.wasm
//! ```
//!
//! Run it again and the number grows, although every run begins with empty memory. Without `--kv` the storage itself
//! lasts no longer than the run. An increment both reads and changes a value, so it needs both grants; run it without
//! them to see what a denial looks like from inside.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use bindings::wasi::keyvalue::{
    atomics,
    store::{self, Error},
};

mod bindings {
    wit_bindgen::generate!({ path: "../wit", world: "keyvalue", generate_all });
}

/// The bucket that every instance has under this name, for itself alone.
const BUCKET: &str = "default";

fn count() -> Result<i64, Error> {
    let bucket = store::open(BUCKET)?;
    atomics::increment(&bucket, "visits", 1)
}

fn main() -> ExitCode {
    match count() {
        Ok(visits) => {
            println!("visits: {visits}");
            ExitCode::SUCCESS
        }
        Err(Error::AccessDenied) => {
            eprintln!("counter: not allowed to count; start me with --grant kv:read,kv:write");
            ExitCode::FAILURE
        }
        Err(Error::NoSuchStore) => {
            eprintln!("counter: there is no bucket `{BUCKET}`");
            ExitCode::FAILURE
        }
        Err(Error::Other(problem)) => {
            eprintln!("counter: {problem}");
            ExitCode::FAILURE
        }
    }
}
