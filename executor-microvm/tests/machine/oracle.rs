//! The same accesses to memory three times: with every bound checked in code, with guard pages in this process, and with
//! guard pages in a micro-VM. Values, sizes and traps must be the same.
//!
//! The first is the oracle: it needs no page fault to be right, so nothing that the other two count on can fail it.

use proptest::{prelude::*, sample::select, test_runner::TestRunner};
use tokio::runtime::Runtime;
use wasmatrix_executor_microvm::MicrovmExecutor;
use wasmatrix_model::{ExitCause, Limits};
use wasmtime::{Caller, Config, Engine, Linker, Module, Store, Trap};

use crate::stage::{Scene, executor};

/// What a program does, one after the other, until a trap.
#[derive(Clone, Debug)]
enum Deed {
    /// Grows by so many pages and tells the answer.
    Grow(u32),
    /// Reads and tells what was there.
    Load { instruction: &'static str, at: Place },
    /// Writes.
    Store { instruction: &'static str, at: Place },
    /// Writes so many bytes.
    Fill { at: Place, bytes: u32 },
    /// Copies so many bytes.
    Copy { to: Place, from: Place, bytes: u32 },
}

/// Where an access goes: an address, and a constant that the instruction adds to it without wrapping.
#[derive(Clone, Copy, Debug)]
struct Place {
    base: Base,
    offset: u32,
}

#[derive(Clone, Copy, Debug)]
enum Base {
    Absolute(u32),
    /// From the end that memory has then.
    End(i32),
}

const LOADS: &[&str] =
    &["i32.load8_u", "i32.load8_s", "i32.load16_u", "i32.load", "i64.load", "f64.load", "v128.load"];
const STORES: &[&str] = &["i32.store8", "i32.store16", "i32.store", "i64.store", "v128.store"];

fn place() -> impl Strategy<Value = Place> {
    let base = prop_oneof![
        8 => (-20_i32..4).prop_map(Base::End),
        2 => (-200_000_i32..200_000).prop_map(Base::End),
        2 => any::<u32>().prop_map(Base::Absolute),
        1 => (0_u32..200_000).prop_map(Base::Absolute),
        1 => select(vec![u32::MAX, u32::MAX - 15, 1 << 31, (1 << 31) - 1]).prop_map(Base::Absolute),
    ];
    let offset = prop_oneof![
        6 => Just(0),
        3 => 1_u32..32,
        1 => 0_u32..300_000,
        1 => any::<u32>(),
        1 => select(vec![u32::MAX, 1 << 31, 32 << 20, (32 << 20) - 1, 4096, 65536]),
    ];
    (base, offset).prop_map(|(base, offset)| Place { base, offset })
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => prop_oneof![5 => 0_u32..20, 1 => select(vec![65_537, u32::MAX])].prop_map(Deed::Grow),
        5 => (select(LOADS), place()).prop_map(|(instruction, at)| Deed::Load { instruction, at }),
        5 => (select(STORES), place()).prop_map(|(instruction, at)| Deed::Store { instruction, at }),
        1 => (place(), 0_u32..5000).prop_map(|(at, bytes)| Deed::Fill { at, bytes }),
        1 => (place(), place(), 0_u32..5000).prop_map(|(to, from, bytes)| Deed::Copy { to, from, bytes }),
    ]
}

impl Place {
    fn address(self) -> String {
        match self.base {
            Base::Absolute(address) => format!("(i32.const {})", address as i32),
            Base::End(distance) => {
                format!("(i32.add (i32.mul (memory.size) (i32.const 65536)) (i32.const {distance}))")
            }
        }
    }
}

impl Deed {
    fn code(&self) -> String {
        let tell = |value: &str| format!("(call $tell {value})");
        match self {
            Self::Grow(pages) => {
                tell(&format!("(i64.extend_i32_s (memory.grow (i32.const {})))", *pages as i32))
            }
            Self::Load { instruction, at } => {
                let load = format!("({instruction} offset={} {})", at.offset, at.address());
                tell(&match instruction.split_once('.') {
                    Some(("i32", _)) => format!("(i64.extend_i32_s {load})"),
                    Some(("f64", _)) => format!("(i64.reinterpret_f64 {load})"),
                    Some(("v128", _)) => format!("(i64x2.extract_lane 1 {load})"),
                    _ => load,
                })
            }
            Self::Store { instruction, at } => {
                let value = match instruction.split_once('.') {
                    Some(("i64", _)) => "(i64.const 0x0102030405060708)",
                    Some(("v128", _)) => "(v128.const i64x2 0x1112131415161718 0x191a1b1c1d1e1f20)",
                    _ => "(i32.const 0x21222324)",
                };
                format!("({instruction} offset={} {} {value})", at.offset, at.address())
            }
            Self::Fill { at, bytes } => {
                format!("(memory.fill {} (i32.const 0x33) (i32.const {bytes}))", at.address())
            }
            Self::Copy { to, from, bytes } => {
                format!("(memory.copy {} {} (i32.const {bytes}))", to.address(), from.address())
            }
        }
    }
}

/// The fields of the module that does these deeds.
fn program(pages: u32, pages_max: Option<u32>, deeds: &[Deed]) -> String {
    let max = pages_max.map_or(String::new(), |max| (pages + max).to_string());
    let code: String = deeds.iter().map(Deed::code).collect();
    format!(
        r#"(import "teller" "tell" (func $tell (param i64)))
           (memory {pages} {max})
           (func (export "run") (result i32) {code} (i32.const 0))"#
    )
}

/// The same as a component. What it tells is logged, in a memory apart, so that nothing but its deeds touches its own.
fn component(fields: &str) -> String {
    format!(
        r#"(component
            (import "wasi:logging/logging@0.1.0-draft" (instance $logging
                (type $levels (enum "trace" "debug" "info" "warn" "error" "critical"))
                (export "level" (type $level (eq $levels)))
                (export "log"
                    (func (param "level" $level) (param "context" string) (param "message" string)))))
            (core module $page (memory (export "memory") 1))
            (core instance $page (instantiate $page))
            (alias core export $page "memory" (core memory $page_memory))
            (alias export $logging "log" (func $log))
            (core func $log_core (canon lower (func $log) (memory $page_memory)))
            (core module $teller
                (import "page" "memory" (memory 1))
                (import "page" "log" (func $log (param i32 i32 i32 i32 i32)))
                (func (export "tell") (param $number i64) (local $digit i32)
                    (loop $next
                        (i32.store8 (local.get $digit)
                            (i32.add (i32.const 97) (i32.wrap_i64 (i64.and (local.get $number) (i64.const 15)))))
                        (local.set $number (i64.shr_u (local.get $number) (i64.const 4)))
                        (local.set $digit (i32.add (local.get $digit) (i32.const 1)))
                        (br_if $next (i32.lt_u (local.get $digit) (i32.const 16))))
                    (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16))))
            (core instance $teller (instantiate $teller (with "page" (instance
                (export "memory" (memory $page_memory))
                (export "log" (func $log_core))))))
            (core module $program {fields})
            (core instance $program (instantiate $program (with "teller" (instance $teller))))
            (func $run (result (result)) (canon lift (core func $program "run")))
            (instance $exported (export "run" (func $run)))
            (export "wasi:cli/run@0.2.3" (instance $exported)))"#
    )
}

