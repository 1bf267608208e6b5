//! A virtual machine with one vCPU, and the memory lent to it.

use std::sync::Arc;

use kvm_bindings::{CpuId, KVM_MEM_READONLY, kvm_regs, kvm_sregs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use wasmatrix_microvm_abi::layout::{HYPERCALL_PORT, TRAP_PORT};

use super::{Frozen, Kicker, Memory};

/// Why the vCPU stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The guest asks for something, in a request of that length.
    Hypercall(u32),
    /// The ring-0 stub reports an exception. Or ring 3 pretends to be it: see `Machine`.
    Exception(u8),
    /// It was kicked.
    Kicked,
    /// It did something that no guest of ours does.
    Unexpected(String),
    /// KVM could not run it.
    Failed(String),
}

/// KVM refused something.
#[derive(Debug, thiserror::Error)]
#[error("KVM would not {what}")]
pub(crate) struct VmError {
    what: &'static str,
    source: kvm_ioctls::Error,
}

impl VmError {
    fn of(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> Self {
        move |source| Self { what, source }
    }
}

/// A machine's one processor.
#[derive(Debug)]
pub(crate) struct Vcpu(VcpuFd);

/// A machine's memory, as KVM knows it. Fields are dropped in order: the machine before the memory that was lent to it.
#[derive(Debug)]
pub(crate) struct Slots {
    vm: VmFd,
    count: u32,
    lent: Vec<Lent>,
}

/// What must outlive the machine.
#[derive(Debug)]
enum Lent {
    Memory { _own: Arc<Memory> },
    Frozen { _shared: Arc<Frozen> },
}

/// Makes a machine without memory.
///
/// # Errors
/// KVM would not.
pub(crate) fn create(kvm: &Kvm, cpuid: &CpuId) -> Result<(Vcpu, Slots), VmError> {
    let vm = kvm.create_vm().map_err(VmError::of("create a virtual machine"))?;
    let vcpu = vm.create_vcpu(0).map_err(VmError::of("create a virtual processor"))?;
    vcpu.set_cpuid2(cpuid).map_err(VmError::of("set the processor's features"))?;
    Ok((Vcpu(vcpu), Slots { vm, count: 0, lent: Vec::new() }))
}

impl Slots {
    /// Lends the machine memory at a physical address. It is given back when the machine is dropped.
    ///
    /// KVM waits here until no processor looks at the machine's memory as it was, which on a busy host can take
    /// milliseconds: few calls are better than many.
    pub(crate) fn lend(&mut self, memory: Arc<Memory>, physical: u64) -> Result<(), VmError> {
        self.set_slot(memory.address(), memory.bytes(), physical, 0)?;
        self.lent.push(Lent::Memory { _own: memory });
        Ok(())
    }

    /// Lends the machine memory that it can only read, as [`Self::lend`] does.
    pub(crate) fn lend_frozen(&mut self, memory: Arc<Frozen>, physical: u64) -> Result<(), VmError> {
        self.set_slot(memory.address(), memory.bytes(), physical, KVM_MEM_READONLY)?;
        self.lent.push(Lent::Frozen { _shared: memory });
        Ok(())
    }

    fn set_slot(&mut self, start: *mut u8, bytes: u64, physical: u64, flags: u32) -> Result<(), VmError> {
        let region = kvm_userspace_memory_region {
            slot: self.count,
            flags,
            guest_phys_addr: physical,
            memory_size: bytes,
            userspace_addr: start.expose_provenance() as u64,
        };
        // SAFETY: the range is a whole mapping of ours, which stays where it is until `lent` drops it, after the
        // machine. Nobody has a reference into it: it is only accessed through volatile slices, whatever the guest
        // does to it at the same time. What is shared in it is mapped read-only, and the guest's writes fail there.
        unsafe { self.vm.set_user_memory_region(region) }.map_err(VmError::of("map memory"))?;
        self.count += 1;
        Ok(())
    }
}

impl Vcpu {
    /// Runs the vCPU until it stops.
    pub(crate) fn run(&mut self, kicker: &Kicker) -> Exit {
        let Some(seat) = kicker.take_seat(&mut self.0) else { return Exit::Kicked };
        let exit = match self.0.run() {
            Ok(VcpuExit::IoOut(HYPERCALL_PORT, &[a, b, c, d])) => {
                Exit::Hypercall(u32::from_le_bytes([a, b, c, d]))
            }
            Ok(VcpuExit::IoOut(port, &[vector])) if port == u16::from(TRAP_PORT) => Exit::Exception(vector),
            Ok(VcpuExit::FailEntry(reason, _)) => {
                Exit::Failed(format!("KVM could not enter the processor, for reason {reason:#x}"))
            }
            Ok(other) => Exit::Unexpected(format!("the processor stopped with {other:?}")),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Exit::Kicked,
            Err(error) => Exit::Failed(format!("KVM could not run the processor: {error}")),
        };
        drop(seat);
        exit
    }

    /// The general registers.
    pub(crate) fn registers(&self) -> Result<kvm_regs, VmError> {
        self.0.get_regs().map_err(VmError::of("show the registers"))
    }

    /// Sets the general registers.
    pub(crate) fn set_registers(&self, registers: &kvm_regs) -> Result<(), VmError> {
        self.0.set_regs(registers).map_err(VmError::of("set the registers"))
    }

    /// The system registers.
    pub(crate) fn system_registers(&self) -> Result<kvm_sregs, VmError> {
        self.0.get_sregs().map_err(VmError::of("show the system registers"))
    }

    /// Sets the system registers.
    pub(crate) fn set_system_registers(&self, registers: &kvm_sregs) -> Result<(), VmError> {
        self.0.set_sregs(registers).map_err(VmError::of("set the system registers"))
    }
}
