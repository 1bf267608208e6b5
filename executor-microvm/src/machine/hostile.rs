//! A guest that means harm: images of raw instructions in place of our own, in ring 3 as ours is. Whatever they do,
//! the machine ends, or goes on with nothing gained, and the host and other machines do not notice.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use proptest::{prelude::*, test_runner::TestRunner};
use wasmatrix_microvm_abi::{
    engine::FeatureSet,
    layout::{
        ARTIFACT, HEAP, HEAP_BYTES, HYPERCALL_PORT, LARGE_PAGE_BYTES, MEMORIES, MEMORIES_END, REQUEST,
        REQUEST_BYTES_MAX, RESPONSE, SUPERVISOR, TRAP_PORT,
    },
};

use self::assembly::{hypercall, with_rax};
use super::{descriptors::STUBS, tables::Page, template::Template, *};
use crate::{
    compile::Code,
    elf::Segment,
    probe,
    probe::Hypervisor,
    sys::{Memory, Shared},
};

pub(super) mod assembly;
pub(super) mod run;

const GENERAL_PROTECTION: u8 = 13;
const READ_RBX: &[u8] = &[0x48, 0x8b, 0x18]; // mov rbx, [rax]
const WRITE_RBX: &[u8] = &[0x48, 0x89, 0x18]; // mov [rax], rbx
const JUMP: &[u8] = &[0xff, 0xe0]; // jmp rax
const UD2: &[u8] = &[0x0f, 0x0b];

pub(super) fn hypervisor() -> Option<Hypervisor> {
    match probe::open("/dev/kvm".as_ref()) {
        Ok(hypervisor) => Some(hypervisor),
        Err(reason) => {
            let required = std::env::var_os("WASMATRIX_REQUIRE_KVM").is_some_and(|value| value == "1");
            assert!(!required, "KVM is required here: {reason}");
            eprintln!("skipped, for want of KVM: {reason}");
            None
        }
    }
}

/// Where constants are in such a machine: behind the code.
pub(super) const CONSTANTS: u64 = IMAGE + LARGE_PAGE_BYTES;
/// Where data is: behind the constants.
pub(super) const DATA: u64 = CONSTANTS + LARGE_PAGE_BYTES;

/// A machine that is about to run that code, at [`IMAGE`].
pub(super) fn machine(hypervisor: &Hypervisor, code: &[u8]) -> Machine {
    Machine::new(hypervisor, &image(code, &[]), FeatureSet::default()).unwrap()
}

/// An image of that code, at most a page, those constants, and one page of data.
pub(super) fn image(code: &[u8], constants: &[u8]) -> Image {
    assert!(code.len() <= PAGE_BYTES as usize, "{} bytes of code are too many for a page", code.len());
    let shared = Memory::new(2 * LARGE_PAGE_BYTES).unwrap();
    assert!(shared.write(0, code) && shared.write(LARGE_PAGE_BYTES, constants));
    let data = Segment {
        address: DATA,
        bytes: vec![0xcc; 16],
        memory_bytes: PAGE_BYTES,
        executable: false,
        writable: true,
    };
    Image { shared: Arc::new(shared.freeze().unwrap()), code_bytes: LARGE_PAGE_BYTES, data }
}

fn try_out(hypervisor: &Hypervisor, code: &[u8]) -> Result<Step, Violation> {
    machine(hypervisor, code).step(&Kicker::default(), &mut Vec::new())
}

#[test]
fn ring_3_reads_and_writes_its_own_data_and_nothing_else_is_writable() {
    let Some(hypervisor) = hypervisor() else { return };
    for data in [DATA, REQUEST, RESPONSE, STACK, HEAP + HEAP_BYTES - 8] {
        let code = with_rax(data, &[READ_RBX, WRITE_RBX, UD2].concat());
        assert!(
            matches!(try_out(&hypervisor, &code), Err(Violation::Exception { vector: 6, .. })),
            "{data:#x}"
        );
    }
    for constant in [IMAGE, CONSTANTS] {
        let code = with_rax(constant, &[READ_RBX, WRITE_RBX, UD2].concat());
        let fault = Violation::Exception { vector: PAGE_FAULT, instruction: IMAGE + 13, address: constant };
        assert_eq!(try_out(&hypervisor, &code), Err(fault));
    }
}

#[test]
fn ring_3_can_touch_no_table_no_stub_and_nothing_at_zero() {
    let Some(hypervisor) = hypervisor() else { return };
    let supervisor = (0..8).map(|page| SUPERVISOR + page * PAGE_BYTES);
    let beyond = [
        0,
        8,
        PAGE_BYTES,
        SUPERVISOR - 8,
        IMAGE - 8,
        DATA + PAGE_BYTES,
        STACK - 8,
        STACK + STACK_BYTES,
        HEAP - 8,
        HEAP + HEAP_BYTES,
        ARTIFACT,
        MEMORIES,
        MEMORIES_END,
        1 << 46,
    ];
    for address in supervisor.chain(beyond) {
        for access in [READ_RBX, WRITE_RBX] {
            let fault = Violation::Exception { vector: PAGE_FAULT, instruction: IMAGE + 10, address };
            assert_eq!(try_out(&hypervisor, &with_rax(address, access)), Err(fault), "{address:#x}");
        }
        let fault = Violation::Exception { vector: PAGE_FAULT, instruction: address, address };
        assert_eq!(try_out(&hypervisor, &with_rax(address, JUMP)), Err(fault), "{address:#x}");
    }
}

