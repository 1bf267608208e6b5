//! A component's imports and exports, by name: whether it is a job and asks for nothing that is not offered.

use wasmparser::{Encoding, Parser, Payload};

use crate::{
    Refusal, corrupt, counted, list,
    offered::{self, Missing},
};

/// What makes a component a job.
const RUN: &str = "wasi:cli/run";

/// Accepts a component that exports `wasi:cli/run` and imports only what is offered.
pub(crate) fn check(bytes: &[u8]) -> Result<(), Refusal> {
    let (imports, exports) = names(bytes)?;
    let missing: Vec<&str> = imports.iter().copied().filter(|name| !offered::is_offered(name)).collect();
    let exports_run = exports.iter().any(|export| {
        export.split_once('@').is_some_and(|(name, version)| name == RUN && offered::is_wasi_0_2(version))
    });
    if !exports_run {
        return Err(Refusal::unsupported(no_run(&exports)));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let missing = list(missing.into_iter().map(Missing));
    Err(Refusal::unsupported(format!("the component imports what is not offered: {missing}")))
}

/// The names of the outermost component's imports and exports.
fn names(bytes: &[u8]) -> Result<(Vec<&str>, Vec<&str>), Refusal> {
    let (mut imports, mut exports, mut depth) = (Vec::new(), Vec::new(), 0_usize);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|error| corrupt(&error))? {
            Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    imports.push(import.map_err(|error| corrupt(&error))?.name.name);
                    counted(imports.len())?;
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    exports.push(export.map_err(|error| corrupt(&error))?.name.name);
                    counted(exports.len())?;
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

fn no_run(exports: &[&str]) -> String {
    let with = |start: &str| exports.iter().find(|export| export.starts_with(start));
    if let Some(run) = with(RUN) {
        return format!(
            "the component exports {run}, and only wasi:cli/run of WASI 0.2 is run: build it for 0.2"
        );
    }
    if let Some(handler) = with("wasi:http/incoming-handler").or_else(|| with("wasi:http/handler")) {
        return format!(
            "the component is an HTTP service (it exports {handler}); services are not supported by this version, \
             only jobs that export wasi:cli/run"
        );
    }
    let exported = if exports.is_empty() { "nothing".into() } else { list(exports) };
    format!(
        "the component is a library: it does not export wasi:cli/run, but {exported}; build it as a program with a \
         main function, for wasm32-wasip2"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        check(&wat::parse_str(text).unwrap()).unwrap_err().message
    }

    const RUN: &str = r#"(instance $run) (export "wasi:cli/run@0.2.3" (instance $run))"#;

    #[test]
    fn all_that_is_missing_is_named_with_its_version_and_a_hint() {
        let text = format!(
            r#"(component
                (import "wasi:http/types@0.2.4" (instance))
                (import "wasi:cli/stdout@0.3.0" (instance))
                (import "wasi:cli/stdout@0.2.0" (instance))
                (import "acme:db/sql@1.2.3" (instance))
                {RUN})"#
        );
        let message = refusal(&text);
        for words in [
            "wasi:http/types@0.2.4 (HTTP is not offered by this version)",
            "wasi:cli/stdout@0.3.0 (this component targets WASI 0.3; build it for 0.2)",
            "acme:db/sql@1.2.3 (compose",
        ] {
            assert!(message.contains(words), "{message}");
        }
        assert!(!message.contains("stdout@0.2.0"), "{message}");
    }

    #[test]
    fn what_is_no_job_is_told_what_it_is() {
        let service =
            r#"(component (instance $i) (export "wasi:http/incoming-handler@0.2.0" (instance $i)))"#;
        assert!(refusal(service).contains("an HTTP service (it exports wasi:http/incoming-handler@0.2.0)"));
        let newer = r#"(component (instance $i) (export "wasi:cli/run@0.3.0" (instance $i)))"#;
        assert!(refusal(newer).contains("build it for 0.2"));
        assert!(refusal("(component)").contains("but nothing"));
        assert!(
            refusal(r#"(component (component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i))))"#)
                .contains("a library"),
            "a nested component's export is not the outer one's"
        );
    }

    #[test]
    fn a_job_is_accepted() {
        let text = format!(r#"(component (import "wasi:io/poll@0.2.9" (instance)) {RUN})"#);
        assert_eq!(check(&wat::parse_str(text).unwrap()), Ok(()));
    }

    #[test]
    fn a_cut_off_component_is_corrupt() {
        let bytes = wat::parse_str(format!("(component {RUN})")).unwrap();
        assert!(check(&bytes[..bytes.len() - 3]).unwrap_err().message.contains("corrupt"));
    }
}
