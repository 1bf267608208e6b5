//! A machine's page tables. They lie in its private memory, where no virtual address leads.
//!
//! Pages are only ever made present, never changed: that needs no flush, whatever the processor has cached.

use std::sync::Arc;

use vm_memory::{Bytes, VolatileMemory};
use wasmatrix_microvm_abi::layout::{LARGE_PAGE_BYTES, PAGE_BYTES, PRIVATE_PHYSICAL};

use crate::sys::Memory;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const RING3: u64 = 1 << 2;
/// Set beforehand, so that the processor, or a KVM in its stead, need not.
const USED: u64 = 1 << 5 | 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Rights are decided by the last table alone.
const TABLE: u64 = PRESENT | WRITABLE | RING3 | USED;

/// What may be done with a page. No value allows both writing and executing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access(u64);

impl Access {
    /// Ring 3 executes and reads it.
    pub(super) const CODE: Self = Self(PRESENT | USED | RING3);
    /// Ring 3 reads it.
    pub(super) const CONSTANT: Self = Self(PRESENT | USED | RING3 | NO_EXECUTE);
    /// Ring 3 reads and writes it.
    pub(super) const DATA: Self = Self(PRESENT | USED | RING3 | WRITABLE | NO_EXECUTE);
    /// Ring 0 executes it.
    pub(super) const STUB: Self = Self(PRESENT | USED);
    /// Ring 0 reads it.
    pub(super) const DESCRIPTOR: Self = Self(PRESENT | USED | NO_EXECUTE);
    /// Ring 0 reads and writes it.
    pub(super) const RING0_STACK: Self = Self(PRESENT | USED | WRITABLE | NO_EXECUTE);
}

/// There is no room for another table, or a page is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a micro-VM's page tables are full, or have that page already")]
pub(crate) struct OutOfTables;

/// The tables, and the small things that lie beside them.
#[derive(Debug)]
pub(super) struct Tables {
    private: Arc<Memory>,
    root: u64,
    next: u64,
    end: u64,
}

impl Tables {
    /// Tables that map nothing, in the first `bytes` of private memory.
    pub(super) fn new(private: Arc<Memory>, bytes: u64) -> Result<Self, OutOfTables> {
        let mut tables = Self { private, root: 0, next: PAGE_BYTES, end: bytes };
        tables.root = tables.allocate(PAGE_BYTES)?;
        Ok(tables)
    }

    /// The physical address of the first table.
    pub(super) const fn root(&self) -> u64 {
        PRIVATE_PHYSICAL + self.root
    }

    /// Takes zeroed pages and says where in private memory they are.
    pub(super) fn allocate(&mut self, bytes: u64) -> Result<u64, OutOfTables> {
        let at = self.next;
        let end = at.checked_add(bytes).filter(|end| *end <= self.end).ok_or(OutOfTables)?;
        self.next = end;
        Ok(at)
    }

    /// Writes into private memory.
    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> Result<(), OutOfTables> {
        let at = usize::try_from(at).map_err(|_| OutOfTables)?;
        self.private.as_volatile_slice().write_slice(bytes, at).map_err(|_| OutOfTables)
    }

    /// Reads a number from private memory.
    pub(super) fn read(&self, at: u64) -> Result<u64, OutOfTables> {
        let at = usize::try_from(at).map_err(|_| OutOfTables)?;
        self.private.as_volatile_slice().read_obj(at).map_err(|_| OutOfTables)
    }

    /// Makes small pages present.
    pub(super) fn map(
        &mut self,
        address: u64,
        physical: u64,
        bytes: u64,
        access: Access,
    ) -> Result<(), OutOfTables> {
        let mut done = 0;
        while done < bytes {
            // As many as one table holds.
            let table = self.table(address + done, 1)?;
            let first = index(address + done, 0);
            let count = (512 - first).min((bytes - done).div_ceil(PAGE_BYTES));
            for page in 0..count {
                let target = physical + done + page * PAGE_BYTES;
                self.fill(table + (first + page) * 8, target | access.0)?;
            }
            done += count * PAGE_BYTES;
        }
        Ok(())
    }

    /// Makes large pages present.
    pub(super) fn map_large(
        &mut self,
        address: u64,
        physical: u64,
        bytes: u64,
        access: Access,
    ) -> Result<(), OutOfTables> {
        for done in (0..bytes).step_by(LARGE_PAGE_BYTES as usize) {
            let table = self.table(address + done, 2)?;
            self.fill(table + index(address + done, 1) * 8, (physical + done) | access.0 | LARGE)?;
        }
        Ok(())
    }

