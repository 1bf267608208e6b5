//! Fails three times, then succeeds: what a restart policy is for.
//!
//! ```text
//! wasmatrix start flaky.wasm --name flaky --grant kv:read,kv:write --restart on-failure
//! wasmatrix events --watch
//! ```
//!
//! A restart begins with empty memory, so the number of attempts is kept in key-value storage. After a success it
//! starts from nothing again, ready for the next show.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use bindings::wasi::keyvalue::{
    atomics,
    store::{self, Error},
};

mod bindings {
    wit_bindgen::generate!({ path: "../wit", world: "keyvalue", generate_all });
}

const FAILURES: i64 = 3;
const KEY: &str = "attempts";

/// The number of this attempt, from 1, and whether it is the one that succeeds.
fn attempt() -> Result<(i64, bool), Error> {
    let bucket = store::open("default")?;
    let attempt = atomics::increment(&bucket, KEY, 1)?;
    let succeeds = attempt > FAILURES;
    if succeeds {
        atomics::increment(&bucket, KEY, -attempt)?;
    }
    Ok((attempt, succeeds))
}

fn main() -> ExitCode {
    match attempt() {
        Ok((attempt, true)) => {
            println!("attempt {attempt}: done");
            ExitCode::SUCCESS
        }
        Ok((attempt, false)) => {
            eprintln!("attempt {attempt}: failed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("flaky: can't count attempts: {error}; start me with --grant kv:read,kv:write");
            ExitCode::FAILURE
        }
    }
}
