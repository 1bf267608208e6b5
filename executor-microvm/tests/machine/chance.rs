//! Chance: no two runs have the same, whichever source they ask.

use std::collections::BTreeSet;

use wasmatrix_model::ExitCause;

use crate::stage::{Scene, executor};

/// A component that tells 64 bits of each source of chance: the secure one, the insecure one, and the seed for tables.
const GAMBLER: &str = r#"(component
    (import "wasi:random/random@0.2.3" (instance $random
        (export "get-random-u64" (func (result u64)))))
    (import "wasi:random/insecure@0.2.3" (instance $insecure
        (export "get-insecure-random-u64" (func (result u64)))))
    (import "wasi:random/insecure-seed@0.2.3" (instance $seed
        (export "insecure-seed" (func (result (tuple u64 u64))))))
    (import "wasi:logging/logging@0.1.0-draft" (instance $logging
        (type $levels (enum "trace" "debug" "info" "warn" "error" "critical"))
        (export "level" (type $level (eq $levels)))
        (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))))
    (core module $page (memory (export "memory") 1))
    (core instance $page (instantiate $page))
    (alias core export $page "memory" (core memory $memory))
    (alias export $random "get-random-u64" (func $secure))
    (alias export $insecure "get-insecure-random-u64" (func $cheap))
    (alias export $seed "insecure-seed" (func $seeds))
    (alias export $logging "log" (func $log))
    (core func $secure_core (canon lower (func $secure)))
    (core func $cheap_core (canon lower (func $cheap)))
    (core func $seeds_core (canon lower (func $seeds) (memory $memory)))
    (core func $log_core (canon lower (func $log) (memory $memory)))
    (core module $gambler
        (import "host" "memory" (memory 1))
        (import "host" "secure" (func $secure (result i64)))
        (import "host" "cheap" (func $cheap (result i64)))
        (import "host" "seeds" (func $seeds (param i32)))
        (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
        (func $tell (param $number i64) (local $digit i32)
            (loop $next
                (i32.store8 offset=64 (local.get $digit)
                    (i32.add (i32.const 97) (i32.wrap_i64 (i64.and (local.get $number) (i64.const 15)))))
                (local.set $number (i64.shr_u (local.get $number) (i64.const 4)))
                (local.set $digit (i32.add (local.get $digit) (i32.const 1)))
                (br_if $next (i32.lt_u (local.get $digit) (i32.const 16))))
            (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 64) (i32.const 16)))
        (func (export "run") (result i32)
            (call $tell (call $secure))
            (call $tell (call $cheap))
            (call $seeds (i32.const 0))
            (call $tell (i64.load (i32.const 0)))
            (call $tell (i64.load (i32.const 8)))
            (i32.const 0)))
    (core instance $gambler (instantiate $gambler (with "host" (instance
        (export "memory" (memory $memory))
        (export "secure" (func $secure_core))
        (export "cheap" (func $cheap_core))
        (export "seeds" (func $seeds_core))
        (export "log" (func $log_core))))))
    (func $run (result (result)) (canon lift (core func $gambler "run")))
    (instance $exported (export "run" (func $run)))
    (export "wasi:cli/run@0.2.3" (instance $exported)))"#;

#[tokio::test]
async fn no_two_runs_have_the_same_chance() {
    let Some(executor) = executor() else { return };
    let mut seen = BTreeSet::new();
    for run in 0..3 {
        let scene = Scene::new(&executor);
        assert_eq!(scene.run(GAMBLER).await, ExitCause::Exited { code: 0 });
        let told = scene.console.log();
        assert_eq!(told.len(), 4, "run {run}");
        for (_, _, number) in told {
            assert!(seen.insert(number.clone()), "run {run} has {number} again");
        }
    }
}
