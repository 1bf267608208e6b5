//! Does one thing many times over, between two lines of output: what the benchmarks take the time of.
//!
//! ```text
//! wasmatrix run bench.wasm primes 20000000                # primes below that number, by a sieve
//! wasmatrix run bench.wasm hash 100000000                 # a hash over that many bytes
//! wasmatrix run --grant kv:read bench.wasm get 10000      # that many capability calls
//! ```
//!
//! `begun` is printed before, the result after; whoever listens can tell the work from the launch.

#![forbid(unsafe_code)]

use std::{hint::black_box, process::ExitCode};

use bindings::wasi::keyvalue::store::{self, Error};

mod bindings {
    wit_bindgen::generate!({ path: "../wit", world: "keyvalue", generate_all });
}

/// The sieve of Eratosthenes: memory, in strides.
fn primes(below: usize) -> u64 {
    let mut composite = vec![false; below];
    let mut count = 0;
    for number in 2..below {
        if composite[number] {
            continue;
        }
        count += 1;
        for multiple in (number * number..below).step_by(number) {
            composite[multiple] = true;
        }
    }
    count
}

/// FNV-1a over a kilobyte again and again: arithmetic, one step after the other.
fn hash(bytes: usize) -> u64 {
    let block: [u8; 1024] = std::array::from_fn(|index| index as u8);
    let blocks = (0..bytes / block.len()).flat_map(|_| black_box(&block));
    blocks.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Asks for a key that is not there; how often there was an answer.
fn get(times: usize) -> Result<u64, Error> {
    let bucket = store::open("default")?;
    for _ in 0..times {
        black_box(bucket.get("key")?);
    }
    Ok(times as u64)
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let work = args.next().unwrap_or_default();
    let Some(Ok(count)) = args.next().map(|count| count.parse::<usize>()) else {
        eprintln!("bench: say `primes`, `hash` or `get`, and how many");
        return ExitCode::FAILURE;
    };
    println!("begun");
    let result = match work.as_str() {
        "primes" => Ok(primes(count)),
        "hash" => Ok(hash(count)),
        "get" => get(count).map_err(|problem| format!("{problem:?}")),
        other => Err(format!("`{other}` is no work: say `primes`, `hash` or `get`")),
    };
    match result {
        Ok(result) => {
            println!("{result}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("bench: {problem}");
            ExitCode::FAILURE
        }
    }
}
