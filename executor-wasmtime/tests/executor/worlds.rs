//! Guests that use more than WASI: modules that carry their world with them.

use wasmatrix_executor_api::Artifact;
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const DRAFT: &str = include_str!("../../wit/keyvalue-0.2.0-draft/keyvalue.wit");
const DRAFT_2: &str = include_str!("../../wit/keyvalue-0.2.0-draft2/keyvalue.wit");

pub(crate) const OPTION_OF_PAIR: &str = "list<option<tuple<string, list<u8>>>>";
pub(crate) const PAIR_WITH_OPTION: &str = "list<tuple<string, option<list<u8>>>>";

/// What every such guest begins with. `$expect` ends it with a code of 100 and more where something is not as it
/// should be; the first 64 bytes of memory are for the helpers, results go to 1024.
const PRELUDE: &str = r#"
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
"#;
const HELPERS: &str = r#"
    (memory (export "memory") 8)
    (global $heap (mut i32) (i32.const 8192))
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
        (global.set $heap (i32.add (local.get $at) (local.get 3)))
        (local.get $at))
    (func $print (param $ptr i32) (param $len i32)
        (i32.store (i32.const 0) (local.get $ptr))
        (i32.store (i32.const 4) (local.get $len))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
    ;; Result memory begins with 0 for ok.
    (func $expect_ok (param $code i32)
        (if (i32.load8_u (i32.const 1024)) (then (call $exit (local.get $code)))))
"#;

fn guest(packages: &[&str], world: &str, text: &str) -> Artifact {
    let mut resolve = Resolve::default();
    for package in packages {
        resolve.push_str("package.wit", package).unwrap();
    }
    let job = resolve.push_str("job.wit", &format!("package test:job; world job {{ {world} }}")).unwrap();
    let world = resolve.select_world(&[job], Some("job")).unwrap();
    let mut bytes = wat::parse_str(text).unwrap();
    embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8).unwrap();
    Artifact::new(bytes.into())
}

fn keyvalue(package: &str, version: &str, get_many: &str, imports: &str, body: &str) -> Artifact {
    let batch = format!(
        "interface batch {{
            use store.{{bucket, error}};
            get-many: func(bucket: borrow<bucket>, keys: list<string>) -> result<{get_many}, error>;
            set-many: func(bucket: borrow<bucket>, key-values: list<tuple<string, list<u8>>>) -> result<_, error>;
            delete-many: func(bucket: borrow<bucket>, keys: list<string>) -> result<_, error>;
        }}"
    );
    let world: String =
        ["store", "atomics", "batch"].map(|name| format!("import wasi:keyvalue/{name}@{version};")).concat();
    let store = format!("wasi:keyvalue/store@{version}");
    let batch_module = format!("wasi:keyvalue/batch@{version}");
    let text = format!(
        r#"(module {PRELUDE}
            (import "{store}" "open" (func $open (param i32 i32 i32)))
            (import "{store}" "[method]bucket.get" (func $get (param i32 i32 i32 i32)))
            (import "{store}" "[method]bucket.set" (func $set (param i32 i32 i32 i32 i32 i32)))
            (import "{store}" "[method]bucket.exists" (func $exists (param i32 i32 i32 i32)))
            (import "{store}" "[method]bucket.delete" (func $delete (param i32 i32 i32 i32)))
            (import "{batch_module}" "get-many" (func $get_many (param i32 i32 i32 i32)))
            (import "{batch_module}" "set-many" (func $set_many (param i32 i32 i32 i32)))
            (import "{batch_module}" "delete-many" (func $delete_many (param i32 i32 i32 i32)))
            {imports}
            {HELPERS}
            (func $open_default (result i32)
                (call $open (i32.const 0) (i32.const 0) (i32.const 1024))
                (call $expect_ok (i32.const 100))
                (i32.load (i32.const 1028)))
            {body})"#
    );
    guest(&[&format!("{package}\n{batch}")], &world, &text)
}

/// A guest of wasi:keyvalue@0.2.0-draft.
pub(crate) fn draft(body: &str) -> Artifact {
    draft_with(OPTION_OF_PAIR, body)
}

/// The same, with that shape of `get-many`.
pub(crate) fn draft_with(get_many: &str, body: &str) -> Artifact {
    let imports = r#"
        (import "wasi:keyvalue/store@0.2.0-draft" "[method]bucket.list-keys" (func $list (param i32 i32 i64 i32)))
        (import "wasi:keyvalue/atomics@0.2.0-draft" "increment" (func $increment (param i32 i32 i32 i64 i32)))"#;
    keyvalue(DRAFT, "0.2.0-draft", get_many, imports, body)
}

/// A guest of wasi:keyvalue@0.2.0-draft2, with that shape of `get-many`.
pub(crate) fn draft_2_with(get_many: &str, body: &str) -> Artifact {
    let imports = r#"
        (import "wasi:keyvalue/store@0.2.0-draft2" "[method]bucket.list-keys" (func $list (param i32 i32 i32 i32 i32)))
        (import "wasi:keyvalue/atomics@0.2.0-draft2" "increment" (func $increment (param i32 i32 i32 i64 i32)))
        (import "wasi:keyvalue/atomics@0.2.0-draft2" "[static]cas.new" (func $cas_new (param i32 i32 i32 i32)))
        (import "wasi:keyvalue/atomics@0.2.0-draft2" "[method]cas.current" (func $cas_current (param i32 i32)))
        (import "wasi:keyvalue/atomics@0.2.0-draft2" "swap" (func $swap (param i32 i32 i32 i32)))"#;
    keyvalue(DRAFT_2, "0.2.0-draft2", get_many, imports, body)
}

/// A guest that logs, and one that reads its configuration.
pub(crate) fn logging(body: &str) -> Artifact {
    let package = "package wasi:logging@0.1.0-draft; interface logging {
        enum level { trace, debug, info, warn, error, critical }
        log: func(level: level, context: string, message: string); }";
    let text = format!(
        r#"(module {PRELUDE}
            (import "wasi:logging/logging@0.1.0-draft" "log" (func $log (param i32 i32 i32 i32 i32)))
            {HELPERS} {body})"#
    );
    guest(&[package], "import wasi:logging/logging@0.1.0-draft;", &text)
}

/// A guest of `wasi:config` under that name of its interface.
pub(crate) fn config(interface: &str, version: &str, body: &str) -> Artifact {
    let package = format!(
        "package wasi:config@{version}; interface {interface} {{
            variant error {{ upstream(string), io(string) }}
            get: func(key: string) -> result<option<string>, error>;
            get-all: func() -> result<list<tuple<string, string>>, error>; }}"
    );
    let name = format!("wasi:config/{interface}@{version}");
    let text = format!(
        r#"(module {PRELUDE}
            (import "{name}" "get" (func $get (param i32 i32 i32)))
            (import "{name}" "get-all" (func $get_all (param i32)))
            {HELPERS} {body})"#
    );
    guest(&[&package], &format!("import {name};"), &text)
}
