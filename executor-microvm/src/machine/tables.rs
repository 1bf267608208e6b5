//! A machine's page tables. They lie in memory where no virtual address leads.
//!
//! Pages are only ever made present, never changed: that needs no flush, whatever the processor has cached.

use wasmatrix_microvm_abi::layout::{LARGE_PAGE_BYTES, PAGE_BYTES};

use super::ground::{Ground, Nowhere};

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

impl From<Nowhere> for OutOfTables {
    fn from(_: Nowhere) -> Self {
        Self
    }
}

/// The tables, and the small things that lie beside them.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    root: u64,
    next: u64,
    end: u64,
}

impl Tables {
    /// Tables that map nothing, in the first `bytes` of physical memory.
    pub(super) fn new(bytes: u64) -> Result<Self, OutOfTables> {
        let mut tables = Self { root: 0, next: PAGE_BYTES, end: bytes };
        tables.root = tables.allocate(PAGE_BYTES)?;
        Ok(tables)
    }

    /// The physical address of the first table.
    pub(super) const fn root(&self) -> u64 {
        self.root
    }

    /// Takes zeroed pages and says where they are.
    pub(super) fn allocate(&mut self, bytes: u64) -> Result<u64, OutOfTables> {
        let at = self.next;
        let end = at.checked_add(bytes).filter(|end| *end <= self.end).ok_or(OutOfTables)?;
        self.next = end;
        Ok(at)
    }

    /// Room for further tables, in bytes, is to be had there from now on.
    pub(super) fn go_on_at(&mut self, physical: u64, bytes: u64) {
        (self.next, self.end) = (physical, physical + bytes);
    }

    /// How much more room is needed to map so many bytes in one stretch; `None`: there is enough.
    pub(super) fn lacks(&self, bytes: u64) -> Option<u64> {
        // Tables of the last level and of the one before, and of each level another two where the stretch crosses borders.
        let tables = bytes / LARGE_PAGE_BYTES + (bytes >> 30) + 6;
        let needed = tables * PAGE_BYTES;
        (needed > self.end - self.next).then_some(needed)
    }

    fn read(ground: &Ground, at: u64) -> Result<u64, OutOfTables> {
        let mut bytes = [0; 8];
        ground.read(at, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Makes small pages present.
    pub(super) fn map(
        &mut self,
        ground: &Ground,
        address: u64,
        physical: u64,
        bytes: u64,
        access: Access,
    ) -> Result<(), OutOfTables> {
        let mut done = 0;
        while done < bytes {
            // As many as one table holds.
            let table = self.table(ground, address + done, 1)?;
            let first = index(address + done, 0);
            let count = (512 - first).min((bytes - done).div_ceil(PAGE_BYTES));
            for page in 0..count {
                let target = physical + done + page * PAGE_BYTES;
                Self::fill(ground, table + (first + page) * 8, target | access.0)?;
            }
            done += count * PAGE_BYTES;
        }
        Ok(())
    }

    /// Makes large pages present.
    pub(super) fn map_large(
        &mut self,
        ground: &Ground,
        address: u64,
        physical: u64,
        bytes: u64,
        access: Access,
    ) -> Result<(), OutOfTables> {
        for done in (0..bytes).step_by(LARGE_PAGE_BYTES as usize) {
            let table = self.table(ground, address + done, 2)?;
            Self::fill(ground, table + index(address + done, 1) * 8, (physical + done) | access.0 | LARGE)?;
        }
        Ok(())
    }

    /// Where the table of that level is; it is made if need be, and those above it.
    fn table(&mut self, ground: &Ground, address: u64, level: u32) -> Result<u64, OutOfTables> {
        let mut table = self.root;
        for level in (level..=3).rev() {
            let entry = table + index(address, level) * 8;
            let value = Self::read(ground, entry)?;
            table = match value & PRESENT {
                0 => {
                    let table = self.allocate(PAGE_BYTES)?;
                    Self::fill(ground, entry, table | TABLE)?;
                    table
                }
                _ if value & LARGE != 0 => return Err(OutOfTables),
                _ => value & ADDRESS,
            };
        }
        Ok(table)
    }

    /// Sets an entry that is empty.
    fn fill(ground: &Ground, at: u64, value: u64) -> Result<(), OutOfTables> {
        if Self::read(ground, at)? != 0 {
            return Err(OutOfTables);
        }
        Ok(ground.write(at, &value.to_le_bytes())?)
    }
}

/// A page that is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) address: u64,
    pub(super) physical: u64,
    pub(super) bytes: u64,
    entry: u64,
}

impl Page {
    /// Whether ring 3 may read it.
    pub(super) const fn is_of_ring3(&self) -> bool {
        self.entry & RING3 != 0
    }

