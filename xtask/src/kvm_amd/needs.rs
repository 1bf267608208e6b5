//! What the emulated machine needs of the host: programs from its packages, and a kernel, kept in a cache.

use std::{
    env,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    tools,
    workspace::{execute, output_of},
};

/// The modules that make `/dev/kvm`, in the order in which they need each other.
pub const MODULES: [&str; 3] = ["irqbypass", "kvm", "kvm-amd"];

/// Always the latest kernel for virtual machines: it comes with few drivers, and needs none of them here.
const LATEST: &str = "linux-image-cloud-amd64";

/// A program and the Debian package that it comes in.
const QEMU: (&str, &str) = ("qemu-system-x86_64", "qemu-system-x86");
const BUSYBOX: (&str, &str) = ("busybox", "busybox-static");
const SETPRIV: (&str, &str) = ("setpriv", "util-linux");

/// Where the programs are.
#[derive(Debug)]
pub struct Programs {
    /// The emulator.
    pub qemu: PathBuf,
    /// What the emulated machine mounts and switches itself off with.
    pub busybox: PathBuf,
    /// What ties the emulator's life to ours.
    pub setpriv: PathBuf,
}

/// Finds the programs. In CI, as root, those that are missing are installed first.
///
/// # Errors
/// One is missing; the message says what to install.
pub fn programs() -> Result<Programs> {
    let mut missing = vec![QEMU, BUSYBOX, SETPRIV];
    missing.retain(|(program, _)| tools::find(program).is_none());
    let (names, packages): (Vec<&str>, Vec<&str>) = missing.into_iter().unzip();
    if !packages.is_empty() && tools::may_install()? {
        let options = ["install", "--yes", "--no-install-recommends"];
        execute(Command::new("apt-get").args(options).args(&packages))?;
    } else if !packages.is_empty() {
        bail!("not installed here: {}. On Debian: apt-get install {}", names.join(", "), packages.join(" "));
    }
    let program =
        |(program, package)| tools::find(program).with_context(|| format!("{package} brought no {program}"));
    Ok(Programs { qemu: program(QEMU)?, busybox: program(BUSYBOX)?, setpriv: program(SETPRIV)? })
}

/// Whether [`programs`] and [`Cache::kernel`] would find or get what they look for, the network permitting.
///
/// # Errors
/// `/proc` can't be read.
pub fn are_obtainable() -> Result<bool> {
    let present = [QEMU, BUSYBOX, SETPRIV].into_iter().all(|(program, _)| tools::find(program).is_some());
    Ok(tools::find("apt-get").is_some() && (present || tools::may_install()?))
}

/// A folder below the user's cache, ours alone while this lives: kernels, each in a folder named as its package, and
/// the initramfs of the run.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    /// Held, never read: two emulated machines at a time would only wait for each other.
    _lock: File,
}

impl Cache {
    /// Opens it, and waits for another run to end if there is one.
    ///
    /// # Errors
    /// It can't be made or locked.
    pub fn open() -> Result<Self> {
        let home = env::home_dir().context("there is no home folder to keep a kernel in: set HOME")?;
        Self::at(home.join(".cache/wasmatrix/kvm-amd"))
    }

    fn at(folder: PathBuf) -> Result<Self> {
        let said = || format!("can't use the cache {}", folder.display());
        fs::create_dir_all(&folder).with_context(said)?;
        let lock = File::create(folder.join("lock")).with_context(said)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                println!("another run is under way; waiting for its end");
                lock.lock().with_context(said)?;
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(said),
        }
        Ok(Self { folder, _lock: lock })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The kernel that is there, or the latest one, downloaded. A newer one comes when the folder is removed.
    ///
    /// # Errors
    /// There is none, and apt is missing or knows or gets none.
    pub fn kernel(&self) -> Result<Kernel> {
        if let Some(kernel) = self.downloaded()? {
            return Ok(kernel);
        }
        if tools::find("apt-get").is_none() {
            bail!(
                "the kernel comes from Debian's packages, and there is no apt-get here: use Debian or its container"
            );
        }
        self.download().with_context(|| {
            format!("can't get Debian's kernel ({LATEST}): is this Debian, and is `apt-get update` recent?")
        })?;
        self.downloaded()?.with_context(|| format!("the package of {LATEST} holds no kernel"))
    }

