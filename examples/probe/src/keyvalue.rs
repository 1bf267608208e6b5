//! Steps that ask for key-value storage (wasi:keyvalue 0.2.0-draft2).

use crate::{
    bindings::wasi::keyvalue::{
        atomics::{self, Cas, CasError},
        batch,
        store::{self, Bucket},
    },
    outcome::{Outcome, Problem, ok, show},
    step::Step,
};

/// Handles that are kept between steps.
#[derive(Default)]
pub(crate) struct KeyValue {
    /// From `kv.cas`, for `kv.swap`.
    cas: Option<Cas>,
    /// From `kv.hold`.
    held: Vec<Bucket>,
}

impl KeyValue {
    pub(crate) fn take(&mut self, operation: &str, mut step: Step<'_>) -> Outcome {
        match operation {
            "swap" => return self.swap(&step.value()?),
            "hold" => return self.hold(step),
            _ => {}
        }
        let bucket = store::open(&step.text("a bucket")?)?;
        match operation {
            "get" => Ok(optional(bucket.get(&step.text("a key")?)?)),
            "set" => {
                bucket.set(&step.text("a key")?, &step.value()?)?;
                ok()
            }
            "delete" => {
                bucket.delete(&step.text("a key")?)?;
                ok()
            }
            "exists" => Ok(bucket.exists(&step.text("a key")?)?.to_string()),
            "list" => list(&bucket),
            "page" => page(&bucket, step),
            "incr" => increment(&bucket, step),
            "cas" => {
                let cas = Cas::new(&bucket, &step.text("a key")?)?;
                let current = cas.current()?;
                self.cas = Some(cas);
                Ok(optional(current))
            }
            "get-many" => get_many(&bucket, step),
            "set-many" => set_many(&bucket, step),
            "delete-many" => {
                batch::delete_many(&bucket, &step.texts("a key")?)?;
                ok()
            }
            _ => Err(Problem::Other(format!("no step is called `{}`", step.name()))),
        }
    }

    /// Swaps if nobody wrote since `kv.cas`. After `stale`, the next swap is against what is there now.
    fn swap(&mut self, value: &[u8]) -> Outcome {
        let Some(cas) = self.cas.take() else {
            return Err(Problem::Other("`kv.swap` needs a `kv.cas` before it".to_owned()));
        };
        match atomics::swap(cas, value) {
            Ok(()) => ok(),
            Err(CasError::CasFailed(fresh)) => {
                self.cas = Some(fresh);
                Ok("stale".to_owned())
            }
            Err(CasError::StoreError(error)) => Err(error.into()),
        }
    }

    fn hold(&mut self, mut step: Step<'_>) -> Outcome {
        let count: usize = step.number("how many handles")?;
        let bucket = step.text("a bucket")?;
        for _ in 0..count {
            self.held.push(store::open(&bucket)?);
        }
        Ok(format!("holding {}", self.held.len()))
    }
}

fn optional(value: Option<Vec<u8>>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| format!("some {}", show(&value)))
}

fn keys(keys: &[String]) -> String {
    keys.iter().fold("keys".to_owned(), |line, key| format!("{line} {}", show(key.as_bytes())))
}

fn list(bucket: &Bucket) -> Outcome {
    let mut all = Vec::new();
    let mut cursor = None;
    loop {
        let mut page = bucket.list_keys(cursor.as_deref())?;
        all.append(&mut page.keys);
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(keys(&all));
        }
    }
}

fn page(bucket: &Bucket, mut step: Step<'_>) -> Outcome {
    let cursor = if step.is_done() { None } else { Some(step.text("a cursor")?) };
    let page = bucket.list_keys(cursor.as_deref())?;
    let next =
        page.cursor.map_or_else(|| "end".to_owned(), |cursor| format!("next {}", show(cursor.as_bytes())));
    Ok(format!("{}; {next}", keys(&page.keys)))
}

fn increment(bucket: &Bucket, mut step: Step<'_>) -> Outcome {
    let key = step.text("a key")?;
    let delta = if step.is_done() { 1 } else { step.number("a whole number")? };
    Ok(atomics::increment(bucket, &key, delta)?.to_string())
}

fn get_many(bucket: &Bucket, mut step: Step<'_>) -> Outcome {
    let values = batch::get_many(bucket, &step.texts("a key")?)?;
    let each = values.into_iter().map(|value| match value {
        None => "none".to_owned(),
        Some((key, value)) => format!("{}={}", show(key.as_bytes()), show(&value)),
    });
    Ok(each.collect::<Vec<_>>().join(" "))
}

fn set_many(bucket: &Bucket, mut step: Step<'_>) -> Outcome {
    let mut entries = Vec::new();
    while !step.is_done() {
        entries.push((step.text("a key")?, step.bytes("a value")?));
    }
    batch::set_many(bucket, &entries)?;
    ok()
}
