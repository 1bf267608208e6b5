//! What the examples ask for: built, taken apart, and compared with the interfaces that each should have.

use std::{collections::BTreeSet, fs};

use wasmparser::{Encoding, Parser, Payload};
use xtask::examples;

/// The interfaces that a component imports, or the modules that a module does, without the versions of what the
/// standard library of Rust brings along, and what it exports.
struct Ports {
    encoding: Encoding,
    imports: BTreeSet<String>,
    exports: BTreeSet<String>,
}

fn ports(wasm: &[u8]) -> Ports {
    let mut ports = Ports { encoding: Encoding::Module, imports: BTreeSet::new(), exports: BTreeSet::new() };
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.expect("a guest is WebAssembly") {
            Payload::Version { encoding, .. } => {
                if depth == 0 {
                    ports.encoding = encoding;
                }
                depth += 1;
            }
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 1 => {
                ports.imports.extend(
                    section.into_iter().map(|import| import.expect("an import").name.name.to_owned()),
                );
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                ports.exports.extend(
                    section.into_iter().map(|export| export.expect("an export").name.name.to_owned()),
                );
            }
            Payload::ImportSection(section) => {
                let imports =
                    section.into_imports().map(|import| import.expect("an import").module.to_owned());
                if matches!(ports.encoding, Encoding::Module) {
                    ports.imports.extend(imports);
                }
            }
            _ => {}
        }
    }
    ports
}

/// What every command written in Rust may import; a guest's own are compared in full.
const STANDARD: &[&str] =
    &["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

const KEYVALUE: &[&str] = &["wasi:keyvalue/atomics@0.2.0-draft2", "wasi:keyvalue/store@0.2.0-draft2"];

fn expected(guest: &str) -> &'static [&'static str] {
    match guest {
        "bench" => &["wasi:keyvalue/store@0.2.0-draft2"],
        "counter" | "flaky" => KEYVALUE,
        "probe" => &[
            "wasi:config/store@0.2.0-rc.1",
            "wasi:keyvalue/atomics@0.2.0-draft2",
            "wasi:keyvalue/batch@0.2.0-draft2",
            "wasi:keyvalue/store@0.2.0-draft2",
            "wasi:logging/logging@0.1.0-draft",
        ],
        "probe-draft1" => &[
            "wasi:keyvalue/atomics@0.2.0-draft",
            "wasi:keyvalue/batch@0.2.0-draft",
            "wasi:keyvalue/store@0.2.0-draft",
        ],
        "hello-preview1" => &["wasi_snapshot_preview1"],
        _ => &[],
    }
}

#[test]
fn each_guest_asks_for_what_it_shows_and_no_more() {
    let guests = examples::rust(&[]).expect("the guests can be built");
    assert!(guests.len() >= 10, "{guests:?}");
    for path in guests {
        let guest = path.file_stem().and_then(|name| name.to_str()).expect("a guest has a name");
        let ports = ports(&fs::read(&path).expect("a guest can be read"));
        let own: Vec<&str> = ports
            .imports
            .iter()
            .map(String::as_str)
            .filter(|import| !STANDARD.iter().any(|standard| import.starts_with(standard)))
            .collect();
        assert_eq!(own, expected(guest), "{guest}");

        let is_command = ports.exports.iter().any(|export| export.starts_with("wasi:cli/run@0.2."));
        assert_eq!(
            is_command,
            matches!(ports.encoding, Encoding::Component),
            "{guest} exports {:?}",
            ports.exports
        );
    }
}

#[test]
fn an_example_that_is_not_there_is_named_with_those_that_are() {
    let problem = examples::rust(&["helo".to_owned()]).expect_err("there is no such example").to_string();
    assert!(problem.contains("`helo`") && problem.contains("hello"), "{problem}");
}
