//! The first byte past a linear memory traps, at every size, grown or not, read or written; the last byte within does
//! not.

use wasmatrix_model::{ExitCause, Limits};
use wasmatrix_tests::{Case, Node, executors};

const OUT_OF_BOUNDS: &str = "wasm trap: out of bounds memory access";

/// A module with `initial` pages that grows by `growth`, touches the last byte, and then does `deed`, in which `END`
/// stands for the size of the memory in bytes. (The size is asked for: what adapts preview-1 modules takes a page.)
fn module(initial: u32, growth: u32, deed: &str) -> Vec<u8> {
    let least = initial + growth;
    let text = format!(
        "(module
           (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
           (memory (export \"memory\") {initial})
           (func (export \"_start\") (local $end i32) (local $last i32)
             (drop (memory.grow (i32.const {growth})))
             (if (i32.lt_u (memory.size) (i32.const {least})) (then (call $exit (i32.const 3))))
             (local.set $end (i32.mul (memory.size) (i32.const 65536)))
             (local.set $last (i32.sub (local.get $end) (i32.const 1)))
             (i32.store8 (local.get $last) (i32.const 42))
             (if (i32.ne (i32.load8_u (local.get $last)) (i32.const 42)) (then (call $exit (i32.const 4))))
             {deed}))",
        deed = deed.replace("END", "(local.get $end)"),
    );
    wat::parse_str(&text).expect("the test writes legal text")
}

async fn ends_by(node: &Node, case: Case) -> String {
    match node.run(case).await.expect("it starts").cause {
        ExitCause::Trapped { trap, .. } => trap,
        other => other.to_string(),
    }
}

#[tokio::test]
async fn the_first_byte_past_the_end_traps() {
    let sizes = [(1, 0), (1, 1), (2, 0), (1, 15), (17, 0), (100, 156), (1, 1023), (4096, 0), (1, 16_383)];
    let deeds = [
        "(drop (i32.load8_u END))",
        "(i32.store8 END (i32.const 1))",
        "(drop (i64.load (i32.sub END (i32.const 7))))",
        "(drop (i32.load8_u offset=1 (i32.sub END (i32.const 1))))",
        "(memory.fill (i32.sub END (i32.const 2)) (i32.const 0) (i32.const 3))",
    ];
    for executor in executors() {
        let node = Node::new().await;
        for (initial, growth) in sizes {
            for deed in deeds {
                let limits = Limits { memory_bytes_max: 2 << 30, ..Limits::default() };
                let case = Case::with(*executor, module(initial, growth, deed)).limits(limits);
                let end = ends_by(&node, case).await;
                assert_eq!(end, OUT_OF_BOUNDS, "{executor}: {initial} pages and {growth} more: {deed}");
            }
        }
    }
}

#[tokio::test]
async fn far_addresses_and_large_offsets_trap_too() {
    let deeds = [
        "(drop (i32.load8_u (i32.const -1)))",
        "(drop (i32.load8_u (i32.const 0x7fffffff)))",
        "(drop (i32.load8_u offset=0xffffffff (i32.const 0)))",
        "(drop (i64.load offset=0xffffffff (i32.const -1)))",
        "(i64.store offset=0x7fffffff (i32.const -1) (i64.const 1))",
    ];
    for executor in executors() {
        let node = Node::new().await;
        for deed in deeds {
            let end = ends_by(&node, Case::with(*executor, module(1, 0, deed))).await;
            assert_eq!(end, OUT_OF_BOUNDS, "{executor}: {deed}");
        }
    }
}

#[tokio::test]
async fn what_is_inside_does_not_trap() {
    for executor in executors() {
        let node = Node::new().await;
        for (initial, growth) in [(1, 0), (1, 7), (300, 0)] {
            let case = Case::with(*executor, module(initial, growth, "(nop)"));
            assert_eq!(ends_by(&node, case).await, "exit code 0", "{executor}: {initial} and {growth}");
        }
    }
}
