//! What is changed in a module before it is adapted.
//!
//! - The adapter knows only success and failure, so a program's exit code would be lost in it. `proc_exit` therefore
//!   goes past it, straight to `wasi:cli/exit`, whose `exit-with-code` takes the same one number.
//! - The adapter works in the module's memory. A module that has none is given one.
//!
//! Indices and code stay as they are, so names and backtraces do too.

use std::error::Error;

use wasm_encoder::{
    ExportKind, ExportSection, ImportSection, MemorySection, MemoryType, Module, RawSection, SectionId,
    reencode::{Reencode, RoundtripReencoder},
};
use wasmparser::{ExportSectionReader, ExternalKind, ImportSectionReader, Parser, Payload};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::module::PREVIEW_1;

const EXIT_MODULE: &str = "wasi:cli/exit@0.2.12";
const EXIT_FUNCTION: &str = "exit-with-code";
const EXIT_WORLD: &str = "
    package wasmatrix:adapted;
    world exit { import wasi:cli/exit@0.2.12; }
    package wasi:cli@0.2.12 {
        interface exit { exit: func(status: result); exit-with-code: func(status-code: u8); }
    }
";

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The module as the adapter can take it.
pub(crate) fn rewrite(module: &[u8]) -> Result<Vec<u8>> {
    let mut rewriter = Rewriter { needs_memory: !has_memory(module)?, exits: false, out: Module::new() };
    for payload in Parser::new(0).parse_all(module) {
        rewriter.take(module, payload?)?;
    }
    let exits = rewriter.exits;
    let mut bytes = rewriter.out.finish();
    if exits {
        let mut resolve = Resolve::default();
        let package = resolve.push_str("adapted.wit", EXIT_WORLD)?;
        let world = resolve.select_world(&[package], Some("exit"))?;
        embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8)?;
    }
    Ok(bytes)
}

fn has_memory(module: &[u8]) -> Result<bool> {
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::MemorySection(section) = payload? {
            return Ok(section.count() > 0);
        }
    }
    Ok(false)
}

struct Rewriter {
    /// There is no memory, and none was added yet.
    needs_memory: bool,
    /// The program can exit with a code.
    exits: bool,
    out: Module,
}

impl Rewriter {
    fn take(&mut self, module: &[u8], payload: Payload<'_>) -> Result<()> {
        let Some((id, range)) = payload.as_section() else { return Ok(()) };
        let without_memory = self.needs_memory;
        if without_memory && comes_after_memory(id) {
            self.add_memory();
        }
        match payload {
            Payload::ImportSection(section) => self.imports(section)?,
            Payload::ExportSection(section) if exports_nothing_of_memory(&section)? => {
                self.exports(section)?
            }
            // One with no memory in it; it would stand beside the one that is added.
            Payload::MemorySection(_) if without_memory => {}
            _ => {
                self.out.section(&RawSection { id, data: &module[range] });
            }
        }
        Ok(())
    }

    fn imports(&mut self, section: ImportSectionReader<'_>) -> Result<()> {
        let mut imports = ImportSection::new();
        for import in section.into_imports() {
            let mut import = import?;
            if (import.module, import.name) == (PREVIEW_1, "proc_exit") {
                (import.module, import.name) = (EXIT_MODULE, EXIT_FUNCTION);
                self.exits = true;
            }
            RoundtripReencoder.parse_import(&mut imports, import)?;
        }
        self.out.section(&imports);
        Ok(())
    }

    fn exports(&mut self, section: ExportSectionReader<'_>) -> Result<()> {
        let mut exports = ExportSection::new();
        RoundtripReencoder.parse_export_section(&mut exports, section)?;
        exports.export("memory", ExportKind::Memory, 0);
        self.out.section(&exports);
        Ok(())
    }

    fn add_memory(&mut self) {
        let mut memories = MemorySection::new();
        memories.memory(MemoryType {
            minimum: 0,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        self.out.section(&memories);
        self.needs_memory = false;
    }
}

/// Whether sections of that kind stand behind the memories. Custom sections may stand anywhere.
fn comes_after_memory(id: u8) -> bool {
    const BEFORE: [SectionId; 6] = [
        SectionId::Custom,
        SectionId::Type,
        SectionId::Import,
        SectionId::Function,
        SectionId::Table,
        SectionId::Memory,
    ];
    !BEFORE.iter().any(|before| u8::from(*before) == id)
}

fn exports_nothing_of_memory(section: &ExportSectionReader<'_>) -> Result<bool> {
    for export in section.clone() {
        if export?.kind == ExternalKind::Memory {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use wasmparser::Validator;

    use super::*;

    fn rewritten(text: &str) -> String {
        let bytes = rewrite(&wat::parse_str(text).unwrap()).unwrap();
        Validator::new().validate_all(&bytes).unwrap();
        let mut names = Vec::new();
        for payload in Parser::new(0).parse_all(&bytes) {
            match payload.unwrap() {
                Payload::ImportSection(section) => {
                    names.extend(section.into_imports().map(|import| {
                        let import = import.unwrap();
                        format!("{}::{}", import.module, import.name)
                    }));
                }
                Payload::ExportSection(section) => {
                    names.extend(section.into_iter().map(|export| export.unwrap().name.to_owned()));
                }
                _ => {}
            }
        }
        names.join(" ")
    }

    #[test]
    fn exit_codes_go_past_the_adapter() {
        let text = r#"(module
            (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
            (memory (export "memory") 1)
            (func (export "_start") (call 1 (i32.const 3))))"#;
        let names = "wasi_snapshot_preview1::sched_yield wasi:cli/exit@0.2.12::exit-with-code memory _start";
        assert_eq!(rewritten(text), names);
    }

    #[test]
    fn a_module_without_memory_gets_one() {
        assert_eq!(rewritten(r#"(module (func (export "_start")))"#), "_start memory");
        let text = r#"(module (table 1 funcref) (global i32 (i32.const 1)) (func (export "_start")))"#;
        assert_eq!(rewritten(text), "_start memory");
    }
}
