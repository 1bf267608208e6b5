//! Whether this machine can run micro-VMs, and if not, what its owner can do.

use std::{ffi::CString, io, os::unix::ffi::OsStrExt as _, path::Path};

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::{Cap, Kvm};
use wasmatrix_microvm_abi::engine::FeatureSet;

/// KVM's interface, unchanged since 2007.
const KVM_API: i32 = 12;
/// What a machine of ours needs of KVM.
const NEEDED: [(Cap, &str); 5] = [
    (Cap::UserMemory, "user memory"),
    (Cap::ReadonlyMem, "read-only memory"),
    (Cap::SyncMmu, "memory that follows its owner's"),
    (Cap::ImmediateExit, "immediate exit"),
    (Cap::ExtCpuid, "extended CPUID"),
];

/// What all machines are made from.
#[derive(Debug)]
pub(crate) struct Hypervisor {
    pub(crate) kvm: Kvm,
    pub(crate) cpuid: CpuId,
    pub(crate) features: FeatureSet,
}

/// Opens KVM.
///
/// # Errors
/// It can't be used; the text says why and what to do.
pub(crate) fn open(path: &Path) -> Result<Hypervisor, String> {
    let shown = path.display();
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| format!("{shown} is no path"))?;
    let kvm = Kvm::new_with_path(name).map_err(|error| refused(path, &io::Error::from(error)))?;
    let version = kvm.get_api_version();
    if version != KVM_API {
        return Err(format!(
            "{shown} speaks version {version} of KVM's interface, and {KVM_API} is needed: it may be no KVM"
        ));
    }
    let missing: Vec<&str> = NEEDED
        .into_iter()
        .filter(|(capability, _)| !kvm.check_extension(*capability))
        .map(|(_, name)| name)
        .collect();
    if !missing.is_empty() {
        return Err(format!("this kernel's KVM has no {}: use a newer kernel", missing.join(", ")));
    }
    let cpuid = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(|error| format!("KVM would not say which processor features it has: {error}"))?;
    Ok(Hypervisor { kvm, cpuid, features: FeatureSet::detect(has_feature) })
}

fn refused(path: &Path, error: &io::Error) -> String {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "there is no {shown}: turn on virtualisation in the firmware, load the module (modprobe kvm_intel or \
             kvm_amd), or, in a virtual machine or container, have the host pass it through"
        ),
        io::ErrorKind::PermissionDenied => {
            format!(
                "{shown} may not be opened by this user: add the user to the group kvm, or run as one that may"
            )
        }
        _ => {
            format!("{shown} could not be opened ({error}): check that it is KVM's device and that KVM works")
        }
    }
}

/// Whether the processor has it. KVM is not asked: some show a bare minimum and run everything all the same, and
/// none of these instructions can be taken away from ring 3.
fn has_feature(name: &str) -> bool {
    match name {
        "sse3" => is_x86_feature_detected!("sse3"),
        "ssse3" => is_x86_feature_detected!("ssse3"),
        "sse4.1" => is_x86_feature_detected!("sse4.1"),
        "sse4.2" => is_x86_feature_detected!("sse4.2"),
        "popcnt" => is_x86_feature_detected!("popcnt"),
        "cmpxchg16b" => is_x86_feature_detected!("cmpxchg16b"),
        "bmi1" => is_x86_feature_detected!("bmi1"),
        "bmi2" => is_x86_feature_detected!("bmi2"),
        "lzcnt" => is_x86_feature_detected!("lzcnt"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_kvm_is_told_what_to_do() {
        let directory = std::env::temp_dir();
        let message = open(&directory.join("no-such-kvm")).unwrap_err();
        assert!(message.contains("modprobe"), "{message}");
        let message = open(Path::new("/dev/null")).unwrap_err();
        assert!(message.contains("may be no KVM"), "{message}");
        let message = open(&directory).unwrap_err();
        assert!(message.contains("could not be opened"), "{message}");
    }
}
