//! The probe of wasi:keyvalue 0.2.0-draft, the draft before the one that [`probe`](../../probe/src/main.rs) uses. In
//! it a cursor is a number, an increment is unsigned, and there is no swap.
//!
//! ```text
//! wasmatrix run --grant kv:read,kv:write probe-draft1.wasm "set default colour blue" "get default colour"
//! ```
//!
//! Each argument is a step of words, each outcome a line: `get`, `set`, `delete`, `exists`, `list`, `incr`,
//! `get-many`, `set-many` (`KEY=VALUE`…), `delete-many`, each followed by a bucket and what it works on.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use bindings::wasi::keyvalue::{
    atomics, batch,
    store::{self, Bucket, Error},
};

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "probe-draft1", generate_all });
}

fn take(step: &str) -> Result<String, Error> {
    let words: Vec<&str> = step.split(' ').collect();
    let [operation, bucket, rest @ ..] = words.as_slice() else {
        return Err(Error::Other(format!("`{step}` names no bucket")));
    };
    let bucket = store::open(bucket)?;
    let keys = || rest.iter().map(ToString::to_string).collect::<Vec<_>>();
    Ok(match (*operation, rest) {
        ("get", [key]) => {
            bucket.get(key)?.map_or_else(|| "none".to_owned(), |value| format!("some {}", show(&value)))
        }
        ("set", [key, value]) => done(bucket.set(key, value.as_bytes())?),
        ("delete", [key]) => done(bucket.delete(key)?),
        ("exists", [key]) => bucket.exists(key)?.to_string(),
        ("list", []) => list(&bucket)?,
        ("incr", [key]) => atomics::increment(&bucket, key, 1)?.to_string(),
        ("incr", [key, delta]) => {
            let delta = delta.parse().map_err(|_| Error::Other(format!("`{delta}` is no delta")))?;
            atomics::increment(&bucket, key, delta)?.to_string()
        }
        ("get-many", [_, ..]) => {
            let values = batch::get_many(&bucket, &keys())?.into_iter();
            let each = values.map(|value| {
                value.map_or_else(|| "none".to_owned(), |(key, value)| format!("{key}={}", show(&value)))
            });
            each.collect::<Vec<_>>().join(" ")
        }
        ("set-many", [_, ..]) => {
            let entries = rest.iter().filter_map(|entry| entry.split_once('='));
            let entries: Vec<_> =
                entries.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).collect();
            done(batch::set_many(&bucket, &entries)?)
        }
        ("delete-many", [_, ..]) => done(batch::delete_many(&bucket, &keys())?),
        _ => return Err(Error::Other(format!("`{step}` is no step"))),
    })
}

fn done((): ()) -> String {
    "ok".to_owned()
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn list(bucket: &Bucket) -> Result<String, Error> {
    let mut line = "keys".to_owned();
    let mut cursor = None;
    loop {
        let page = bucket.list_keys(cursor)?;
        line = page.keys.iter().fold(line, |line, key| format!("{line} {key}"));
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(line);
        }
    }
}

fn main() -> ExitCode {
    for step in std::env::args().skip(1) {
        match take(&step) {
            Ok(outcome) => println!("{outcome}"),
            Err(Error::AccessDenied) => println!("denied"),
            Err(Error::NoSuchStore) => println!("error: no such store"),
            Err(Error::Other(problem)) => println!("error: {problem}"),
        }
    }
    ExitCode::SUCCESS
}