#[test]
fn data_is_not_executed() {
    let Some(hypervisor) = hypervisor() else { return };
    for address in [CONSTANTS, DATA, REQUEST, RESPONSE, STACK, HEAP] {
        let fault = Violation::Exception { vector: PAGE_FAULT, instruction: address, address };
        assert_eq!(try_out(&hypervisor, &with_rax(address, JUMP)), Err(fault), "{address:#x}");
    }
}

/// Instructions of ring 0, and the ways into it. Each is followed by an invalid opcode, in case it does nothing.
pub(super) const PRIVILEGED: &[(&str, &[u8])] = &[
    ("hlt", &[0xf4]),
    ("lgdt", &[0x0f, 0x01, 0x10]),
    ("lidt", &[0x0f, 0x01, 0x18]),
    ("lldt", &[0x0f, 0x00, 0xd0]),
    ("ltr", &[0x0f, 0x00, 0xd8]),
    ("lmsw", &[0x0f, 0x01, 0xf0]),
    ("clts", &[0x0f, 0x06]),
    ("invlpg", &[0x0f, 0x01, 0x38]),
    ("invd", &[0x0f, 0x08]),
    ("wbinvd", &[0x0f, 0x09]),
    ("mov cr0", &[0x0f, 0x22, 0xc0]),
    ("mov cr3", &[0x0f, 0x22, 0xd8]),
    ("mov cr4", &[0x0f, 0x22, 0xe0]),
    ("mov from cr3", &[0x0f, 0x20, 0xd8]),
    ("mov dr7", &[0x0f, 0x23, 0xf8]),
    ("wrmsr", &[0x0f, 0x30]),
    ("rdmsr", &[0x0f, 0x32]),
    ("swapgs", &[0x0f, 0x01, 0xf8]),
    ("sysret", &[0x48, 0x0f, 0x07]),
    ("sysexit", &[0x0f, 0x35]),
    ("sysenter", &[0x0f, 0x34]),
    ("syscall", &[0x0f, 0x05]),
    ("xsetbv", &[0x0f, 0x01, 0xd1]),
    ("iretq", &[0x48, 0xcf]),
    ("retf", &[0xcb]),
    ("int3", &[0xcc]),
    ("int 0x0e", &[0xcd, 0x0e]),
    ("int 0x80", &[0xcd, 0x80]),
    ("in al, dx", &[0xec]),
    ("in al, 0x60", &[0xe4, 0x60]),
    ("out 0x64, al", &[0xe6, 0x64]),
    ("outs", &[0x6e]),
    ("vmxon", &[0xf3, 0x0f, 0xc7, 0x30]),
    ("vmrun", &[0x0f, 0x01, 0xd8]),
    ("vmcall", &[0x0f, 0x01, 0xc1]),
    ("vmmcall", &[0x0f, 0x01, 0xd9]),
    ("getsec", &[0x0f, 0x37]),
    ("rdpmc", &[0x0f, 0x33]),
    ("wrfsbase", &[0xf3, 0x48, 0x0f, 0xae, 0xd0]),
    ("invpcid", &[0x66, 0x0f, 0x38, 0x82, 0x00]),
    ("wrpkru", &[0x0f, 0x01, 0xef]),
    ("xrstors", &[0x0f, 0xc7, 0x18]),
    ("monitor", &[0x0f, 0x01, 0xc8]),
    ("cli", &[0xfa]),
    ("sti", &[0xfb]),
    ("popf with everything", &[0x68, 0xff, 0x7f, 0x3f, 0x00, 0x9d]),
];

#[test]
fn privileged_instructions_end_the_machine_or_do_nothing() {
    let Some(hypervisor) = hypervisor() else { return };
    for (name, code) in PRIVILEGED {
        let code = with_rax(DATA, &[code, UD2].concat());
        let ended = try_out(&hypervisor, &code);
        assert!(ended.is_err(), "{name}: {ended:?}");
    }
}

#[test]
fn ring_3_does_not_pass_for_the_stub() {
    let Some(hypervisor) = hypervisor() else { return };
    for vector in WASM_EXCEPTIONS {
        // mov al, vector; out TRAP_PORT, al
        let ended = try_out(&hypervisor, &[0xb0, vector, 0xe6, TRAP_PORT, 0x0f, 0x0b]);
        let refused = matches!(
            ended,
            Err(Violation::ForgedException(_) | Violation::Exception { vector: GENERAL_PROTECTION, .. })
        );
        assert!(refused, "{vector}: {ended:?}");
    }
    let fault = Violation::Exception { vector: PAGE_FAULT, instruction: STUBS.start, address: STUBS.start };
    assert_eq!(try_out(&hypervisor, &with_rax(STUBS.start, JUMP)), Err(fault));
}

