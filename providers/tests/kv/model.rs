//! Any sequence of calls, on every backend, is answered as a plain map would answer it.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::{collection, option, prelude::*, sample::select};
use wasmatrix_executor_api::{CapabilityErrorKind, KvCall, KvReply, Page, Swapped, Version, Versioned};
use wasmatrix_model::Key;
use wasmatrix_providers::{KvLimits, KvProvider, Provider};

use crate::guest::{Guest, InFile, key};

/// So narrow that a sequence of a few dozen calls meets every limit.
fn limits() -> KvLimits {
    KvLimits {
        value_bytes_max: 40,
        namespace_bytes_max: 500,
        store_bytes_max: 800,
        page_keys_max: 2,
        batch_entries_max: 3,
        batch_bytes_max: 70,
    }
}

/// A call before it is known which versions there are: a swap expects one of those seen so far, by its index.
#[derive(Clone, Debug)]
struct Step {
    owner: &'static str,
    bucket: &'static str,
    action: Action,
}

#[derive(Clone, Debug)]
enum Action {
    Get(Key),
    Set(Key, Bytes),
    Delete(Key),
    Exists(Key),
    List(Option<Key>),
    Increment(Key, i64),
    Current(Key),
    Swap { key: Key, expected: Option<usize>, value: Bytes },
    GetMany(Vec<Key>),
    SetMany(Vec<(Key, Bytes)>),
    DeleteMany(Vec<Key>),
}

fn keys() -> impl Strategy<Value = Key> {
    select(vec!["a", "b", "c", "d", "é", "a/1"]).prop_map(key)
}

fn values() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        3 => (-50_i64..50).prop_map(|number| number.to_string().into()),
        1 => select(vec![i64::MAX, i64::MIN]).prop_map(|number| number.to_string().into()),
        3 => collection::vec(any::<u8>(), 0..44).prop_map(Bytes::from),
    ]
}

fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![
        2 => keys().prop_map(Action::Get),
        4 => (keys(), values()).prop_map(|(key, value)| Action::Set(key, value)),
        2 => keys().prop_map(Action::Delete),
        1 => keys().prop_map(Action::Exists),
        2 => option::of(keys()).prop_map(Action::List),
        3 => (keys(), prop_oneof![-9_i64..9, Just(i64::MAX)]).prop_map(|(key, delta)| Action::Increment(key, delta)),
        3 => keys().prop_map(Action::Current),
        3 => (keys(), option::of(0_usize..9), values())
            .prop_map(|(key, expected, value)| Action::Swap { key, expected, value }),
        2 => collection::vec(keys(), 0..5).prop_map(Action::GetMany),
        3 => collection::vec((keys(), values()), 0..5).prop_map(Action::SetMany),
        1 => collection::vec(keys(), 0..5).prop_map(Action::DeleteMany),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (select(vec!["one", "two"]), select(vec!["p", "q", "@s"]), actions())
        .prop_map(|(owner, bucket, action)| Step { owner, bucket, action });
    collection::vec(step, 1..40)
}

/// A value and which write of the model's made it.
#[derive(Clone, Debug)]
struct Entry {
    value: Bytes,
    write: u64,
}

type Place = (&'static str, &'static str, Key);

/// What a map would answer. It knows nothing of versions but that each belongs to one write.
#[derive(Default)]
struct Model {
    entries: BTreeMap<Place, Entry>,
    writes: u64,
    /// Versions in the order in which they were seen first, and the writes that they stand for.
    seen: Vec<(Version, u64)>,
}

type Answer = Result<KvReply, CapabilityErrorKind>;
const EXHAUSTED: Answer = Err(CapabilityErrorKind::Exhausted);

impl Model {
    fn place(step: &Step, key: &Key) -> Place {
        let space = if step.bucket.starts_with('@') { step.bucket } else { step.owner };
        (space, step.bucket, key.clone())
    }

    fn value(&self, step: &Step, key: &Key) -> Option<Bytes> {
        self.entries.get(&Self::place(step, key)).map(|entry| entry.value.clone())
    }

