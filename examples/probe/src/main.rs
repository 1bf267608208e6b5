//! Does what its arguments say, one step each, and prints the outcome of each: the guest of the conformance suite.
//!
//! ```text
//! wasmatrix run --grant kv:read,kv:write probe.wasm "kv.set default colour blue" "kv.get default colour" "clock"
//! ```
//!
//! A step is words with spaces between them; the last value of a step takes the rest of it. A word that begins with
//! `0x` stands for the bytes that it spells, and output that is not plain text is spelled the same way. Every outcome
//! is one line on standard output: `ok`, a value, `none`, `denied`, or `error: …`.
//!
//! | module | steps |
//! |---|---|
//! | [`keyvalue`] | `kv.get BUCKET KEY` · `kv.set BUCKET KEY VALUE` · `kv.delete` · `kv.exists` · `kv.list BUCKET` (all pages) · `kv.page BUCKET [CURSOR]` · `kv.incr BUCKET KEY [DELTA]` · `kv.cas BUCKET KEY` then `kv.swap VALUE` · `kv.get-many BUCKET KEY…` · `kv.set-many BUCKET KEY VALUE KEY VALUE…` · `kv.delete-many BUCKET KEY…` · `kv.hold N BUCKET` (N handles, kept) |
//! | [`host`] | `args` · `env [NAME]` · `config KEY` · `config-all` · `log LEVEL MESSAGE` · `out TEXT` · `err TEXT` · `stdin` · `line` · `clock` · `random N` · `sleep MS` · `exit N` |
//! | [`outside`] | `file PATH` · `write PATH` · `dir` · `connect ADDRESS` · `listen ADDRESS` · `udp ADDRESS` · `resolve NAME` |
//! | [`memory`] | `static-set TEXT` · `static-get` · `alloc MIB` · `touch` · `spin` · `trap KIND` |
//! | here | `repeat N STEP` · `cycle N STEP; STEP…` (these in turn, N times) · `until OUTCOME STEP` (again and again until the outcome begins so) |

#![forbid(unsafe_code)]

mod host;
mod keyvalue;
mod memory;
mod outcome;
mod outside;
mod step;

mod bindings {
    wit_bindgen::generate!({ path: "../wit", world: "probe", generate_all });
}

use std::{io::Write, process::ExitCode, thread::sleep, time::Duration};

use keyvalue::KeyValue;
use memory::Memory;
use outcome::Outcome;
use step::Step;

/// Between two tries of `until`.
const PAUSE: Duration = Duration::from_millis(5);

/// What lasts from one step to the next, and no longer than this instance.
#[derive(Default)]
struct Probe {
    keyvalue: KeyValue,
    memory: Memory,
}

impl Probe {
    /// Takes one step and prints its outcome, or those of the steps that it stands for.
    fn run(&mut self, text: &str) {
        let mut step = Step::new(text);
        match step.name() {
            "repeat" => match step.number::<u64>("how many times") {
                Ok(times) => (0..times).for_each(|_| self.run(step.rest())),
                Err(problem) => report(&Err(problem)),
            },
            "cycle" => match step.number::<u64>("how many times") {
                Ok(times) => (0..times).for_each(|_| step.rest().split(';').for_each(|step| self.run(step))),
                Err(problem) => report(&Err(problem)),
            },
            "until" => match step.word("an outcome") {
                Ok(wanted) => report(&self.until(wanted, step.rest())),
                Err(problem) => report(&Err(problem)),
            },
            _ => report(&self.take(step)),
        }
    }

    fn until(&mut self, wanted: &str, text: &str) -> Outcome {
        loop {
            let outcome = self.take(Step::new(text));
            if outcome::line(&outcome).starts_with(wanted) {
                return outcome;
            }
            sleep(PAUSE);
        }
    }

    fn take(&mut self, step: Step<'_>) -> Outcome {
        let name = step.name();
        if let Some(operation) = name.strip_prefix("kv.") {
            return self.keyvalue.take(operation, step);
        }
        match name {
            "static-set" | "static-get" | "alloc" | "touch" | "spin" | "trap" => self.memory.take(step),
            "file" | "write" | "dir" | "connect" | "listen" | "udp" | "resolve" => outside::take(step),
            _ => host::take(step),
        }
    }
}

/// Prints an outcome, at once: what follows may be a crash. Standard output may be closed; that ends nothing.
fn report(outcome: &Outcome) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", outcome::line(outcome));
    let _ = out.flush();
}

fn main() -> ExitCode {
    let mut probe = Probe::default();
    for step in std::env::args().skip(1) {
        probe.run(&step);
    }
    ExitCode::SUCCESS
}
