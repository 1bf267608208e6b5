//! One virtual machine: booted, given a run, run.
//!
//! ```text
//!  boot ──► ready ──equip──► running ──► dropped       no machine is used twice
//!  (waits in the pool)
//! ```
//!
//! The machine's tables are the host's: ring 3, where all of the guest is, can neither read nor write them. What it
//! does there can make it fail, and nothing else.

use std::{ops::Range, sync::Arc};

use kvm_bindings::{CpuId, kvm_regs, kvm_sregs};
use kvm_ioctls::Kvm;
use wasmatrix_microvm_abi::{
    Malformed, Request, Response,
    engine::FeatureSet,
    layout::{
        ARTIFACT, ARTIFACT_PHYSICAL, HEAP, HEAP_BYTES, IMAGE, IMAGE_PHYSICAL, LARGE_PAGE_BYTES,
        MEMORIES_PHYSICAL, PAGE_BYTES, PRIVATE_PHYSICAL, REQUEST, REQUEST_BYTES_MAX, RESPONSE,
        RESPONSE_BYTES_MAX, RESPONSE_LENGTH, STACK, STACK_BYTES, TRAP_ENTRY,
    },
};

pub(crate) use self::guest_memory::GuestMemory;
use self::{
    descriptors::{FRAME, STUBS},
    tables::{Access, OutOfTables, Tables},
};
use crate::{
    compile::Code,
    image::Image,
    sys::{Exit, Kicker, Memory, Vm, VmError, populate},
};

mod descriptors;
mod guest_memory;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod leftovers;
mod registers;
mod tables;

/// Private memory for page tables, descriptors and the image's data, in bytes. Tables for 4 GiB of linear memory
/// take half of it.
const SMALL_BYTES: u64 = 16 << 20;

/// Larger stretches of private memory, one after the other: virtual address and length.
const LARGE: [(u64, u64); 4] = [
    (REQUEST, (REQUEST_BYTES_MAX as u64).next_multiple_of(LARGE_PAGE_BYTES)),
    (
        RESPONSE_LENGTH,
        (RESPONSE_BYTES_MAX as u64 + RESPONSE - RESPONSE_LENGTH).next_multiple_of(LARGE_PAGE_BYTES),
    ),
    (STACK, STACK_BYTES),
    (HEAP, HEAP_BYTES),
];
/// Where in private memory the request and the response are.
const REQUEST_AT: u64 = SMALL_BYTES;
const RESPONSE_LENGTH_AT: u64 = REQUEST_AT + LARGE[0].1;
const RESPONSE_AT: u64 = RESPONSE_LENGTH_AT + (RESPONSE - RESPONSE_LENGTH);
/// All of a machine's private memory, in bytes, of which it has what it touches.
const PRIVATE_BYTES: u64 = SMALL_BYTES + LARGE[0].1 + LARGE[1].1 + LARGE[2].1 + LARGE[3].1;

/// What a run of any size touches, in bytes: of the stack from its end, and of the heap. Taken from the system ahead
/// of need.
const STACK_TOUCHED: u64 = 48 << 10;
const HEAP_TOUCHED: u64 = 320 << 10;
/// Linear memory that every machine is lent ahead of need, in bytes; a run that may have more is lent the rest when
/// it begins, which takes KVM a while. It costs nothing until it is touched.
const LENT_AHEAD_BYTES: u64 = 256 << 20;

/// Exceptions that compiled Wasm makes on purpose: division, an invalid opcode, a page that is not there.
const WASM_EXCEPTIONS: [u8; 3] = [0, 6, PAGE_FAULT];
const PAGE_FAULT: u8 = 14;

