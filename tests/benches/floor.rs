//! The least that a micro-VM can be: one processor, one stretch of memory, a loop of two instructions in ring 3.
//! What KVM itself costs on this machine, for the executor to be measured against.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::{Bytes as _, MmapRegion, VolatileMemory as _};

const MEMORY_BYTES: usize = 64 << 20;
/// Page tables: the first 2 MiB are mapped to themselves, by one large page that ring 3 may use.
const TABLES: [u64; 3] = [0x1000, 0x2000, 0x3000];
const GDT: u64 = 0x500;
/// All zeroes. So is its map of ports, which says that ring 3 may use them.
const TSS: u64 = 0x600;
const CODE: u64 = 0x1_0000;
const PORT: u16 = 0x10;
/// `out PORT, eax`, and again.
const LOOP: [u8; 4] = [0xe7, PORT as u8, 0xeb, 0xfc];
/// Lets ring 3 use ports where the map is not looked at.
const RFLAGS: u64 = 3 << 12 | 2;

/// What bare machines are made from.
pub(crate) struct Floor {
    kvm: Kvm,
    cpuid: CpuId,
}

/// A bare machine. Fields are dropped in order: the machine before its memory.
pub(crate) struct BareVm {
    vcpu: VcpuFd,
    _vm: VmFd,
    _memory: MmapRegion<()>,
}

impl Floor {
    /// `None`: there is no KVM that can be used.
    pub(crate) fn new() -> Option<Self> {
        let kvm = Kvm::new().ok()?;
        let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).ok()?;
        Some(Self { kvm, cpuid })
    }

    /// A machine that has not run yet.
    pub(crate) fn machine(&self) -> Result<BareVm, kvm_ioctls::Error> {
        let memory = MmapRegion::<()>::new(MEMORY_BYTES).expect("64 MiB of address space");
        let [pml4, pdpt, directory] = TABLES;
        for (at, entry) in [
            (pml4, pdpt | 7),
            (pdpt, directory | 7),
            (directory, 0x87),
            (GDT + 0x18, 0x00cf_f300_0000_ffff),
            (GDT + 0x20, 0x00af_fb00_0000_ffff),
            (GDT + 0x28, 0x67 | TSS << 16 | 0x89 << 40),
        ] {
            memory.as_volatile_slice().write_obj(entry, at as usize).expect("it is within the memory");
        }
        memory.as_volatile_slice().write_slice(&LOOP, CODE as usize).expect("it is within the memory");

        let vm = self.kvm.create_vm()?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: MEMORY_BYTES as u64,
            userspace_addr: memory.as_ptr().expose_provenance() as u64,
        };
        #[expect(unsafe_code, reason = "memory is lent to a machine, as any user of KVM must")]
        // SAFETY: the region is a whole mapping of ours that is dropped after the machine and has no references into it.
        unsafe {
            vm.set_user_memory_region(region)?;
        }
        let vcpu = vm.create_vcpu(0)?;
        vcpu.set_cpuid2(&self.cpuid)?;
        enter_ring3(&vcpu)?;
        Ok(BareVm { vcpu, _vm: vm, _memory: memory })
    }
}

impl BareVm {
    /// Runs to the next exit.
    pub(crate) fn exit(&mut self) {
        let exit = self.vcpu.run();
        assert!(matches!(exit, Ok(VcpuExit::IoOut(PORT, _))), "the bare machine stopped with {exit:?}");
    }
}

/// 64-bit mode, ring 3, at the code's first instruction.
fn enter_ring3(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let segment = |selector, type_, l, db| kvm_segment {
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        dpl: 3,
        db,
        s: 1,
        l,
        g: 1,
        ..Default::default()
    };
    let mut system = vcpu.get_sregs()?;
    (system.cr0, system.cr3, system.cr4, system.efer) = (0x8001_0023, TABLES[0], 0x620, 0x500);
    system.cs = segment(0x23, 11, 1, 0);
    let data = segment(0x1b, 3, 0, 1);
    (system.ds, system.es, system.fs, system.gs, system.ss) = (data, data, data, data, data);
    system.tr =
        kvm_segment { base: TSS, limit: 0x67, selector: 0x28, type_: 11, present: 1, ..Default::default() };
    (system.gdt.base, system.gdt.limit) = (GDT, 0x37);
    vcpu.set_sregs(&system)?;
    vcpu.set_regs(&kvm_regs { rip: CODE, rsp: CODE, rflags: RFLAGS, ..Default::default() })
}
