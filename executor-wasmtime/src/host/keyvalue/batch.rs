//! `batch` of both drafts of wasi:keyvalue.
//!
//! `get-many` was published in two shapes under the same names and versions, so the shape is read off the component
//! that imports it.

use wasmatrix_executor_api::{KvCall, KvReply};
use wasmatrix_model::Key;
use wasmtime::{
    Engine, StoreContextMut,
    component::{Component, Linker, LinkerInstance, Resource, Type, types::ComponentItem},
};

use super::{Bucket, Failure, bound, draft::wasi::keyvalue::store::Error, key};
use crate::host::State;

/// Keys or entries in one call.
const ENTRIES_MAX: usize = 1000;

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

/// Links one of the batch interfaces, if the component imports it.
pub(super) fn add_to_linker(
    linker: &mut Linker<State>,
    component: &Component,
    name: &str,
) -> wasmtime::Result<()> {
    let ty = component.component_type();
    let Some(import) = ty.get_import(component.engine(), name) else { return Ok(()) };
    let mut interface = linker.instance(name)?;
    match shape(component.engine(), &import.ty) {
        Shape::OptionOfPair => add_get_many_options(&mut interface)?,
        Shape::PairWithOption => add_get_many_pairs(&mut interface)?,
    }
    add_writes(&mut interface)
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

fn add_get_many_options(interface: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    interface.func_wrap_async(
        "get-many",
        |store: StoreContextMut<'_, State>, (bucket, names): (Resource<Bucket>, Vec<String>)| {
            Box::new(async move {
                let values = get_many(store, &bucket, &names).await;
                let pair = |(name, value): (String, Option<Vec<u8>>)| value.map(|value| (name, value));
                answer::<OptionsOfPair>(
                    values.map(|values| names.into_iter().zip(values).map(pair).collect()),
                )
            })
        },
    )
}

fn add_get_many_pairs(interface: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    interface.func_wrap_async(
        "get-many",
        |store: StoreContextMut<'_, State>, (bucket, names): (Resource<Bucket>, Vec<String>)| {
            Box::new(async move {
                let values = get_many(store, &bucket, &names).await;
                answer::<PairsWithOption>(values.map(|values| names.into_iter().zip(values).collect()))
            })
        },
    )
}

fn add_writes(interface: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    interface.func_wrap_async(
        "set-many",
        |store: StoreContextMut<'_, State>, (bucket, entries): (Resource<Bucket>, Vec<(String, Vec<u8>)>)| {
            Box::new(async move { answer(set_many(store, &bucket, entries).await) })
        },
    )?;
    interface.func_wrap_async(
        "delete-many",
        |store: StoreContextMut<'_, State>, (bucket, names): (Resource<Bucket>, Vec<String>)| {
            Box::new(async move { answer(delete_many(store, &bucket, &names).await) })
        },
    )
}

fn answer<T>(result: Result<T, Failure>) -> Answer<T> {
    Ok((match result {
        Ok(value) => Ok(value),
        Err(failure) => Err(failure.into_error()?),
    },))
}

async fn get_many(
    mut store: StoreContextMut<'_, State>,
    bucket: &Resource<Bucket>,
    names: &[String],
) -> Result<Vec<Option<Vec<u8>>>, Failure> {
    let state = store.data_mut();
    let call = KvCall::GetMany { bucket: state.bucket(bucket)?, keys: keys(names)? };
    match state.kv(call).await? {
        KvReply::Values(values) if values.len() == names.len() => {
            bound(values.iter().flatten().map(|value| value.len()).sum())?;
            Ok(values.into_iter().map(|value| value.map(Vec::from)).collect())
        }
        other => Err(Failure::mismatch(&other)),
    }
}

async fn set_many(
    mut store: StoreContextMut<'_, State>,
    bucket: &Resource<Bucket>,
    entries: Vec<(String, Vec<u8>)>,
) -> Result<(), Failure> {
    bound_entries(entries.len())?;
    bound(entries.iter().map(|(name, value)| name.len() + value.len()).sum())?;
    let entries: Result<_, Failure> =
        entries.into_iter().map(|(name, value)| Ok((key(&name)?, value.into()))).collect();
    let state = store.data_mut();
    let call = KvCall::SetMany { bucket: state.bucket(bucket)?, entries: entries? };
    done(&state.kv(call).await?)
}

async fn delete_many(
    mut store: StoreContextMut<'_, State>,
    bucket: &Resource<Bucket>,
    names: &[String],
) -> Result<(), Failure> {
    let state = store.data_mut();
    let call = KvCall::DeleteMany { bucket: state.bucket(bucket)?, keys: keys(names)? };
    done(&state.kv(call).await?)
}

fn done(reply: &KvReply) -> Result<(), Failure> {
    match reply {
        KvReply::Done => Ok(()),
        other => Err(Failure::mismatch(other)),
    }
}

fn keys(names: &[String]) -> Result<Vec<Key>, Failure> {
    bound_entries(names.len())?;
    names.iter().map(|name| key(name)).collect()
}

fn bound_entries(count: usize) -> Result<(), Failure> {
    if count > ENTRIES_MAX {
        return Err(Failure::invalid(format!("a batch has at most {ENTRIES_MAX} entries, this one {count}")));
    }
    Ok(())
}