    /// Whether it may be written.
    #[cfg(test)]
    pub(super) const fn is_writable(&self) -> bool {
        self.entry & WRITABLE != 0
    }

    /// Whether it may be executed.
    pub(super) const fn is_executable(&self) -> bool {
        self.entry & NO_EXECUTE == 0
    }
}

impl Tables {
    /// Every page that a processor would find, in the order of their addresses.
    pub(super) fn pages(&self, ground: &Ground) -> Vec<Page> {
        let mut pages = Vec::new();
        let mut tables = vec![(self.root, 0, 3)];
        while let Some((table, start, level)) = tables.pop() {
            for slot in 0..512 {
                let entry = Self::read(ground, table + slot * 8).unwrap_or(0);
                let address = start | slot << (12 + 9 * level);
                match entry & PRESENT {
                    0 => {}
                    _ if level == 0 || entry & LARGE != 0 => {
                        let (physical, bytes) = (entry & ADDRESS, PAGE_BYTES << (9 * level));
                        pages.push(Page { address, physical, bytes, entry });
                    }
                    _ => tables.push((entry & ADDRESS, address, level - 1)),
                }
            }
        }
        pages.sort_unstable_by_key(|page| page.address);
        pages
    }
}

#[cfg(test)]
impl Tables {
    /// The physical addresses of the tables themselves.
    pub(super) fn own_pages(&self, ground: &Ground) -> Vec<u64> {
        let mut found = vec![self.root()];
        let mut tables = vec![(self.root, 3)];
        while let Some((table, level)) = tables.pop() {
            for slot in 0..512 {
                let entry = Self::read(ground, table + slot * 8).unwrap();
                if entry & PRESENT != 0 && level > 0 && entry & LARGE == 0 {
                    found.push(entry & ADDRESS);
                    tables.push((entry & ADDRESS, level - 1));
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

    fn tables() -> (Tables, Ground) {
        (Tables::new(SIZE).unwrap(), Ground::alone(SIZE).unwrap())
    }

    /// Walks the tables as a processor does.
    fn walk(tables: &Tables, ground: &Ground, address: u64) -> Option<u64> {
        let mut table = tables.root();
        for level in (0..=3).rev() {
            let entry = Tables::read(ground, table + index(address, level) * 8).unwrap();
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
        let (mut tables, ground) = tables();
        tables.map(&ground, 0x1f_f000, 0x5000, 2 * PAGE_BYTES, Access::DATA).unwrap();
        assert_eq!(walk(&tables, &ground, 0x1f_f000).unwrap() & ADDRESS, 0x5000);
        assert_eq!(walk(&tables, &ground, 0x20_0000).unwrap() & ADDRESS, 0x6000, "the next table");
        for absent in [0, 0x1f_e000, 0x20_1000, 0x10_0000_0000] {
            assert_eq!(walk(&tables, &ground, absent), None, "{absent:#x}");
        }
        tables.map_large(&ground, 0x4000_0000, 0x20_0000, LARGE_PAGE_BYTES, Access::DATA).unwrap();
        assert_eq!(walk(&tables, &ground, 0x401f_ffff).unwrap() & ADDRESS, 0x20_0000);
    }

    #[test]
    fn a_page_is_never_mapped_twice_and_tables_end() {
        let (mut tables, ground) = tables();
        tables.map(&ground, 0x1000, 0x5000, PAGE_BYTES, Access::DATA).unwrap();
        assert_eq!(tables.map(&ground, 0x1000, 0x9000, PAGE_BYTES, Access::CODE), Err(OutOfTables));
        assert_eq!(tables.map(&ground, 1 << 40, 0, SIZE * 512, Access::DATA), Err(OutOfTables));
    }

    #[test]
    fn what_is_said_to_be_enough_is_enough() {
        let (mut tables, ground) = tables();
        // Across the border of every level, and over the ends of two last tables.
        let (address, bytes) = ((1 << 39) - PAGE_BYTES, 2 * LARGE_PAGE_BYTES);
        let needed = tables.lacks(SIZE * 512).expect("that much is lacking");
        assert!(needed > SIZE, "{needed}");
        assert_eq!(tables.lacks(bytes), None);
        let exact = (bytes / LARGE_PAGE_BYTES + 6) * PAGE_BYTES;
        tables.go_on_at(SIZE - exact, exact);
        assert_eq!(tables.lacks(bytes), None);
        tables.map(&ground, address, 0, bytes, Access::DATA).unwrap();
        assert_eq!(tables.lacks(bytes), Some(exact));
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
