//! What can't be run is refused at the start, with a reason that helps.

use wasmatrix_model::ErrorCode;
use wasmatrix_tests::guests::guest;

use crate::refused;

#[tokio::test]
async fn what_is_not_wasm_is_named() {
    for (bytes, word) in [
        (&b""[..], "empty"),
        (b"hello, world", "not"),
        (b"(module)", "text"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b"\x7fELF\x02\x01\x01", "ELF"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"\0asm", "cut off"),
    ] {
        let failure = refused(bytes).await;
        assert_eq!(failure.code, ErrorCode::WasmRuntimeError, "{failure}");
        assert!(failure.message.to_lowercase().contains(&word.to_lowercase()), "{word}: {failure}");
    }
}

#[tokio::test]
async fn a_corrupt_component_is_refused() {
    let mut bytes = std::fs::read(guest("hello")).unwrap();
    let middle = bytes.len() / 2;
    bytes.truncate(middle);
    assert_eq!(refused(&bytes).await.code, ErrorCode::WasmRuntimeError);
}

#[tokio::test]
async fn a_module_without_a_start_is_no_job() {
    let failure = refused(b"\0asm\x01\0\0\0").await;
    assert_eq!(failure.code, ErrorCode::WasmRuntimeError);
    assert!(failure.message.contains("_start"), "{failure}");
}
