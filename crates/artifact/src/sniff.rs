//! Tells WebAssembly from what people hand in by mistake.

use crate::{Form, Refusal};

/// How a file begins, and what it is then, as the end of a sentence.
const SIGNATURES: &[(&[u8], &str)] = &[
    (
        b"\x7fELF",
        "a native program or library (ELF); build it for wasm32-wasip2. If it is a .cwasm, give the .wasm",
    ),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive; unpack it first"),
    (b"BZh", "a bzip2 archive; unpack it first"),
    (b"\xfd7zXZ", "an xz archive; unpack it first"),
    (b"!<arch>", "a static library; link it into a program first"),
    (b"BC\xc0\xde", "LLVM bitcode; compile it for wasm32-wasip2"),
    (b"MZ", "a Windows program; build it for wasm32-wasip2"),
    (b"\xcf\xfa\xed\xfe", "a macOS program; build it for wasm32-wasip2"),
    (b"\xca\xfe\xba\xbe", "a Java class or a macOS program; build it for wasm32-wasip2"),
    (b"#!", "a script; only WebAssembly can be run"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself with `git lfs pull`"),
    (b"%PDF", "a PDF document; only WebAssembly can be run"),
];

const MAGIC: &[u8] = b"\0asm";
/// Version 1 of layer 0.
const MODULE: &[u8] = &[1, 0, 0, 0];
/// Version 13 of layer 1; lower versions are drafts of the component model.
const COMPONENT: &[u8] = &[13, 0, 1, 0];

/// Tells a module from a component by the first eight bytes, or says what else it is.
pub(crate) fn sniff(bytes: &[u8]) -> Result<Form, Refusal> {
    if bytes.is_empty() {
        return Err(Refusal::bad("the file is empty; build it again or look for the right one"));
    }
    let Some(version) = bytes.strip_prefix(MAGIC) else { return Err(Refusal::bad(not_wasm(bytes))) };
    match version.get(..4) {
        Some(MODULE) => Ok(Form::Module),
        Some(COMPONENT) => Ok(Form::Component),
        Some([version, _, 1, 0]) => Err(Refusal::unsupported(format!(
            "the component is encoded in draft version {version} of the format; rebuild it with present-day tools"
        ))),
        Some(other) => Err(Refusal::bad(format!(
            "the file begins like WebAssembly, but version {other:02x?} of it is not known"
        ))),
        None => Err(Refusal::bad("the file is cut off after a few bytes; build or copy it again")),
    }
}

fn not_wasm(bytes: &[u8]) -> String {
    if let Some((_, what)) = SIGNATURES.iter().find(|(start, _)| bytes.starts_with(start)) {
        return format!("the file is {what}");
    }
    let start = &bytes[..bytes.len().min(512)];
    let text = String::from_utf8_lossy(start);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let begins = |word: &str| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    if begins("(module") || begins("(component") || begins(";;") || begins("(;") {
        return "the file is WebAssembly in text form; turn it into a binary first, e.g. `wasm-tools parse in.wat -o \
                out.wasm`"
            .into();
    }
    if begins("<!doctype html") || begins("<html") {
        return "the file is an HTML page; a download probably ended on an error page".into();
    }
    let shown: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("the file is not WebAssembly: that begins with 00 61 73 6d, this with {}", shown.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: &[u8]) -> String {
        sniff(bytes).unwrap_err().message
    }

    #[test]
    fn modules_and_components_are_told_apart() {
        assert_eq!(sniff(b"\0asm\x01\0\0\0"), Ok(Form::Module));
        assert_eq!(sniff(b"\0asm\x0d\0\x01\0"), Ok(Form::Component));
    }

    #[test]
    fn each_mistake_is_named_with_its_cure() {
        for (bytes, words) in [
            (&b""[..], "is empty"),
            (b"\0as", "begins with 00 61 73 6d"),
            (b"\0asm\x01", "cut off"),
            (b"\0asm\x0a\0\x01\0", "draft version 10"),
            (b"\0asm\x02\0\0\0", "is not known"),
            (b"\x7fELF\x02", "build it for wasm32-wasip2"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"PK\x03\x04", "zip"),
            (b"#!/bin/sh", "a script"),
            (b"  \n(module)", "text form"),
            (b";; hi\n(component)", "text form"),
            (b"<!DOCTYPE html><html>", "HTML page"),
            (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
            (b"{\"json\":1}", "this with 7b 22"),
        ] {
            assert!(message(bytes).contains(words), "{}", message(bytes));
        }
    }
}