    fn bytes(entries: &BTreeMap<Place, Entry>, space: Option<&str>) -> u64 {
        let within = entries.iter().filter(|((owner, _, _), _)| space.is_none_or(|space| *owner == space));
        within
            .map(|((_, bucket, key), entry)| {
                (64 + bucket.len() + key.as_str().len() + entry.value.len()) as u64
            })
            .sum()
    }

    /// Puts all or nothing.
    fn put(&mut self, step: &Step, entries: &[(Key, Bytes)], done: KvReply) -> Answer {
        let limits = limits();
        let mut after = self.entries.clone();
        for (key, value) in entries {
            self.writes += 1;
            after.insert(Self::place(step, key), Entry { value: value.clone(), write: self.writes });
        }
        let space = if step.bucket.starts_with('@') { step.bucket } else { step.owner };
        let full = |space, bytes_max| {
            let bytes = Self::bytes(&after, space);
            bytes > bytes_max && bytes > Self::bytes(&self.entries, space)
        };
        if full(Some(space), limits.namespace_bytes_max) || full(None, limits.store_bytes_max) {
            return EXHAUSTED;
        }
        self.entries = after;
        Ok(done)
    }

    /// The answer that a map would give, for everything but [`Action::Current`], whose version it can't know.
    fn answer(&mut self, step: &Step) -> Answer {
        let limits = limits();
        match &step.action {
            Action::Get(key) => Ok(KvReply::Value(self.value(step, key))),
            Action::Exists(key) => Ok(KvReply::Exists(self.value(step, key).is_some())),
            Action::Set(_, value) | Action::Swap { value, .. } if value.len() > limits.value_bytes_max => {
                EXHAUSTED
            }
            Action::Set(key, value) => self.put(step, &[(key.clone(), value.clone())], KvReply::Done),
            Action::Delete(key) => {
                self.entries.remove(&Self::place(step, key));
                Ok(KvReply::Done)
            }
            Action::List(after) => {
                let first = Self::place(step, &key("a"));
                let mut keys: Vec<Key> = self
                    .entries
                    .keys()
                    .filter(|(space, bucket, _)| (*space, *bucket) == (first.0, first.1))
                    .map(|(_, _, key)| key.clone())
                    .filter(|key| after.as_ref().is_none_or(|after| key > after))
                    .collect();
                let more = keys.len() > limits.page_keys_max;
                keys.truncate(limits.page_keys_max);
                Ok(KvReply::Keys(Page { keys, more }))
            }
            Action::Increment(key, delta) => {
                let value = self.value(step, key).unwrap_or_else(|| "0".into());
                let number = std::str::from_utf8(&value).ok().and_then(|text| text.parse::<i64>().ok());
                let number = number.filter(|number| number.to_string().as_bytes() == value);
                match number.and_then(|number| number.checked_add(*delta)) {
                    Some(sum) => {
                        self.put(step, &[(key.clone(), sum.to_string().into())], KvReply::Number(sum))
                    }
                    None => Err(CapabilityErrorKind::Invalid),
                }
            }
            Action::Swap { key, expected, value } => {
                let expected = self.expected(*expected).map(|(_, write)| write);
                if self.entries.get(&Self::place(step, key)).map(|entry| entry.write) != expected {
                    return Ok(KvReply::Swapped(Swapped::Stale));
                }
                self.put(step, &[(key.clone(), value.clone())], KvReply::Swapped(Swapped::Done))
            }
            Action::GetMany(keys) => {
                let values: Vec<Option<Bytes>> = keys.iter().map(|key| self.value(step, key)).collect();
                let bytes: usize = values.iter().flatten().map(Bytes::len).sum();
                if keys.len() > limits.batch_entries_max || bytes > limits.batch_bytes_max {
                    return EXHAUSTED;
                }
                Ok(KvReply::Values(values))
            }
            Action::SetMany(entries) => {
                let bytes: usize = entries.iter().map(|(_, value)| value.len()).sum();
                let large = entries.iter().any(|(_, value)| value.len() > limits.value_bytes_max);
                if entries.len() > limits.batch_entries_max || bytes > limits.batch_bytes_max || large {
                    return EXHAUSTED;
                }
                self.put(step, entries, KvReply::Done)
            }
            Action::DeleteMany(keys) if keys.len() > limits.batch_entries_max => EXHAUSTED,
            Action::DeleteMany(keys) => {
                for key in keys {
                    self.entries.remove(&Self::place(step, key));
                }
                Ok(KvReply::Done)
            }
            Action::Current(_) => unreachable!("asked of `check_current`"),
        }
    }

