//! What one machine leaves to the next: nothing, in memory or in registers.
//!
//! The guests here are hostile images, so they read what a component can't reach: the runtime's heap and stack, the
//! shared pages, the compiled code. They park as our own image does, so they are made from a template, and come out of
//! the pool, as any machine. Whoever reuses machines has to pass here too.

use std::sync::Arc;

use tokio::sync::Semaphore;
use wasmatrix_executor_api::Instance as _;
use wasmatrix_microvm_abi::{
    End, Request,
    engine::FeatureSet,
    layout::{
        HEAP, HEAP_BYTES, MEMORIES, REQUEST, REQUEST_BYTES_MAX, RESPONSE, RESPONSE_BYTES_MAX, RESPONSE_LENGTH,
    },
};
use wasmatrix_model::ExitCause;

use super::{
    hostile::{
        self, CONSTANTS,
        assembly::{Assembly, hypercall, with_rax},
        hypervisor, image,
        run::launch,
    },
    tables::Page,
    *,
};
use crate::{compile::Code, pool::Pool, probe::Hypervisor, run, sys::Shared, templates::Templates};

/// What a guest fills its machine with, hidden from itself by a mask: its own code is no find.
const MARKER: u64 = 0x6d61_726b_6564_2121;
const MASK: u64 = 0x5555_aaaa_3333_cccc;
/// Most that a guest can have beyond its linear memory, in bytes.
const RUNTIME_BYTES_MAX: u64 = 184 << 20;
/// Linear memory that the guest asks for, in bytes.
const MEMORY_BYTES: u64 = 1 << 20;

/// Where a program finds the ranges that it may read, and those that it may write: in the page after its code.
const READABLE: u64 = CONSTANTS;
const WRITABLE: u64 = READABLE + PAGE_BYTES / 2;

/// Looks for the marker in all that it can read, fills all that it can write, and looks again. The exit code has bit 0
/// if the first look found any, bit 1 if the second did.
fn look_and_fill() -> Vec<u8> {
    let mut code = Assembly::default();
    code.park();
    code.ask(&Request::Started.encode());
    code.ask(&Request::Commit { address: MEMORIES, bytes: MEMORY_BYTES }.encode());
    // mov r12, MARKER ^ MASK; mov r13, MASK; xor r12, r13; xor r15d, r15d
    code.put(&[0x49, 0xbc]);
    code.put(&(MARKER ^ MASK).to_le_bytes());
    code.put(&[0x49, 0xbd]);
    code.put(&MASK.to_le_bytes());
    code.put(&[0x4d, 0x31, 0xec, 0x45, 0x31, 0xff]);
    code.look(READABLE, 1);
    // mov [rax], r12
    code.for_each_range(WRITABLE, |code| _ = code.put(&[0x4c, 0x89, 0x20]));
    code.look(READABLE, 2);
    let [ten, zero, _code] = Request::End(End::Exited { code: 0 }).encode()[..] else {
        panic!("an exit has three bytes")
    };
    code.put(&with_rax(REQUEST, &[0xc6, 0x00, ten, 0xc6, 0x40, 0x01, zero]));
    // mov [rax + 2], r15b
    code.put(&[0x44, 0x88, 0x78, 0x02]);
    code.put(&hypercall(3));
    code.0
}

/// What ring 3 can read of a machine that is in use, and what it can write, as that machine's own tables have it, and
/// what becomes present when it is touched.
fn ranges(hypervisor: &Hypervisor, code: &Code) -> [Vec<(u64, u64)>; 2] {
    let mut twin = Machine::new(hypervisor, &image(&[], &[]), FeatureSet::default()).unwrap();
    let code_at = twin.memory.ground.extend(code.shared.bytes()).unwrap();
    twin.map_code(code, code_at).unwrap();
    twin.memory.admit(MEMORY_BYTES);
    assert!(twin.memory.commit(MEMORIES, MEMORY_BYTES));
    let later = [
        (REQUEST, u64::from(REQUEST_BYTES_MAX)),
        (RESPONSE_LENGTH, u64::from(RESPONSE_BYTES_MAX) + RESPONSE - RESPONSE_LENGTH),
        (HEAP, HEAP_BYTES),
    ];
    let pages = twin.memory.state.tables.pages(&twin.memory.ground);
    let is_right: [fn(&Page) -> bool; 2] =
        [|page| page.is_of_ring3(), |page| page.is_of_ring3() && page.is_writable()];
    is_right.map(|is_right| {
        let mut ranges: Vec<(u64, u64)> = later.map(|(start, bytes)| (start, bytes / 8)).into();
        let is_later =
            |page: &Page| later.iter().any(|(start, bytes)| (*start..start + bytes).contains(&page.address));
        for page in pages.iter().filter(|page| is_right(page) && !is_later(page)) {
            match ranges.last_mut() {
                Some((start, words)) if *start + *words * 8 == page.address => *words += page.bytes / 8,
                _ => ranges.push((page.address, page.bytes / 8)),
            }
        }
        ranges
    })
}

