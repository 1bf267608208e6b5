//! `inspect`: what an artifact is, what it imports and exports. Reads its sections, runs and compiles nothing.

use std::collections::BTreeSet;

use serde::Serialize;
use wasmatrix_executor_api::Artifact;
use wasmatrix_model::Digest;
use wasmparser::{Encoding, Parser, Payload};

use crate::{
    args::Inspect,
    artifact,
    error::{CliError, FileProblem},
    output::{Document, Printer, human},
};

/// What can be seen of an artifact from outside.
#[derive(Debug, Serialize)]
struct Inspected {
    digest: Digest,
    bytes: usize,
    /// `component` or `module`.
    form: &'static str,
    /// Why it can't be run. `None`: it can.
    refusal: Option<String>,
    imports: BTreeSet<String>,
    exports: BTreeSet<String>,
}

impl Document for Inspected {
    const KIND: &'static str = "Artifact";

    fn name(&self) -> String {
        self.digest.to_string()
    }
}

/// Shows what an artifact is.
pub(crate) fn inspect(args: &Inspect, out: &mut Printer) -> Result<(), CliError> {
    let artifact = artifact::read(&args.file)?;
    let inspected = look(&artifact).map_err(|problem| {
        // Whoever refuses it for good knows better words for what it is instead.
        let refusal = wasmatrix_artifact::inspect(&artifact.bytes, artifact::PROGRAM_BYTES_MAX).err();
        let problem = refusal.map_or(problem, |refusal| refusal.message);
        CliError::File { path: args.file.clone(), problem, kind: FileProblem::Artifact }
    })?;
    out.one(&inspected, |inspected, _| describe(inspected))?;
    Ok(())
}

fn look(artifact: &Artifact) -> Result<Inspected, String> {
    let mut form = None;
    let mut imports = BTreeSet::new();
    let mut exports = BTreeSet::new();
    // Modules and components inside a component have imports of their own, which are nobody else's business.
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(&artifact.bytes) {
        match payload.map_err(|error| format!("is no Wasm binary: {error}"))? {
            Payload::Version { encoding, .. } => {
                form = form.or(Some(match encoding {
                    Encoding::Component => "component",
                    Encoding::Module => "module",
                }));
                depth += 1;
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ImportSection(section) if depth == 1 => {
                for import in section.into_imports() {
                    let import = import.map_err(|error| error.to_string())?;
                    imports.insert(format!("{}#{}", import.module, import.name));
                }
            }
            Payload::ExportSection(section) if depth == 1 => {
                for export in section {
                    exports.insert(export.map_err(|error| error.to_string())?.name.to_owned());
                }
            }
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    imports.insert(import.map_err(|error| error.to_string())?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    exports.insert(export.map_err(|error| error.to_string())?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    let form = form.ok_or("is no Wasm binary: it is empty")?;
    let refusal = wasmatrix_artifact::inspect(&artifact.bytes, artifact::PROGRAM_BYTES_MAX).err();
    Ok(Inspected {
        digest: artifact.digest,
        bytes: artifact.bytes.len(),
        form,
        refusal: refusal.map(|refusal| refusal.message),
        imports,
        exports,
    })
}

fn describe(inspected: &Inspected) -> String {
    let can_be_run = inspected.refusal.as_ref().map_or("yes".to_owned(), |refusal| format!("no: {refusal}"));
    let list = |title: &str, names: &BTreeSet<String>| {
        names.iter().fold(format!("{title} ({})", names.len()), |text, name| text + "\n  " + name)
    };
    format!(
        "Artifact:  {}\nSize:      {}\nForm:      {}\nCan run:   {can_be_run}\n{}\n{}",
        inspected.digest,
        human::bytes(inspected.bytes as u64),
        inspected.form,
        list("Imports:", &inspected.imports),
        list("Exports:", &inspected.exports)
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_is_no_wasm_is_said_to_be_none() {
        for bytes in [&b""[..], b"\0as", b"#!/bin/sh\n", b"\0asm\x01\0\0\0\x7f\x01"] {
            assert!(look(&Artifact::new(Bytes::from_static(bytes))).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn an_empty_module_and_an_empty_component_are_told_apart() {
        let module = look(&Artifact::new(Bytes::from_static(b"\0asm\x01\0\0\0"))).unwrap();
        assert_eq!(module.form, "module");
        assert!(module.refusal.unwrap().contains("_start"));
        let component = look(&Artifact::new(Bytes::from_static(b"\0asm\x0d\0\x01\0"))).unwrap();
        assert_eq!(component.form, "component");
        assert!(component.refusal.unwrap().contains("wasi:cli/run"));
    }
}
