//! Does one thing many times over, between two lines of output: what the benchmarks take the time of.
//!
//! ```text
//! wasmatrix run bench.wasm hash 100000000                 # a hash over that many bytes
//! wasmatrix run bench.wasm primes 100                     # primes below a million, that many times over
//! wasmatrix run bench.wasm touch 64                       # that many MiB written for the first time
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

/// Numbers that the sieve goes through.
const PRIMES_BELOW: usize = 1_000_000;
const WORKS: &str = "`hash`, `primes`, `touch` or `get`";

/// The sieve of Eratosthenes over the same memory again and again: how many primes it found, all times together.
fn primes(composite: &mut [bool], times: usize) -> u64 {
    let mut count = 0;
    for _ in 0..times {
        composite.fill(false);
        for number in 2..composite.len() {
            if composite[number] {
                continue;
            }
            count += 1;
            for multiple in (number * number..composite.len()).step_by(number) {
                composite[multiple] = true;
            }
        }
    }
    count
}

/// Writes to each page of that much memory that was never used before, in MiB; how many pages.
fn touch(mebibytes: usize) -> u64 {
    const PAGE: usize = 4096;
    let mut memory = vec![0_u8; mebibytes << 20];
    memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    black_box(&memory).iter().step_by(PAGE).map(|byte| u64::from(*byte)).sum()
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
        eprintln!("bench: say {WORKS}, and how many");
        return ExitCode::FAILURE;
    };
    // Written before the time begins: what memory costs at first is another measurement.
    let mut composite = vec![true; if work == "primes" { PRIMES_BELOW } else { 0 }];
    println!("begun");
    let result = match work.as_str() {
        "primes" => Ok(primes(&mut composite, count)),
        "hash" => Ok(hash(count)),
        "touch" => Ok(touch(count)),
        "get" => get(count).map_err(|problem| format!("{problem:?}")),
        other => Err(format!("`{other}` is no work: say {WORKS}")),
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