fn table(ranges: &[(u64, u64)]) -> Vec<u8> {
    assert!(ranges.len() < (PAGE_BYTES / 2 / 16) as usize, "they fit in half a page, with an end");
    ranges.iter().flat_map(|(start, words)| [start.to_le_bytes(), words.to_le_bytes()].concat()).collect()
}

#[tokio::test]
async fn no_byte_of_a_run_is_found_by_the_next() {
    let Some(hypervisor) = hypervisor() else { return };
    let shared = Shared::new(&[0; PAGE_BYTES as usize]).unwrap();
    let code = Code { shared, bytes: PAGE_BYTES, text: 0..PAGE_BYTES, runs_at_instantiation: true };
    let [readable, writable] = ranges(&hypervisor, &code);
    let total: u64 = writable.iter().map(|(_, words)| words * 8).sum();
    assert!(
        total - MEMORY_BYTES <= RUNTIME_BYTES_MAX,
        "{total}: docs/specification.md says how much at most"
    );
    assert!(total > HEAP_BYTES + STACK_BYTES + MEMORY_BYTES, "{total}: heap, stack and more are filled");
    let mut constants = table(&readable);
    constants.resize((WRITABLE - READABLE) as usize, 0);
    constants.extend(table(&writable));

    let templates = Arc::new(Templates::new(hypervisor, image(&look_and_fill(), &constants)));
    let template = Arc::new(templates.make(&Arc::new(code)).unwrap());
    let pool = Pool::new(Arc::clone(&templates), 1);
    let places = Arc::new(Semaphore::new(1));
    for turn in 0..3 {
        // One that was made ahead for certain, and then as they come.
        let machine = match turn {
            0 => templates.machine_ahead(&template).unwrap(),
            _ => pool.take(&template).await.unwrap(),
        };
        let permit = Arc::clone(&places).acquire_owned().await.unwrap();
        let launch = launch(MEMORY_BYTES);
        let mut run = run::start(machine, &template, launch, u32::MAX, permit).await.unwrap();
        // Only what it wrote itself.
        assert_eq!(run.exited().await, ExitCause::Exited { code: 2 }, "turn {turn}");
    }
}

/// A register file: how wide its registers are, how many there are, and how one is loaded from, or stored to, that
/// offset from rax.
struct File {
    bytes: usize,
    count: u8,
    access: fn(u8, Way) -> Vec<u8>,
}

/// Which way a value goes, as the opcode has it.
#[derive(Clone, Copy)]
enum Way {
    Load = 0x10,
    Store = 0x11,
}

const XMM: File = File {
    bytes: 16,
    count: 16,
    access: |register, way| match register {
        0..8 => vec![0x0f, way as u8],
        _ => vec![0x44, 0x0f, way as u8],
    },
};
const YMM: File = File {
    bytes: 32,
    count: 16,
    access: |register, way| vec![0xc5, if register < 8 { 0xfc } else { 0x7c }, way as u8],
};
const ZMM: File = File {
    bytes: 64,
    count: 32,
    access: |register, way| {
        let upper = (register >> 3 & 1 ^ 1) << 7 | (register >> 4 & 1 ^ 1) << 4;
        vec![0x62, 0x61 | upper, 0x7c, 0x48, way as u8]
    },
};

impl File {
    /// Loads or stores all of them, at rax.
    fn all(&self, way: Way) -> Vec<u8> {
        let one = |register: u8| {
            let offset = (usize::from(register) * self.bytes) as u32;
            let operand = 0x80 | (register & 7) << 3;
            [&(self.access)(register, way)[..], &[operand], &offset.to_le_bytes()].concat()
        };
        (0..self.count).flat_map(one).collect()
    }

    fn total(&self) -> usize {
        self.bytes * usize::from(self.count)
    }
}

#[test]
fn registers_are_empty_at_the_start_whatever_was_in_them_before() {
    let Some(hypervisor) = hypervisor() else { return };
    // One thread for all of them, so that the processor's registers are those of the machine before.
    for file in [&XMM, &YMM, &ZMM] {
        let request = |code: &[u8]| with_rax(REQUEST, &[code, &hypercall(file.total() as u32)].concat());
        // The first instruction that can't be had ends the machine, and then there is nothing to be found there.
        for (name, code) in [
            ("filled", [with_rax(IMAGE, &file.all(Way::Load)), request(&file.all(Way::Store))].concat()),
            ("looked at", request(&file.all(Way::Store))),
        ] {
            let mut machine = hostile::machine(&hypervisor, &code);
            let mut buffer = Vec::new();
            match machine.step(&Kicker::default(), &mut buffer) {
                Ok(Step::Request(length)) => {
                    assert_eq!(length, file.total());
                    let empty = buffer.iter().all(|byte| *byte == 0);
                    assert_eq!(empty, name == "looked at", "{name}, of {} bytes each", file.bytes);
                }
                Err(Violation::Exception { vector: 6, .. }) if file.bytes > 16 => {}
                other => panic!("{name}, of {} bytes each: {other:?}", file.bytes),
            }
        }
    }
}