    fn expected(&self, index: Option<usize>) -> Option<(Version, u64)> {
        // An index beyond what was seen stands for a version that never was.
        index.map(|index| self.seen.get(index).copied().unwrap_or((Version(u64::MAX), u64::MAX)))
    }

    /// The value must be right, and the version must stand for this write and no other.
    fn check_current(
        &mut self,
        step: &Step,
        key: &Key,
        found: Option<Versioned>,
    ) -> Result<(), TestCaseError> {
        let entry = self.entries.get(&Self::place(step, key));
        prop_assert_eq!(found.as_ref().map(|found| &found.value), entry.map(|entry| &entry.value));
        if let (Some(found), Some(entry)) = (found, entry) {
            for (version, write) in &self.seen {
                prop_assert_eq!(*version == found.version, *write == entry.write, "a version of two writes");
            }
            if !self.seen.iter().any(|(version, _)| *version == found.version) {
                self.seen.push((found.version, entry.write));
            }
        }
        Ok(())
    }
}

fn call(step: &Step, model: &Model) -> KvCall {
    let bucket = step.bucket.parse().unwrap();
    match step.action.clone() {
        Action::Get(key) => KvCall::Get { bucket, key },
        Action::Set(key, value) => KvCall::Set { bucket, key, value },
        Action::Delete(key) => KvCall::Delete { bucket, key },
        Action::Exists(key) => KvCall::Exists { bucket, key },
        Action::List(after) => KvCall::List { bucket, after },
        Action::Increment(key, delta) => KvCall::Increment { bucket, key, delta },
        Action::Current(key) => KvCall::Current { bucket, key },
        Action::Swap { key, expected, value } => {
            let expected = model.expected(expected).map(|(version, _)| version);
            KvCall::Swap { bucket, key, expected, value }
        }
        Action::GetMany(keys) => KvCall::GetMany { bucket, keys },
        Action::SetMany(entries) => KvCall::SetMany { bucket, entries },
        Action::DeleteMany(keys) => KvCall::DeleteMany { bucket, keys },
    }
}

async fn agrees_with_the_model(
    provider: &dyn Provider,
    steps: &[Step],
    model: &mut Model,
) -> Result<(), TestCaseError> {
    for step in steps {
        let guest = Guest::new(provider, step.owner, step.bucket);
        let answer = guest.try_call(call(step, model)).await.map_err(|error| error.kind);
        if let Action::Current(key) = &step.action {
            let Ok(KvReply::Versioned(found)) = answer else { panic!("the wrong kind of reply: {answer:?}") };
            model.check_current(step, key, found)?;
        } else {
            prop_assert_eq!(answer, model.answer(step), "{:?}", step);
        }
    }
    Ok(())
}

fn run<F: Future<Output = Result<(), TestCaseError>>>(case: F) -> Result<(), TestCaseError> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(case)
}

proptest! {
    #[test]
    fn property_10_memory_answers_as_a_map_would(steps in steps()) {
        run(agrees_with_the_model(&KvProvider::memory(limits()), &steps, &mut Model::default()))?;
    }

    /// With the file closed and opened again in between.
    #[test]
    fn property_10_a_file_answers_as_a_map_would(before in steps(), after in steps()) {
        run(async {
            let mut model = Model::default();
            let store = InFile::new(limits());
            agrees_with_the_model(&store.provider, &before, &mut model).await?;
            let store = store.reopened(limits()).await;
            agrees_with_the_model(&store.provider, &after, &mut model).await?;
            store.provider.shutdown().await;
            Ok(())
        })?;
    }
}