/// What a program told, and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    told: Vec<i64>,
    end: String,
}

const GOOD: &str = "exit code 0";

/// An engine of this process, with guard pages or without.
fn engine(guard_pages: bool) -> Engine {
    let mut config = Config::new();
    if !guard_pages {
        config
            .signals_based_traps(false)
            .memory_reservation(0)
            .memory_guard_size(0)
            .memory_reservation_for_growth(0);
    }
    Engine::new(&config).expect("the engine can be made")
}

fn in_process(engine: &Engine, fields: &str) -> Outcome {
    let binary = wat::parse_str(format!("(module {fields})")).expect("the program is legal text");
    let module = Module::new(engine, binary).expect("the program is legal");
    let mut linker = Linker::new(engine);
    let tell = |mut caller: Caller<'_, Vec<i64>>, number: i64| caller.data_mut().push(number);
    linker.func_wrap("teller", "tell", tell).unwrap();
    let mut store = Store::new(engine, Vec::new());
    let instance = linker.instantiate(&mut store, &module).expect("it can be made");
    let run = instance.get_typed_func::<(), i32>(&mut store, "run").unwrap();
    let end = match run.call(&mut store, ()) {
        Ok(code) => format!("exit code {code}"),
        Err(error) => error.downcast::<Trap>().expect("it ends by a trap").to_string(),
    };
    Outcome { told: store.into_data(), end }
}

