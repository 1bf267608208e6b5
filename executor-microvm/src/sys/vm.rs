//! A virtual machine with one vCPU, and the memory lent to it.

use std::sync::Arc;

use kvm_bindings::{CpuId, KVM_MEM_READONLY, kvm_regs, kvm_sregs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::MmapRegion;
use wasmatrix_microvm_abi::layout::{HYPERCALL_PORT, TRAP_PORT};

use super::Kicker;

/// Memory of ours that machines may be lent: zeroed, private, taken from the system when it is first touched.
pub(crate) type Memory = MmapRegion<()>;

/// Takes pages from the system before a guest touches them: on some hosts that costs a tenth. A system that does not
/// know how leaves them to be taken later.
pub(crate) fn populate(memory: &Memory, at: u64, bytes: u64) {
    let (Ok(at), Ok(bytes)) = (usize::try_from(at), usize::try_from(bytes)) else { return };
    let bytes = bytes.min(memory.size().saturating_sub(at));
    if bytes == 0 {
        return;
    }
    // SAFETY: the offset is within the mapping.
    let start = unsafe { memory.as_ptr().add(at) };
    // SAFETY: the range is within a mapping of ours; its contents stay as they are.
    let _unknown_to_old_kernels = unsafe { libc::madvise(start.cast(), bytes, libc::MADV_POPULATE_WRITE) };
}

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

/// One machine. Fields are dropped in order: the machine before the memory that was lent to it.
#[derive(Debug)]
pub(crate) struct Vm {
    vcpu: VcpuFd,
    vm: VmFd,
    lent: Vec<Arc<Memory>>,
}

impl Vm {
    /// A machine without memory.
    pub(crate) fn new(kvm: &Kvm, cpuid: &CpuId) -> Result<Self, VmError> {
        let vm = kvm.create_vm().map_err(VmError::of("create a virtual machine"))?;
        let vcpu = vm.create_vcpu(0).map_err(VmError::of("create a virtual processor"))?;
        vcpu.set_cpuid2(cpuid).map_err(VmError::of("set the processor's features"))?;
        Ok(Self { vcpu, vm, lent: Vec::new() })
    }

    /// Lends the machine memory at a physical address. It is given back when the machine is dropped.
    pub(crate) fn lend(
        &mut self,
        memory: Arc<Memory>,
        physical: u64,
        read_only: bool,
    ) -> Result<(), VmError> {
        let region = kvm_userspace_memory_region {
            slot: u32::try_from(self.lent.len()).unwrap_or(u32::MAX),
            flags: if read_only { KVM_MEM_READONLY } else { 0 },
            guest_phys_addr: physical,
            memory_size: memory.size() as u64,
            userspace_addr: memory.as_ptr().expose_provenance() as u64,
        };
        // SAFETY: the range is a whole mapping of ours, which stays where it is until `lent` drops it, after the
        // machine. Nobody has a reference into it: it is only accessed through volatile slices, whatever the guest
        // does to it at the same time. A read-only slot is never written by the guest.
        unsafe { self.vm.set_user_memory_region(region) }.map_err(VmError::of("map memory"))?;
        self.lent.push(memory);
        Ok(())
    }

    /// Runs the vCPU until it stops.
    pub(crate) fn run(&mut self, kicker: &Kicker) -> Exit {
        let Some(seat) = kicker.take_seat(&mut self.vcpu) else { return Exit::Kicked };
        let exit = match self.vcpu.run() {
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
        self.vcpu.get_regs().map_err(VmError::of("show the registers"))
    }

    /// Sets the general registers.
    pub(crate) fn set_registers(&self, registers: &kvm_regs) -> Result<(), VmError> {
        self.vcpu.set_regs(registers).map_err(VmError::of("set the registers"))
    }

    /// The system registers.
    pub(crate) fn system_registers(&self) -> Result<kvm_sregs, VmError> {
        self.vcpu.get_sregs().map_err(VmError::of("show the system registers"))
    }

    /// Sets the system registers.
    pub(crate) fn set_system_registers(&self, registers: &kvm_sregs) -> Result<(), VmError> {
        self.vcpu.set_sregs(registers).map_err(VmError::of("set the system registers"))
    }
}
