//! What is refused when it is taken in, and in which words.

use wasmatrix_executor_api::{Artifact, ErrorKind};
use wasmatrix_executor_wasmtime::Config;

use crate::harness::{Job, artifact, config, module};

async fn refusal(artifact: Artifact) -> (ErrorKind, String) {
    let error = Job::new(artifact).refused().await;
    (error.kind(), error.chain())
}

#[tokio::test]
async fn what_is_not_webassembly() {
    for (bytes, words) in [(&b""[..], "is empty"), (b"\x7fELF", "native program"), (b"(module)", "text form")]
    {
        let (kind, message) = refusal(Artifact::new(bytes.into())).await;
        assert_eq!(kind, ErrorKind::BadArtifact);
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn what_is_corrupt() {
    let whole = module(r#"(func (export "_start") (call $exit (i32.const 0)))"#).bytes;
    let (kind, message) = refusal(Artifact::new(whole.slice(..whole.len() - 4))).await;
    assert_eq!(kind, ErrorKind::BadArtifact);
    assert!(message.contains("corrupt"), "{message}");
    // Well-formed, and ill-typed.
    let (kind, message) =
        refusal(artifact(r#"(module (func (export "_start") i64.const 1 i32.eqz drop))"#)).await;
    assert_eq!(kind, ErrorKind::BadArtifact);
    assert!(message.contains("breaks a rule of WebAssembly"), "{message}");
}

#[tokio::test]
async fn what_uses_more_of_webassembly_than_is_offered() {
    let (kind, message) = refusal(artifact(
        r#"(module (tag $t) (memory (export "memory") 1) (func (export "_start") (throw $t)))"#,
    ))
    .await;
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(message.contains("not offered") && message.contains("exceptions"), "{message}");
}

#[tokio::test]
async fn what_imports_more_than_is_offered() {
    let (kind, message) = refusal(artifact(
        r#"(module (import "env" "a" (func)) (import "env" "b" (func)) (func (export "_start")))"#,
    ))
    .await;
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(message.contains("env::a") && message.contains("env::b"), "{message}");
}

#[tokio::test]
async fn what_takes_an_interface_for_another() {
    let (kind, message) = refusal(artifact(
        r#"(component
            (import "wasi:random/random@0.2.0" (instance (export "get-random-u64" (func (result string)))))
            (core module $m (func (export "run") (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $run (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $run)))"#,
    ))
    .await;
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(message.contains("another shape") && message.contains("wasi:random"), "{message}");
}

#[tokio::test]
async fn what_is_too_large() {
    let executor = Config { artifact_bytes_max: 10, ..config() }.build().unwrap();
    let error = Job::new(module(r#"(func (export "_start"))"#)).start(&executor).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.chain().contains("at most 10 are taken in"), "{}", error.chain());
}
