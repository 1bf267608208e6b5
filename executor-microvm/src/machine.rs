//! One virtual machine: made from a template, given a run, run.
//!
//! ```text
//!  image ──boot──► parked: booted ──► template ┐
//!        ┌─────────────────────────────────────┘
//!        └──► load code ──► parked: loaded ──► template ──► admit ──► running ──► dropped
//!             (instantiate ──► parked)                      (as many machines as are wanted)
//! ```
//!
//! No machine has two runs: each begins with the bytes of a template, which were written before any run was known.
//!
//! The machine's tables are the host's: ring 3, where all of the guest is, can neither read nor write them. What it
//! does there can make it fail, and nothing else.
//!
//! | room | what it is |
//! |---|---|
//! | [`guest_memory`] | its memory, and what the guest has a say in of it |
//! | [`ground`] | physical memory |
//! | [`tables`], [`descriptors`], [`registers`] | what the processor consults |
//! | [`reserve`] | addresses that become present when they are touched |
//! | [`template`] | what machines begin with |

use std::io;

use kvm_bindings::{kvm_regs, kvm_sregs};
use wasmatrix_microvm_abi::{
    Malformed, Response,
    engine::FeatureSet,
    layout::{IMAGE, PAGE_BYTES, STACK, STACK_BYTES, TRAP_ENTRY},
};

pub(crate) use self::guest_memory::GuestMemory;
use self::{
    descriptors::{Frame, STUBS},
    ground::Ground,
    tables::OutOfTables,
};
use crate::{
    image::Image,
    probe::Hypervisor,
    sys::{Exit, Kicker, Vcpu, VmError, create},
};

mod descriptors;
mod ground;
mod guest_memory;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod leftovers;
mod registers;
mod reserve;
mod tables;
pub(crate) mod template;

/// Exceptions that compiled Wasm makes on purpose: division, an invalid opcode, a page that is not there.
const WASM_EXCEPTIONS: [u8; 3] = [0, 6, PAGE_FAULT];
const PAGE_FAULT: u8 = 14;
/// In a page fault's error code: the page was there, and it was not for that.
const PROTECTION: u64 = 1;

/// A machine could not be made or set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    /// KVM refused.
    #[error(transparent)]
    Kvm(#[from] VmError),
    /// The system gave no memory.
    #[error("no address space for a micro-VM: raise the limit on address space (ulimit -v)")]
    Memory(#[source] vm_memory::mmap::MmapRegionError),
    /// The system would not map what machines share.
    #[error("compiled code can't be mapped into a micro-VM")]
    Shared(#[source] io::Error),
    /// Something has no room among the tables.
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

impl Violation {
    /// The host could not do what the guest may expect. Tables are filled by the guest alone, by scattering its memory.
    fn of_host(error: MachineError) -> Self {
        match error {
            MachineError::Tables(full) => Self::Unexpected(full.to_string()),
            MachineError::Kvm(_)
            | MachineError::Memory(_)
            | MachineError::Shared(_)
            | MachineError::Boot(_) => Self::Kvm(error.to_string()),
        }
    }
}

/// A machine. Fields are dropped in order: the processor before the memory.
#[derive(Debug)]
pub(crate) struct Machine {
    vcpu: Vcpu,
    /// What its guest has a say in.
    pub(crate) memory: GuestMemory,
    /// System registers of ring 3.
    ring3: kvm_sregs,
}

impl Machine {
    /// Makes a machine that is about to run the image's first instruction.
    fn new(hypervisor: &Hypervisor, image: &Image, features: FeatureSet) -> Result<Self, MachineError> {
        let (vcpu, slots) = create(&hypervisor.kvm, &hypervisor.cpuid)?;
        let ground = Ground::lay(slots, &image.shared, guest_memory::CODE_AT, None)?;
        let memory = GuestMemory::of_image(ground, image)?;
        Self::begin(vcpu, memory, IMAGE, features.0.into())
    }

    /// Sets the processor up for that instruction in ring 3.
    fn begin(vcpu: Vcpu, memory: GuestMemory, instruction: u64, argument: u64) -> Result<Self, MachineError> {
        let (tables, descriptors) = (&memory.state.tables, &memory.state.descriptors);
        let ring3 = registers::ring3(&vcpu.system_registers()?, tables.root(), descriptors);
        vcpu.set_system_registers(&ring3)?;
        vcpu.set_registers(&kvm_regs {
            rip: instruction,
            // As if it had been called.
            rsp: STACK + STACK_BYTES - 8,
            rdi: argument,
            rflags: registers::RING3_FLAGS,
            ..Default::default()
        })?;
        Ok(Self { vcpu, memory, ring3 })
    }

    /// Answers the request. False: the answer is too long and was not given.
    pub(crate) fn answer(&mut self, response: &Response) -> bool {
        self.memory.answer(response)
    }

    /// Runs the guest until it asks for something, or is kicked. A request is copied into `buffer` before anybody
    /// looks at it, so that the guest can't change it any more; its length is in the answer.
    pub(crate) fn step(&mut self, kicker: &Kicker, buffer: &mut Vec<u8>) -> Result<Step, Violation> {
        loop {
            match self.vcpu.run(kicker) {
                Exit::Hypercall(length) => return self.memory.fetch(length, buffer).map(Step::Request),
                Exit::Exception(vector) => self.deliver(vector)?,
                Exit::Kicked => return Ok(Step::Kicked),
                Exit::Unexpected(what) => return Err(Violation::Unexpected(what)),
                Exit::Failed(what) => return Err(Violation::Kvm(what)),
            }
        }
    }

    /// Takes an exception of compiled code back to ring 3, where wasmtime makes a trap of it; and a first touch of what
    /// the guest may have back to where it was. Any other exception ends the machine.
    fn deliver(&mut self, vector: u8) -> Result<(), Violation> {
        let kvm = |error: VmError| Violation::Kvm(error.to_string());
        let system = self.vcpu.system_registers().map_err(kvm)?;
        let mut registers = self.vcpu.registers().map_err(kvm)?;
        // Only ring 0 may report, and in ring 0 there is nothing but the stubs.
        if system.cs.selector & 3 != 0 || !STUBS.contains(&registers.rip) {
            return Err(Violation::ForgedException(vector));
        }
        let frame = Frame::read(&self.memory.ground);
        let Frame { instruction, stack, .. } = frame;
        let address = if vector == PAGE_FAULT { system.cr2 } else { 0 };
        let from_ring3 = frame.code_segment & 3 == 3;
        if vector == PAGE_FAULT
            && from_ring3
            && frame.error & PROTECTION == 0
            && self.memory.supply(address).map_err(Violation::of_host)?
        {
            // As if nothing had been.
            (registers.rip, registers.rsp, registers.rflags) = (instruction, stack, frame.flags);
            registers.rax = frame.rax;
            self.vcpu.set_system_registers(&self.ring3).map_err(kvm)?;
            return self.vcpu.set_registers(&registers).map_err(kvm);
        }
        let on_stack = (STACK + PAGE_BYTES..=STACK + STACK_BYTES).contains(&stack);
        if !WASM_EXCEPTIONS.contains(&vector)
            || !from_ring3
            || !on_stack
            || !self.memory.state.text.contains(&instruction)
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
        self.vcpu.set_system_registers(&self.ring3).map_err(kvm)?;
        self.vcpu.set_registers(&registers).map_err(kvm)
    }
}

/// Where a machine stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// With a request of so many bytes, copied out.
    Request(usize),
    /// Because it was kicked.
    Kicked,
}
