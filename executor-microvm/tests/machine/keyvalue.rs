//! Capability calls: a component's imports become the same typed calls as in process.

use bytes::Bytes;
use wasmatrix_executor_api::{
    CapabilityCall, CapabilityError, CapabilityErrorKind, CapabilityReply, KvCall, KvReply,
};
use wasmatrix_model::ExitCause;

use crate::stage::{Scene, executor};

/// A component that opens the bucket `shop`, does one thing with it, and ends well if `check` leaves 0.
///
/// `get` answers with option<list<u8>> in a result: at 256 the result, at 260 the option or the error's case, at 264
/// the list or what the error says.
fn component(check: &str) -> String {
    format!(
        r#"(component
            (import "wasi:keyvalue/store@0.2.0-draft2" (instance $store
                (export "bucket" (type $bucket (sub resource)))
                (type $error' (variant (case "no-such-store") (case "access-denied") (case "other" string)))
                (export "error" (type $error (eq $error')))
                (export "open" (func (param "identifier" string) (result (result (own $bucket) (error $error)))))
                (export "[method]bucket.get" (func (param "self" (borrow $bucket)) (param "key" string)
                    (result (result (option (list u8)) (error $error)))))))
            (import "wasi:logging/logging@0.1.0-draft" (instance $logging
                (type $level' (enum "trace" "debug" "info" "warn" "error" "critical"))
                (export "level" (type $level (eq $level')))
                (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))))
            (core module $libc
                (memory (export "memory") 1)
                (global $next (mut i32) (i32.const 4096))
                (data (i32.const 16) "shop")
                (data (i32.const 32) "apples")
                (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                    (global.get $next)
                    (global.set $next (i32.add (global.get $next) (i32.and (i32.add (local.get 3) (i32.const 15)) (i32.const -16))))))
            (core instance $libc (instantiate $libc))
            (alias core export $libc "memory" (core memory $memory))
            (alias core export $libc "realloc" (core func $realloc))
            (core func $open (canon lower (func $store "open") (memory $memory) (realloc $realloc)))
            (core func $get (canon lower (func $store "[method]bucket.get") (memory $memory) (realloc $realloc)))
            (core func $log (canon lower (func $logging "log") (memory $memory)))
            (core module $main
                (import "host" "open" (func $open (param i32 i32 i32)))
                (import "host" "get" (func $get (param i32 i32 i32 i32)))
                (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
                (import "libc" "memory" (memory 1))
                (func (export "run") (result i32)
                    (call $open (i32.const 16) (i32.const 4) (i32.const 128))
                    (if (i32.load8_u (i32.const 128)) (then (return (i32.const 1))))
                    (call $get (i32.load (i32.const 132)) (i32.const 32) (i32.const 6) (i32.const 256))
                    (call $log (i32.const 3) (i32.const 16) (i32.const 4) (i32.const 32) (i32.const 6))
                    {check}))
            (core instance $main (instantiate $main
                (with "libc" (instance $libc))
                (with "host" (instance
                    (export "open" (func $open)) (export "get" (func $get)) (export "log" (func $log))))))
            (func $run (result (result)) (canon lift (core func $main "run")))
            (instance $exports (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $exports)))"#
    )
}

fn get_apples() -> Vec<CapabilityCall> {
    let call = KvCall::Get { bucket: "shop".parse().unwrap(), key: "apples".parse().unwrap() };
    vec![CapabilityCall::Kv(call)]
}

#[tokio::test]
async fn a_call_leaves_typed_and_its_answer_arrives() {
    let Some(executor) = executor() else { return };
    let scene = Scene::new(&executor);
    let value = Bytes::from_static(b"twelve");
    scene.gate.answers.lock().unwrap().push_back(Ok(CapabilityReply::Kv(KvReply::Value(Some(value)))));
    // A value, of six bytes, that begins with "twel".
    let text = component(
        r#"(i32.or (i32.load8_u (i32.const 256)) (i32.or
            (i32.ne (i32.load8_u (i32.const 260)) (i32.const 1)) (i32.or
            (i32.ne (i32.load (i32.const 268)) (i32.const 6))
            (i32.ne (i32.load (i32.load (i32.const 264))) (i32.const 0x6c657774)))))"#,
    );
    assert_eq!(scene.run(&text).await, ExitCause::Exited { code: 0 });
    assert_eq!(*scene.gate.calls.lock().unwrap(), get_apples());
    let log = scene.console.log();
    assert_eq!(log.len(), 1);
    assert_eq!((log[0].0.as_str(), log[0].1.as_str(), log[0].2.as_str()), ("warn", "shop", "apples"));
}

#[tokio::test]
async fn a_denial_is_told_as_one() {
    let Some(executor) = executor() else { return };
    let scene = Scene::new(&executor);
    let denied = CapabilityError::new(CapabilityErrorKind::Denied, "no grant");
    scene.gate.answers.lock().unwrap().push_back(Err(denied));
    // An error, and of its cases the second.
    let text = component(
        r#"(i32.or (i32.ne (i32.load8_u (i32.const 256)) (i32.const 1))
            (i32.ne (i32.load8_u (i32.const 260)) (i32.const 1)))"#,
    );
    assert_eq!(scene.run(&text).await, ExitCause::Exited { code: 0 });
    assert_eq!(*scene.gate.calls.lock().unwrap(), get_apples());
}