/// A machine could not be made or set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    /// KVM refused.
    #[error(transparent)]
    Kvm(#[from] VmError),
    /// The system gave no memory.
    #[error("no address space for a micro-VM: raise the limit on address space (ulimit -v)")]
    Memory(#[source] vm_memory::mmap::MmapRegionError),
    /// Something has no room in private memory.
    #[error(transparent)]
    Tables(#[from] OutOfTables),
    /// It did not come up.
    #[error("the micro-VM did not boot: {0}")]
    Boot(String),
}

/// Why a machine was ended: what its guest did, or what became of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    /// An exception that no compiled code makes, or not there.
    #[error("exception {vector} at {instruction:#x}, touching {address:#x}")]
    Exception { vector: u8, instruction: u64, address: u64 },
    /// A report of an exception that did not come from ring 0.
    #[error("it pretended to have had exception {0}")]
    ForgedException(u8),
    /// The processor stopped in a way of no guest of ours.
    #[error("{0}")]
    Unexpected(String),
    /// The request's length is impossible.
    #[error("a request of {0} bytes")]
    RequestLength(u32),
    /// The request is none.
    #[error("a request that is none: {0}")]
    Request(#[from] Malformed),
    /// It asked for something that makes no sense now.
    #[error("a request out of turn")]
    OutOfTurn,
    /// KVM failed, which is no fault of the guest's.
    #[error("{0}")]
    Kvm(String),
}

/// A machine.
#[derive(Debug)]
pub(crate) struct Machine {
    vm: Vm,
    /// What its guest has a say in.
    pub(crate) memory: GuestMemory,
    /// System registers of ring 3.
    ring3: kvm_sregs,
    /// Where compiled code is, in the guest's addresses.
    text: Range<u64>,
}

impl Machine {
    /// Makes a machine and runs its guest until it is ready for a run.
    pub(crate) fn boot(
        kvm: &Kvm,
        cpuid: &CpuId,
        image: &Image,
        features: FeatureSet,
    ) -> Result<Self, MachineError> {
        let mut machine = Self::new(kvm, cpuid, image, features)?;
        let never_kicked = Kicker::default();
        let mut buffer = Vec::new();
        let outcome = machine.step(&never_kicked, &mut buffer).map(|step| match step {
            Step::Request(length) => Request::parse(&buffer[..length]) == Ok(Request::Ready),
            Step::Kicked => false,
        });
        match outcome {
            Ok(true) => Ok(machine),
            Ok(false) => Err(MachineError::Boot("its first request is not that it is ready".into())),
            Err(violation) => Err(MachineError::Boot(violation.to_string())),
        }
    }

    /// Makes a machine that is about to run the image's first instruction.
    fn new(kvm: &Kvm, cpuid: &CpuId, image: &Image, features: FeatureSet) -> Result<Self, MachineError> {
        let private = memory(PRIVATE_BYTES)?;
        let mut tables = Tables::new(Arc::clone(&private), SMALL_BYTES)?;
        let descriptors = descriptors::write(&mut tables)?;
        let mut physical = SMALL_BYTES;
        for (address, bytes) in LARGE {
            tables.map_large(address, PRIVATE_PHYSICAL + physical, bytes, Access::DATA)?;
            physical += bytes;
        }
        let stack_end = RESPONSE_LENGTH_AT + LARGE[1].1 + STACK_BYTES;
        populate(&private, 0, 32 * PAGE_BYTES);
        populate(&private, stack_end - STACK_TOUCHED, STACK_TOUCHED + HEAP_TOUCHED);
        let constants = IMAGE + image.code_bytes;
        let shared = image.shared.size() as u64;
        tables.map(IMAGE, IMAGE_PHYSICAL, image.code_bytes, Access::CODE)?;
        tables.map(
            constants,
            IMAGE_PHYSICAL + image.code_bytes,
            shared - image.code_bytes,
            Access::CONSTANT,
        )?;
        let data = &image.data;
        let at = tables.allocate(data.memory_bytes.next_multiple_of(PAGE_BYTES))?;
        tables.write(at, &data.bytes)?;
        tables.map(
            data.address,
            PRIVATE_PHYSICAL + at,
            data.memory_bytes.next_multiple_of(PAGE_BYTES),
            Access::DATA,
        )?;

        let mut vm = Vm::new(kvm, cpuid)?;
        vm.lend(Arc::clone(&private), PRIVATE_PHYSICAL, false)?;
        vm.lend(Arc::clone(&image.shared), IMAGE_PHYSICAL, true)?;
        vm.lend(memory(LENT_AHEAD_BYTES)?, MEMORIES_PHYSICAL, false)?;
        let ring3 = registers::ring3(&vm.system_registers()?, tables.root(), &descriptors);
        vm.set_system_registers(&ring3)?;
        vm.set_registers(&kvm_regs {
            rip: IMAGE,
            // As if it had been called.
            rsp: STACK + STACK_BYTES - 8,
            rdi: features.0.into(),
            rflags: registers::RING3_FLAGS,
            ..Default::default()
        })?;
        let memory = GuestMemory::new(private, tables);
        Ok(Self { vm, memory, ring3, text: 0..0 })
    }

    /// Gives a machine that is ready its code and its linear memory.
    pub(crate) fn equip(&mut self, code: &Code, memory_bytes_max: u64) -> Result<(), MachineError> {
        let pages = |bytes: u64| bytes.next_multiple_of(PAGE_BYTES);
        let size = code.memory.size() as u64;
        let text = code.text.start / PAGE_BYTES * PAGE_BYTES..pages(code.text.end).min(size);
        for (range, access) in [
            (0..text.start, Access::CONSTANT),
            (text.clone(), Access::CODE),
            (text.end..size, Access::CONSTANT),
        ] {
            let bytes = range.end - range.start;
            self.memory.tables.map(ARTIFACT + range.start, ARTIFACT_PHYSICAL + range.start, bytes, access)?;
        }
        self.vm.lend(Arc::clone(&code.memory), ARTIFACT_PHYSICAL, true)?;
        let memory_bytes_max = pages(memory_bytes_max);
        let more = memory_bytes_max.saturating_sub(LENT_AHEAD_BYTES);
        if more > 0 {
            self.vm.lend(memory(more)?, MEMORIES_PHYSICAL + LENT_AHEAD_BYTES, false)?;
        }
        self.text = ARTIFACT + code.text.start..ARTIFACT + code.text.end;
        self.memory.memory_bytes_max = memory_bytes_max;
        Ok(())
    }

    /// Runs the guest until it asks for something, or is kicked. A request is copied into `buffer` before anybody
    /// looks at it, so that the guest can't change it any more; its length is in the answer.
    pub(crate) fn step(&mut self, kicker: &Kicker, buffer: &mut Vec<u8>) -> Result<Step, Violation> {
        loop {
            match self.vm.run(kicker) {
                Exit::Hypercall(length) => return self.memory.fetch(length, buffer).map(Step::Request),
                Exit::Exception(vector) => self.deliver(vector)?,
                Exit::Kicked => return Ok(Step::Kicked),
                Exit::Unexpected(what) => return Err(Violation::Unexpected(what)),
                Exit::Failed(what) => return Err(Violation::Kvm(what)),
            }
        }
    }

    /// Answers the request. False: the answer is too long and was not given.
    pub(crate) fn answer(&self, response: &Response) -> bool {
        self.memory.answer(response)
    }

    /// Takes an exception of compiled code back to ring 3, where wasmtime makes a trap of it. Any other exception
    /// ends the machine.
    fn deliver(&mut self, vector: u8) -> Result<(), Violation> {
        let kvm = |error: VmError| Violation::Kvm(error.to_string());
        let system = self.vm.system_registers().map_err(kvm)?;
        let mut registers = self.vm.registers().map_err(kvm)?;
        // Only ring 0 may report, and in ring 0 there is nothing but the stubs.
        if system.cs.selector & 3 != 0 || !STUBS.contains(&registers.rip) {
            return Err(Violation::ForgedException(vector));
        }
        let frame: [u64; 5] = FRAME.map(|at| self.memory.tables.read(at).unwrap_or_default());
        let [instruction, code_segment, _flags, stack, _stack_segment] = frame;
        let address = if vector == PAGE_FAULT { system.cr2 } else { 0 };
        let on_stack = (STACK + PAGE_BYTES..=STACK + STACK_BYTES).contains(&stack);
        if !WASM_EXCEPTIONS.contains(&vector)
            || code_segment & 3 != 3
            || !on_stack
            || !self.text.contains(&instruction)
        {
            return Err(Violation::Exception { vector, instruction, address });
        }
        registers.rip = TRAP_ENTRY;
        registers.rdi = instruction;
        registers.rsi = registers.rbp;
        registers.rdx = (vector == PAGE_FAULT).into();
        registers.rcx = address;
        // Below the red zone, and aligned as if it had been called.
        registers.rsp = ((stack - 256) & !15) - 8;
        registers.rflags = registers::RING3_FLAGS;
        self.vm.set_system_registers(&self.ring3).map_err(kvm)?;
        self.vm.set_registers(&registers).map_err(kvm)
    }
}

/// Memory to be lent.
fn memory(bytes: u64) -> Result<Arc<Memory>, MachineError> {
    let memory = Memory::new(usize::try_from(bytes).unwrap_or(usize::MAX));
    memory.map(Arc::new).map_err(MachineError::Memory)
}

/// Where a machine stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// With a request of so many bytes, copied out.
    Request(usize),
    /// Because it was kicked.
    Kicked,
}
