//! A core module's imports and exports, by name: whether it is a WASI preview-1 command.

use std::{collections::BTreeSet, sync::LazyLock};

use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER;
use wasmparser::{ExternalKind, Parser, Payload, TypeRef};

use crate::{Refusal, corrupt, counted, list};

/// The module that preview-1 functions are imported from.
pub(crate) const PREVIEW_1: &str = "wasi_snapshot_preview1";

/// Names of the functions that the adapter gives a module.
static PREVIEW_1_FUNCTIONS: LazyLock<BTreeSet<&str>> = LazyLock::new(|| {
    let names = Names::read(WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER).unwrap_or_default();
    names.exports.into_iter().map(|(name, _)| name).collect()
});

#[derive(Default)]
struct Names<'a> {
    imports: Vec<(&'a str, &'a str, TypeRef)>,
    exports: Vec<(&'a str, ExternalKind)>,
    /// Whether it has a memory of its own, exported or not.
    has_memory: bool,
    /// Whether it says in a custom section which interfaces of the component model it uses.
    has_world: bool,
}

impl<'a> Names<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let mut names = Self::default();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(|error| corrupt(&error))? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import.map_err(|error| corrupt(&error))?;
                        names.imports.push((import.module, import.name, import.ty));
                        counted(names.imports.len())?;
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export.map_err(|error| corrupt(&error))?;
                        names.exports.push((export.name, export.kind));
                        counted(names.exports.len())?;
                    }
                }
                Payload::MemorySection(section) => names.has_memory = section.count() > 0,
                Payload::CustomSection(section) if section.name().starts_with("component-type") => {
                    names.has_world = true;
                }
                _ => {}
            }
        }
        Ok(names)
    }

    fn exports(&self, name: &str, kind: ExternalKind) -> bool {
        self.exports.contains(&(name, kind))
    }
}

/// Accepts a command of WASI preview 1.
pub(crate) fn check(bytes: &[u8]) -> Result<(), Refusal> {
    let names = Names::read(bytes)?;
    let missing = names.imports.iter().filter(|(module, name, ty)| !is_offered(&names, module, name, *ty));
    let missing: Vec<String> = missing.map(|(module, name, ty)| describe(module, name, *ty)).collect();
    if !missing.is_empty() {
        return Err(Refusal::unsupported(format!(
            "the module imports what is not offered: {}; build it for wasm32-wasip1 or wasm32-wasip2",
            list(missing)
        )));
    }
    if !names.exports("_start", ExternalKind::Func) {
        return Err(Refusal::unsupported(no_start(&names)));
    }
    if names.has_memory && !names.exports("memory", ExternalKind::Memory) {
        return Err(Refusal::unsupported(
            "the module does not export its memory, and WASI works through it; export it as `memory`",
        ));
    }
    Ok(())
}

/// Of a module that brings its own world, only what can't be part of one is refused here; the adapter looks at the
/// rest.
fn is_offered(names: &Names<'_>, module: &str, name: &str, ty: TypeRef) -> bool {
    match module {
        PREVIEW_1 => matches!(ty, TypeRef::Func(_)) && PREVIEW_1_FUNCTIONS.contains(name),
        _ => names.has_world && module != "env" && !module.starts_with("wasi_"),
    }
}

fn describe(module: &str, name: &str, ty: TypeRef) -> String {
    let hint = match (module, ty) {
        ("wasi_unstable", _) => " (WASI preview 0; rebuild with present-day tools)",
        ("wasi", _) if name == "thread-spawn" => " (threads are not offered)",
        (_, TypeRef::Memory(memory)) if memory.shared => " (threads are not offered)",
        (PREVIEW_1, _) => " (no function of WASI preview 1)",
        ("env", TypeRef::Func(_)) => " (a symbol that was not linked)",
        ("wasi_nn" | "wasi_ephemeral_nn", _) => " (no device is offered to guests)",
        ("go" | "gojs", _) => " (Go for the browser; build with TinyGo for wasip2)",
        _ if module.starts_with("__wbindgen") || module == "wbg" => {
            " (Rust for the browser; build for wasm32-wasip2)"
        }
        _ => "",
    };
    format!("{module}::{name}{hint}")
}

fn no_start(names: &Names<'_>) -> String {
    if names.exports("_initialize", ExternalKind::Func) {
        return "the module is a library (a WASI reactor): it exports _initialize and no _start; build it as a program \
                with a main function"
            .into();
    }
    let functions = names.exports.iter().filter(|(_, kind)| *kind == ExternalKind::Func);
    let functions = list(functions.map(|(name, _)| *name));
    let exported = if functions.is_empty() { "no function".into() } else { functions };
    format!(
        "the module is no program: it does not export _start, but {exported}; build it with a main function, for \
         wasm32-wasip1 or wasm32-wasip2"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<(), Refusal> {
        check(&wat::parse_str(text).unwrap())
    }

    #[test]
    fn the_adapter_names_what_it_gives() {
        for name in ["fd_write", "proc_exit", "random_get", "path_open", "sock_shutdown", "poll_oneoff"] {
            assert!(PREVIEW_1_FUNCTIONS.contains(name), "{name}");
        }
    }

    #[test]
    fn a_command_is_accepted() {
        assert_eq!(of(r#"(module (func (export "_start")))"#), Ok(()));
        let text = r#"(module (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
            (memory (export "memory") 1) (func (export "_start")))"#;
        assert_eq!(of(text), Ok(()));
    }

    #[test]
    fn all_that_is_missing_is_named() {
        let message = of(r#"(module
            (import "wasi_unstable" "fd_write" (func))
            (import "wasi_snapshot_preview1" "fd_frobnicate" (func))
            (import "env" "emscripten_notify" (func))
            (import "env" "memory" (memory 1 1 shared))
            (func (export "_start")))"#)
        .unwrap_err()
        .message;
        for words in [
            "wasi_unstable::fd_write (WASI preview 0",
            "wasi_snapshot_preview1::fd_frobnicate (no function",
            "env::emscripten_notify (a symbol",
            "env::memory (threads",
        ] {
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn names_are_counted_and_what_is_told_of_them_is_short() {
        let module = |count: u32, name: &str| {
            let (mut types, mut imports) =
                (wasm_encoder::TypeSection::new(), wasm_encoder::ImportSection::new());
            types.ty().function([], []);
            for number in 0..count {
                imports.import("env", &format!("{number}{name}"), wasm_encoder::EntityType::Function(0));
            }
            let mut module = wasm_encoder::Module::new();
            module.section(&types).section(&imports);
            check(&module.finish()).unwrap_err().message
        };
        assert!(module(100_001, "").contains("more than 100000 imports or exports"));
        let long = module(100_000, "");
        assert!(long.contains("and 99900 more") && long.len() < 16 << 10, "{}", long.len());
        let long = module(150, &"ä".repeat(30_000));
        assert!(long.contains("ä…, env::") && long.len() < 32 << 10, "{}", long.len());
    }

    #[test]
    fn what_is_no_program_is_told_what_it_is() {
        let message = |text| of(text).unwrap_err().message;
        assert!(message(r#"(module (func (export "_initialize")))"#).contains("WASI reactor"));
        assert!(message(r#"(module (func (export "add")))"#).contains("but add;"));
        assert!(message("(module)").contains("but no function"));
        let hidden = r#"(module (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
            (memory 1) (func (export "_start")))"#;
        assert!(message(hidden).contains("does not export its memory"));
    }
}