async fn in_a_machine(executor: &MicrovmExecutor, fields: &str) -> Outcome {
    let limits = Limits { memory_bytes_max: Limits::MEMORY_BYTES_CEILING, ..Limits::default() };
    let scene = Scene { limits, ..Scene::new(executor) };
    let end = match scene.run(&component(fields)).await {
        ExitCause::Trapped { trap, .. } => trap,
        other => other.to_string(),
    };
    Outcome { told: scene.console.log().iter().map(|(_, _, message)| number(message)).collect(), end }
}

/// A number, as the teller writes it: digits from `a` on, the last first.
fn number(message: &str) -> i64 {
    assert_eq!(message.len(), 16, "{message}");
    message.bytes().rev().fold(0, |number, digit| number << 4 | i64::from(digit - b'a'))
}

/// As many programs as `WASMATRIX_ORACLE_RUNS` says.
#[test]
fn accesses_have_one_outcome_however_their_bounds_are_kept() {
    let runtime = Runtime::new().unwrap();
    let _within = runtime.enter();
    let Some(executor) = executor() else { return };
    let (oracle, guarded) = (engine(false), engine(true));
    let runs = std::env::var("WASMATRIX_ORACLE_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(200);
    let mut runner =
        TestRunner::new(ProptestConfig { cases: runs, failure_persistence: None, ..Default::default() });
    let programs = (0_u32..20, prop::option::of(0_u32..60), proptest::collection::vec(deed(), 1..14));
    let ends = std::cell::RefCell::new([0, 0]);
    runner
        .run(&programs, |(pages, pages_max, deeds)| {
            let fields = program(pages, pages_max, &deeds);
            let expected = in_process(&oracle, &fields);
            ends.borrow_mut()[usize::from(expected.end == GOOD)] += 1;
            prop_assert_eq!(&in_process(&guarded, &fields), &expected, "in process");
            let there = runtime.block_on(in_a_machine(&executor, &fields));
            prop_assert_eq!(&there, &expected, "in a micro-VM");
            Ok(())
        })
        .unwrap();
    if runs >= 30 {
        assert!(ends.borrow().iter().all(|count| *count > 0), "some trap and some don't: {ends:?}");
    }
}

/// Every instruction at every distance from the end at which it just fits, or just does not.
#[test]
fn every_width_fits_to_the_last_byte_and_no_further() {
    let runtime = Runtime::new().unwrap();
    let _within = runtime.enter();
    let Some(executor) = executor() else { return };
    let oracle = engine(false);
    let at = |distance: i32| Place { base: Base::End(-distance), offset: 0 };
    for (instruction, width) in
        [("i32.load8_u", 1), ("i32.load16_u", 2), ("i32.load", 4), ("i64.load", 8), ("v128.load", 16)]
    {
        let fits = Deed::Load { instruction, at: at(width) };
        let does_not = Deed::Load { instruction, at: at(width - 1) };
        let deeds = [fits.clone(), Deed::Grow(1), fits, does_not];
        let fields = program(1, None, &deeds);
        let there = runtime.block_on(in_a_machine(&executor, &fields));
        assert_eq!(there, in_process(&oracle, &fields), "{instruction}");
        assert_eq!((there.told.as_slice(), there.end.contains("out of bounds")), (&[0, 1, 0][..], true));
    }
}
