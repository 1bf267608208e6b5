//! `batch` of both drafts of wasi:keyvalue.
//!
//! `get-many` was published in two shapes under the same names and versions, so the shape is read off the component
//! that imports it.

use alloc::{format, string::String, vec::Vec};

use wasmatrix_microvm_abi::{
    KvAnswer,
    kv::{BATCH_ENTRIES_MAX, Operation},
};
use wasmtime::{
    Engine, StoreContextMut,
    component::{Component, Linker, LinkerInstance, Resource, Type, types::ComponentItem},
};

use super::{Bucket, Failure, bound, call, done, draft::bindings::wasi::keyvalue::store::Error};
use crate::state::State;

/// What `get-many` answers with, besides an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// `list<option<tuple<string, list<u8>>>>`.
    OptionOfPair,
    /// `list<tuple<string, option<list<u8>>>>`.
    PairWithOption,
}

type Answer<T> = wasmtime::Result<(Result<T, Error>,)>;
type OptionsOfPair = Vec<Option<(String, Vec<u8>)>>;
type PairsWithOption = Vec<(String, Option<Vec<u8>>)>;
type Store<'a> = StoreContextMut<'a, State>;

/// Links one of the batch interfaces, if the component imports it.
pub(super) fn add_to_linker(
    linker: &mut Linker<State>,
    component: &Component,
    name: &str,
) -> wasmtime::Result<()> {
    let ty = component.component_type();
    let Some(import) = ty.get_import(component.engine(), name) else { return Ok(()) };
    let mut interface = linker.instance(name)?;
    add_get_many(&mut interface, shape(component.engine(), &import.ty))?;
    interface.func_wrap(
        "set-many",
        |store: Store<'_>, (bucket, entries): (Resource<Bucket>, Vec<(String, Vec<u8>)>)| {
            answer(store.data().set_many(&bucket, &entries))
        },
    )?;
    interface.func_wrap("delete-many", |store: Store<'_>, (bucket, keys): (Resource<Bucket>, Vec<String>)| {
        answer(store.data().delete_many(&bucket, &keys))
    })
}

/// The shape that the import has; if it is neither, linking will say so.
fn shape(engine: &Engine, import: &ComponentItem) -> Shape {
    let pairs = || {
        let ComponentItem::ComponentInstance(interface) = import else { return None };
        let ComponentItem::ComponentFunc(get_many) = interface.get_export(engine, "get-many")?.ty else {
            return None;
        };
        let Type::Result(result) = get_many.results().next()? else { return None };
        let Type::List(list) = result.ok()? else { return None };
        matches!(list.ty(), Type::Tuple(_)).then_some(Shape::PairWithOption)
    };
    pairs().unwrap_or(Shape::OptionOfPair)
}

fn add_get_many(interface: &mut LinkerInstance<'_, State>, shape: Shape) -> wasmtime::Result<()> {
    match shape {
        Shape::OptionOfPair => interface.func_wrap(
            "get-many",
            |store: Store<'_>, (bucket, keys): (Resource<Bucket>, Vec<String>)| {
                let values = store.data().get_many(&bucket, &keys);
                let pair = |(key, value): (String, Option<Vec<u8>>)| value.map(|value| (key, value));
                answer::<OptionsOfPair>(values.map(|values| keys.into_iter().zip(values).map(pair).collect()))
            },
        ),
        Shape::PairWithOption => interface.func_wrap(
            "get-many",
            |store: Store<'_>, (bucket, keys): (Resource<Bucket>, Vec<String>)| {
                let values = store.data().get_many(&bucket, &keys);
                answer::<PairsWithOption>(values.map(|values| keys.into_iter().zip(values).collect()))
            },
        ),
    }
}

fn answer<T>(result: Result<T, Failure>) -> Answer<T> {
    Ok((match result {
        Ok(value) => Ok(value),
        Err(failure) => Err(failure.into_error()?),
    },))
}

impl State {
    fn get_many(&self, bucket: &Resource<Bucket>, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Failure> {
        let operation = Operation::GetMany { keys: bounded(keys)? };
        match call(self.bucket(bucket)?, operation) {
            KvAnswer::Values(values) if values.len() == keys.len() => Ok(values),
            other => Err(Failure::of(other)),
        }
    }

    fn set_many(&self, bucket: &Resource<Bucket>, entries: &[(String, Vec<u8>)]) -> Result<(), Failure> {
        bound_entries(entries.len())?;
        bound(entries.iter().map(|(key, value)| key.len() + value.len()).sum())?;
        let entries = entries.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
        done(call(self.bucket(bucket)?, Operation::SetMany { entries }))
    }

    fn delete_many(&self, bucket: &Resource<Bucket>, keys: &[String]) -> Result<(), Failure> {
        let operation = Operation::DeleteMany { keys: bounded(keys)? };
        done(call(self.bucket(bucket)?, operation))
    }
}

fn bounded(keys: &[String]) -> Result<Vec<&str>, Failure> {
    bound_entries(keys.len())?;
    bound(keys.iter().map(String::len).sum())?;
    Ok(keys.iter().map(String::as_str).collect())
}

fn bound_entries(count: usize) -> Result<(), Failure> {
    if count > BATCH_ENTRIES_MAX {
        return Err(Failure::invalid(&format!(
            "a batch has at most {BATCH_ENTRIES_MAX} entries, this one {count}"
        )));
    }
    Ok(())
}
