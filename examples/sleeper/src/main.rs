//! Gets ready, then sleeps like a service with nothing to do: what an idle instance costs.
//!
//! ```text
//! wasmatrix start sleeper.wasm --name sleeper       # sleeps until it is stopped
//! wasmatrix run sleeper.wasm 5                      # sleeps for five seconds
//! ```

#![forbid(unsafe_code)]

use std::{process::ExitCode, thread::sleep, time::Duration};

/// How long one of many sleeps is, when there is no end.
const NAP: Duration = Duration::from_secs(3600);

fn main() -> ExitCode {
    let seconds = match std::env::args().nth(1).map(|text| text.parse::<u64>()) {
        None => None,
        Some(Ok(seconds)) => Some(seconds),
        Some(Err(problem)) => {
            eprintln!("sleeper: how many seconds to sleep? {problem}");
            return ExitCode::FAILURE;
        }
    };
    println!("ready");
    match seconds {
        Some(seconds) => sleep(Duration::from_secs(seconds)),
        None => loop {
            sleep(NAP);
        },
    }
    println!("done");
    ExitCode::SUCCESS
}
