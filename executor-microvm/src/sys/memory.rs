//! Memory that machines are lent: stretches of their own, and contents that they share and nobody can change.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::AsRawFd as _,
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use vm_memory::{Bytes as _, MmapRegion, VolatileMemory as _, mmap::MmapRegionError};
use wasmatrix_microvm_abi::layout::{LARGE_PAGE_BYTES, PAGE_BYTES};

/// Memory of ours that machines may be lent: zeroed, private, taken from the system when it is first touched. It begins
/// where a large page may.
#[derive(Debug)]
pub(crate) struct Memory {
    region: MmapRegion<()>,
    /// Where in the region it begins.
    start: usize,
    bytes: usize,
}

impl Memory {
    /// So many bytes.
    ///
    /// # Errors
    /// There is no address space for them.
    pub(crate) fn new(bytes: u64) -> Result<Self, MmapRegionError> {
        let room = bytes.saturating_add(LARGE_PAGE_BYTES);
        let region = MmapRegion::new(usize::try_from(room).unwrap_or(usize::MAX))?;
        let start = region.as_ptr().align_offset(LARGE_PAGE_BYTES as usize);
        let bytes = region.size() - LARGE_PAGE_BYTES as usize;
        Ok(Self { region, start, bytes })
    }

    /// Its length, in bytes.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Its first byte.
    pub(super) fn address(&self) -> *mut u8 {
        self.region.as_ptr().wrapping_add(self.start)
    }

    /// The part that begins there and has so many bytes, as far as there is such a part.
    fn part(&self, at: u64, bytes: u64) -> Option<(*mut libc::c_void, usize)> {
        let (at, bytes) = (usize::try_from(at).ok()?, usize::try_from(bytes).ok()?);
        let end = at.checked_add(bytes).filter(|end| *end <= self.bytes)?;
        (end > at).then(|| (self.address().wrapping_add(at).cast(), bytes))
    }

    /// Reads bytes. False: they are not all within.
    pub(crate) fn read(&self, at: u64, bytes: &mut [u8]) -> bool {
        let within = bytes.is_empty() || self.part(at, bytes.len() as u64).is_some();
        within && self.region.as_volatile_slice().read_slice(bytes, self.start + at as usize).is_ok()
    }

    /// Writes bytes. False: they are not all within. Never to be used where something is laid over it.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> bool {
        let within = bytes.is_empty() || self.part(at, bytes.len() as u64).is_some();
        within && self.region.as_volatile_slice().write_slice(bytes, self.start + at as usize).is_ok()
    }

    /// Lays shared contents over a part that begins at a page: who touches that part reads them, and who writes it, we
    /// or a machine, fails.
    ///
    /// # Errors
    /// There is no such part, or the system has no room for another mapping.
    pub(crate) fn overlay(&self, at: u64, shared: &Shared) -> io::Result<()> {
        let (start, bytes) = self.part(at, shared.bytes).ok_or(io::ErrorKind::InvalidInput)?;
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        // SAFETY: the range is within a mapping of ours, which unmaps all of it when it is dropped, whatever lies
        // there. Nobody has a reference into it: it is only accessed through volatile slices, and never again written.
        let mapped = unsafe { libc::mmap(start, bytes, libc::PROT_READ, flags, shared.file.as_raw_fd(), 0) };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        self.advise(at, shared.bytes, libc::MADV_POPULATE_READ);
        Ok(())
    }

    /// Takes pages from the system before a guest touches them: on some hosts that costs a tenth. A system that does
    /// not know how, or has no memory now, leaves them to be taken later.
    pub(crate) fn populate(&self, at: u64, bytes: u64) {
        self.advise(at, bytes, libc::MADV_POPULATE_WRITE);
    }

    /// Has that part consist of large pages, where the system has some.
    pub(crate) fn prefer_large_pages(&self, at: u64, bytes: u64) {
        self.advise(at, bytes, libc::MADV_HUGEPAGE);
    }

    fn advise(&self, at: u64, bytes: u64, advice: libc::c_int) {
        let Some((start, bytes)) = self.part(at, bytes) else { return };
        // SAFETY: the range is within a mapping of ours; its contents stay as they are.
        let _without = unsafe { libc::madvise(start, bytes, advice) };
    }

    /// Forbids us, and everybody whom it is lent, to write it from now on.
    ///
    /// # Errors
    /// The system would not have it.
    pub(crate) fn freeze(self) -> io::Result<Frozen> {
        let start = self.address().cast();
        // SAFETY: the range is a whole mapping of ours, and nobody has a reference into it.
        let done = unsafe { libc::mprotect(start, self.bytes, libc::PROT_READ) };
        if done == 0 { Ok(Frozen(self)) } else { Err(io::Error::last_os_error()) }
    }
}

/// Memory that is only read.
#[derive(Debug)]
pub(crate) struct Frozen(Memory);

impl Frozen {
    /// Its length, in bytes.
    pub(crate) const fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    /// Its first byte.
    pub(super) fn address(&self) -> *mut u8 {
        self.0.address()
    }
}

/// Contents that any number of machines read. They are sealed: nobody can write them any more, not even we.
#[derive(Debug)]
pub(crate) struct Shared {
    file: File,
    bytes: u64,
}

impl Shared {
    /// Those contents, and zeroes to the end of the page.
    ///
    /// # Errors
    /// The system has no memory or no file left for them.
    pub(crate) fn new(contents: &[u8]) -> io::Result<Self> {
        let file = memfd_create("wasmatrix-shared", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = File::from(file);
        let bytes = (contents.len() as u64).next_multiple_of(PAGE_BYTES);
        file.write_all(contents)?;
        file.set_len(bytes)?;
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        Ok(Self { file, bytes })
    }

    /// Their length, in bytes: whole pages.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }
}