    /// Where the table of that level is; it is made if need be, and those above it.
    fn table(&mut self, address: u64, level: u32) -> Result<u64, OutOfTables> {
        let mut table = self.root;
        for level in (level..=3).rev() {
            let entry = table + index(address, level) * 8;
            let value = self.read(entry)?;
            table = match value & PRESENT {
                0 => {
                    let table = self.allocate(PAGE_BYTES)?;
                    self.fill(entry, (PRIVATE_PHYSICAL + table) | TABLE)?;
                    table
                }
                _ if value & LARGE != 0 => return Err(OutOfTables),
                _ => (value & ADDRESS) - PRIVATE_PHYSICAL,
            };
        }
        Ok(table)
    }

    /// Sets an entry that is empty.
    fn fill(&self, at: u64, value: u64) -> Result<(), OutOfTables> {
        if self.read(at)? != 0 {
            return Err(OutOfTables);
        }
        self.write(at, &value.to_le_bytes())
    }
}

#[cfg(any(test, fuzzing))]
impl Tables {
    /// Every page that a processor would find: its address, its entry, and its length in bytes.
    pub(super) fn pages(&self) -> Vec<(u64, u64, u64)> {
        let mut pages = Vec::new();
        let mut tables = vec![(self.root, 0, 3)];
        while let Some((table, start, level)) = tables.pop() {
            for slot in 0..512 {
                let entry = self.read(table + slot * 8).expect("tables lie within private memory");
                let address = start | slot << (12 + 9 * level);
                match entry & PRESENT {
                    0 => {}
                    _ if level == 0 || entry & LARGE != 0 => {
                        pages.push((address, entry, PAGE_BYTES << (9 * level)))
                    }
                    _ => tables.push(((entry & ADDRESS) - PRIVATE_PHYSICAL, address, level - 1)),
                }
            }
        }
        pages
    }

    /// The physical addresses of the tables themselves.
    #[cfg(test)]
    pub(super) fn own_pages(&self) -> Vec<u64> {
        let mut found = vec![self.root()];
        let mut tables = vec![(self.root, 3)];
        while let Some((table, level)) = tables.pop() {
            for slot in 0..512 {
                let entry = self.read(table + slot * 8).unwrap();
                if entry & PRESENT != 0 && level > 0 && entry & LARGE == 0 {
                    found.push(entry & ADDRESS);
                    tables.push(((entry & ADDRESS) - PRIVATE_PHYSICAL, level - 1));
                }
            }
        }
        found
    }
}

/// Which entry of the table of that level leads to the address; level 0 is the last.
const fn index(address: u64, level: u32) -> u64 {
    address >> (12 + 9 * level) & 511
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 64 * PAGE_BYTES;

    fn tables() -> Tables {
        Tables::new(Arc::new(Memory::new(SIZE as usize).unwrap()), SIZE).unwrap()
    }

    /// Walks the tables as a processor does.
    fn walk(tables: &Tables, address: u64) -> Option<u64> {
        let mut table = tables.root();
        for level in (0..=3).rev() {
            let entry = tables.read(table + index(address, level) * 8).unwrap();
            if entry & PRESENT == 0 {
                return None;
            }
            if level == 0 || entry & LARGE != 0 {
                return Some(entry);
            }
            table = entry & ADDRESS;
        }
        None
    }

    #[test]
    fn pages_are_found_where_they_were_put_and_nowhere_else() {
        let mut tables = tables();
        tables.map(0x1f_f000, 0x5000, 2 * PAGE_BYTES, Access::DATA).unwrap();
        assert_eq!(walk(&tables, 0x1f_f000).unwrap() & ADDRESS, 0x5000);
        assert_eq!(walk(&tables, 0x20_0000).unwrap() & ADDRESS, 0x6000, "the next table");
        for absent in [0, 0x1f_e000, 0x20_1000, 0x10_0000_0000] {
            assert_eq!(walk(&tables, absent), None, "{absent:#x}");
        }
        tables.map_large(0x4000_0000, 0x20_0000, LARGE_PAGE_BYTES, Access::DATA).unwrap();
        assert_eq!(walk(&tables, 0x401f_ffff).unwrap() & ADDRESS, 0x20_0000);
    }

    #[test]
    fn a_page_is_never_mapped_twice_and_tables_end() {
        let mut tables = tables();
        tables.map(0x1000, 0x5000, PAGE_BYTES, Access::DATA).unwrap();
        assert_eq!(tables.map(0x1000, 0x9000, PAGE_BYTES, Access::CODE), Err(OutOfTables));
        assert_eq!(tables.map(1 << 40, 0, SIZE * 512, Access::DATA), Err(OutOfTables));
    }

    #[test]
    fn nothing_is_both_writable_and_executable() {
        for access in [
            Access::CODE,
            Access::CONSTANT,
            Access::DATA,
            Access::STUB,
            Access::DESCRIPTOR,
            Access::RING0_STACK,
        ] {
            assert!(access.0 & WRITABLE == 0 || access.0 & NO_EXECUTE != 0, "{access:?}");
        }
    }
}