#[test]
fn requests_of_any_length_are_taken_or_refused() {
    let Some(hypervisor) = hypervisor() else { return };
    for length in [0, 1, 4095, REQUEST_BYTES_MAX] {
        assert_eq!(try_out(&hypervisor, &hypercall(length)), Ok(Step::Request(length as usize)));
    }
    for length in [REQUEST_BYTES_MAX + 1, 1 << 31, u32::MAX] {
        assert_eq!(try_out(&hypervisor, &hypercall(length)), Err(Violation::RequestLength(length)));
    }
    // One byte and two where there should be four.
    let port = HYPERCALL_PORT.to_le_bytes();
    for out in [&[0xee][..], &[0x66, 0xef]] {
        let ended = try_out(&hypervisor, &[&[0x66, 0xba], &port[..], out].concat());
        assert!(matches!(ended, Err(Violation::Unexpected(_))), "{ended:?}");
    }
}

#[test]
fn no_page_leads_to_a_table_and_none_is_both_writable_and_executable() {
    let Some(hypervisor) = hypervisor() else { return };
    let image = Image::load().unwrap();
    let template = Template::of_image(&hypervisor, &image).unwrap();
    let shared = Shared::new(&[0; 4 * PAGE_BYTES as usize]).unwrap();
    let text = PAGE_BYTES..2 * PAGE_BYTES;
    let code = Code { shared, bytes: 4 * PAGE_BYTES, text, runs_at_instantiation: true };
    let mut machine = template.machine(&hypervisor).unwrap();
    machine.map_code(&code, machine.memory.ground.end()).unwrap();
    machine.memory.admit(4 << 20);
    assert!(machine.memory.commit(MEMORIES, 4 << 20));
    assert!(!machine.memory.commit(MEMORIES + (4 << 20), PAGE_BYTES), "no more than it may have");

    let ground = &machine.memory.ground;
    let tables = machine.memory.state.tables.own_pages(ground);
    let pages = machine.memory.state.tables.pages(ground);
    assert!(pages.len() > 300, "{}", pages.len());
    for page in pages {
        let Page { address, physical, bytes, .. } = page;
        assert!(!page.is_writable() || !page.is_executable(), "{address:#x} is writable and executable");
        assert!(address >= SUPERVISOR, "{address:#x} is near zero");
        let range = physical..physical + bytes;
        assert!(!tables.iter().any(|table| range.contains(table)), "{address:#x} leads to a table");
        let is_supervisor = (SUPERVISOR..IMAGE).contains(&address);
        assert_eq!(!page.is_of_ring3(), is_supervisor, "{address:#x}");
    }
}

/// Memory at addresses far from each other takes a table each.
#[test]
fn who_fills_its_tables_by_scattering_its_memory_is_to_blame_itself() {
    let mut memory = GuestMemory::alone(1 << 30).unwrap();
    let stride = 2 * LARGE_PAGE_BYTES;
    let scattered = (0..).take_while(|index| memory.commit(MEMORIES + index * stride, PAGE_BYTES)).count();
    assert!((1000..5000).contains(&scattered), "{scattered}");
    let error = memory.supply(HEAP + HEAP_BYTES - 1).expect_err("there is no room for its tables");
    assert!(matches!(Violation::of_host(error), Violation::Unexpected(_)));
}

/// Kicks a machine that takes too long.
fn run_briefly(machine: &mut Machine) -> Result<Step, Violation> {
    let kicker = Kicker::default();
    thread::scope(|scope| {
        let (done, wait) = mpsc::sync_channel::<()>(1);
        let kicker = &kicker;
        scope.spawn(move || {
            if wait.recv_timeout(Duration::from_millis(20)).is_err() {
                kicker.kick();
            }
        });
        let ended = machine.step(kicker, &mut Vec::new());
        // Dropping would look like a timeout.
        let _already_gone = done.send(());
        ended
    })
}

/// How many hostile guests a test tries.
fn runs() -> u32 {
    std::env::var("WASMATRIX_HOSTILE_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(300)
}

/// Machines that run random bytes, `WASMATRIX_HOSTILE_RUNS` of them. None of them may trouble the host, or a machine
/// that lives beside them all.
#[test]
fn random_code_troubles_nobody() {
    let Some(hypervisor) = hypervisor() else { return };
    let image = Image::load().unwrap();
    let mut neighbour = machine(&hypervisor, &[&hypercall(0)[..], &[0xeb, 0xf4]].concat());
    let mut runner =
        TestRunner::new(ProptestConfig { cases: runs(), failure_persistence: None, ..Default::default() });
    let code = proptest::collection::vec(any::<u8>(), 16..512);
    runner
        .run(&code, |code| {
            let mut machine = machine(&hypervisor, &code);
            // Whatever it is, it is an answer; and the machine can be asked again.
            let _first = run_briefly(&mut machine);
            let _second = run_briefly(&mut machine);
            Ok(())
        })
        .unwrap();
    assert_eq!(neighbour.step(&Kicker::default(), &mut Vec::new()), Ok(Step::Request(0)));
    assert!(Template::of_image(&hypervisor, &image).is_ok());
}