    fn downloaded(&self) -> Result<Option<Kernel>> {
        for entry in fs::read_dir(&self.folder)? {
            let folder = entry?.path();
            if !folder.join("boot").is_dir() {
                continue;
            }
            for entry in fs::read_dir(folder.join("boot"))? {
                let image = entry?.path();
                if image.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-")) {
                    return Ok(Some(Kernel { folder, image }));
                }
            }
        }
        Ok(None)
    }

    /// Takes the package apart beside its place and moves it there whole: what is there can be trusted.
    fn download(&self) -> Result<()> {
        let told = output_of(Command::new("apt-cache").args(["depends", LATEST]))?;
        let package = dependency(&String::from_utf8_lossy(&told)).context("apt knows no such package")?;
        println!("downloading {package}");
        let partial = self.folder.join("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        let unpacked = partial.join("unpacked");
        fs::create_dir_all(&unpacked)?;
        execute(Command::new("apt-get").args(["download", "--quiet", &package]).current_dir(&partial))?;
        for entry in fs::read_dir(&partial)? {
            let file = entry?.path();
            if file.extension().is_some_and(|kind| kind == "deb") {
                execute(Command::new("dpkg").arg("--extract").arg(file).arg(&unpacked))?;
            }
        }
        fs::rename(&unpacked, self.folder.join(&package))?;
        Ok(fs::remove_dir_all(&partial)?)
    }
}

/// The kernel's own package, which the package that is always the latest depends on.
fn dependency(told: &str) -> Option<String> {
    let packages = told.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    packages.map(str::trim).find(|package| package.starts_with("linux-image-")).map(str::to_owned)
}

/// A kernel's package, unpacked.
#[derive(Debug)]
pub struct Kernel {
    folder: PathBuf,
    /// What is booted.
    pub image: PathBuf,
}

impl Kernel {
    /// Its file's name, which ends in its version.
    pub fn name(&self) -> String {
        self.image.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// A module's content, unpacked if the distribution packs them.
    ///
    /// # Errors
    /// There is no such module, or it can't be read.
    pub fn module(&self, name: &str) -> Result<Vec<u8>> {
        let (plain, packed) = (format!("{name}.ko"), format!("{name}.ko.xz"));
        let found = find(&self.folder, &[&plain, &packed])?;
        let path = found.with_context(|| format!("{} has no module {name}", self.folder.display()))?;
        if path.extension().is_some_and(|kind| kind == "xz") {
            return output_of(Command::new("xz").args(["--decompress", "--stdout"]).arg(path));
        }
        fs::read(&path).with_context(|| format!("can't read {}", path.display()))
    }
}

/// A file of one of these names, however deep in a folder.
fn find(folder: &Path, names: &[&str]) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))? {
        let entry = entry?;
        // Links lead out of the package, so they are not followed.
        if entry.file_type()?.is_dir() {
            if let Some(found) = find(&entry.path(), names)? {
                return Ok(Some(found));
            }
        } else if names.iter().any(|name| entry.file_name() == *name) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_what_the_latest_depends_on() {
        let told = "linux-image-cloud-amd64\n  Depends: initramfs-tools\n  Depends: linux-image-6.1.0-9-cloud-amd64\n";
        assert_eq!(dependency(told).as_deref(), Some("linux-image-6.1.0-9-cloud-amd64"));
        assert_eq!(dependency("linux-image-cloud-amd64\n"), None);
    }

    #[test]
    fn a_kernel_is_found_with_its_modules_and_half_a_download_is_not() {
        let folder = env::temp_dir().join(format!("wasmatrix-kvm-amd-{}", std::process::id()));
        let cache = Cache::at(folder.clone()).unwrap();
        fs::create_dir_all(folder.join("partial/unpacked/boot")).unwrap();
        fs::write(folder.join("partial/unpacked/boot/vmlinuz-1"), "").unwrap();
        assert!(cache.downloaded().unwrap().is_none());

        let modules = folder.join("linux-image-1/lib/modules/1/kernel");
        fs::create_dir_all(&modules).unwrap();
        fs::create_dir_all(folder.join("linux-image-1/boot")).unwrap();
        fs::write(folder.join("linux-image-1/boot/config-1"), "").unwrap();
        fs::write(folder.join("linux-image-1/boot/vmlinuz-1"), "").unwrap();
        fs::write(modules.join("kvm.ko"), "module").unwrap();
        let kernel = cache.kernel().unwrap();
        assert_eq!(kernel.name(), "vmlinuz-1");
        assert_eq!(kernel.module("kvm").unwrap(), b"module");
        assert!(kernel.module("kvm-amd").is_err());
        fs::remove_dir_all(&folder).unwrap();
    }
}
