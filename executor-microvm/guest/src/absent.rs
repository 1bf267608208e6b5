//! Files and networks: a component may import them and finds none, with the same answers as in process.
//!
//! There is no directory to begin with and no socket is given out, so of all these functions only those that need
//! no handle can ever be called. The others are linked, because a component is linked whole, and end it.

use alloc::{boxed::Box, format, string::String, vec::Vec};

use wasmtime::component::{
    Component, Linker, LinkerInstance, Resource, ResourceType, Val,
    types::{ComponentInstance, ComponentItem},
};

use crate::state::State;

/// What a handle on a network, a file or a socket stands for.
struct Nothing;

/// Links what the component imports of them, under the very versions that it names.
pub(crate) fn add_to_linker(linker: &mut Linker<State>, component: &Component) -> wasmtime::Result<()> {
    let ty = component.component_type();
    for (name, import) in ty.imports(component.engine()) {
        let ComponentItem::ComponentInstance(interface) = import.ty else { continue };
        if name.starts_with("wasi:filesystem/") || name.starts_with("wasi:sockets/") {
            link(&mut linker.instance(name)?, component, &interface)?;
        }
    }
    Ok(())
}

fn link(
    linker: &mut LinkerInstance<'_, State>,
    component: &Component,
    interface: &ComponentInstance,
) -> wasmtime::Result<()> {
    for (name, export) in interface.exports(component.engine()) {
        match export.ty {
            // These two are the real ones, and not of these interfaces.
            ComponentItem::Resource(_)
                if matches!(name, "input-stream" | "output-stream" | "pollable" | "error") => {}
            ComponentItem::Resource(_) => {
                linker.resource(name, ResourceType::host::<Nothing>(), |_, _| Ok(()))?;
            }
            ComponentItem::ComponentFunc(_) => function(linker, name)?,
            ComponentItem::CoreFunc(_)
            | ComponentItem::Module(_)
            | ComponentItem::Component(_)
            | ComponentItem::ComponentInstance(_)
            | ComponentItem::Type(_) => {}
        }
    }
    Ok(())
}

fn function(linker: &mut LinkerInstance<'_, State>, name: &str) -> wasmtime::Result<()> {
    match name {
        "get-directories" => linker.func_wrap(name, |_, ()| Ok((Vec::<(Resource<Nothing>, String)>::new(),))),
        "instance-network" => linker.func_wrap(name, |_, ()| Ok((Resource::<Nothing>::new_own(0),))),
        "filesystem-error-code" | "network-error-code" => answer(linker, name, Val::Option(None)),
        "create-tcp-socket" | "create-udp-socket" => answer(linker, name, error("access-denied")),
        "resolve-addresses" => answer(linker, name, error("permanent-resolver-failure")),
        other => {
            let message = format!("{other} was called, and there are no files and no network");
            linker.func_new(name, move |_, _, _, _| Err(wasmtime::Error::msg(message.clone())))
        }
    }
}

/// Links a function that always answers the same, and gives back what it was lent.
fn answer(linker: &mut LinkerInstance<'_, State>, name: &str, answer: Val) -> wasmtime::Result<()> {
    linker.func_new(name, move |mut store, _, arguments, results| {
        for argument in arguments {
            if let Val::Resource(handle) = argument {
                handle.resource_drop(&mut store)?;
            }
        }
        if let Some(result) = results.first_mut() {
            *result = answer.clone();
        }
        Ok(())
    })
}

fn error(code: &str) -> Val {
    Val::Result(Err(Some(Box::new(Val::Enum(code.into())))))
}
