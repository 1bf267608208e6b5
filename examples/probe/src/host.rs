//! Steps that every instance may take: arguments, environment, configuration, the log, the console, time, chance.

use std::{
    io::{Read, Write},
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    bindings::wasi::{
        config::store as config,
        logging::logging::{Level, log},
        random::random::get_random_bytes,
    },
    outcome::{Outcome, Problem, ok, show, spell},
    step::Step,
};

pub(crate) fn take(mut step: Step<'_>) -> Outcome {
    match step.name() {
        "args" => Ok(std::env::args()
            .skip(1)
            .map(|argument| show(argument.as_bytes()))
            .collect::<Vec<_>>()
            .join(" ")),
        "env" => environment(step),
        "config" => match config::get(&step.text("a key")?).map_err(configuration)? {
            None => Ok("none".to_owned()),
            Some(value) => Ok(format!("some {}", show(value.as_bytes()))),
        },
        "config-all" => Ok(pairs(config::get_all().map_err(configuration)?)),
        "log" => {
            let level = level(step.word("a level")?)?;
            log(level, "probe", step.rest());
            ok()
        }
        "out" => Ok(step.rest().to_owned()),
        "err" => {
            writeln!(std::io::stderr(), "{}", step.rest())?;
            ok()
        }
        "stdin" => {
            let mut all = Vec::new();
            std::io::stdin().read_to_end(&mut all)?;
            Ok(format!("read {}", show(&all)))
        }
        "line" => {
            let mut line = String::new();
            match std::io::stdin().read_line(&mut line)? {
                0 => Ok("end".to_owned()),
                _ => Ok(format!("line {}", line.trim_end_matches('\n'))),
            }
        }
        "clock" => clock(),
        "random" => Ok(spell(&get_random_bytes(step.number("how many bytes")?))),
        "sleep" => {
            sleep(Duration::from_millis(step.number("how many milliseconds")?));
            ok()
        }
        "exit" => std::process::exit(step.number("an exit code")?),
        other => Err(Problem::Other(format!("no step is called `{other}`"))),
    }
}

fn environment(mut step: Step<'_>) -> Outcome {
    if step.is_done() {
        return Ok(pairs(std::env::vars().collect()));
    }
    let name = step.text("a variable")?;
    Ok(std::env::var(name)
        .map_or_else(|_| "none".to_owned(), |value| format!("some {}", show(value.as_bytes()))))
}

/// In order of their names, because hosts differ in theirs.
fn pairs(mut pairs: Vec<(String, String)>) -> String {
    pairs.sort();
    let each = pairs.into_iter().map(|(name, value)| format!("{name}={}", show(value.as_bytes())));
    let all = each.collect::<Vec<_>>().join(" ");
    if all.is_empty() { "none".to_owned() } else { all }
}

fn configuration(error: config::Error) -> Problem {
    match error {
        config::Error::Upstream(problem) | config::Error::Io(problem) => Problem::Other(problem),
    }
}

fn level(word: &str) -> Result<Level, Problem> {
    Ok(match word {
        "trace" => Level::Trace,
        "debug" => Level::Debug,
        "info" => Level::Info,
        "warn" => Level::Warn,
        "error" => Level::Error,
        "critical" => Level::Critical,
        other => return Err(Problem::Other(format!("`{other}` is no level of the log"))),
    })
}

/// The time of day in milliseconds since 1970, and how long two readings of the steady clock lie apart.
fn clock() -> Outcome {
    let wall =
        SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| Problem::Other(error.to_string()))?;
    let steady = Instant::now().elapsed();
    Ok(format!("wall {} ms, steady +{} ns", wall.as_millis(), steady.as_nanos()))
}
