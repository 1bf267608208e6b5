//! Reads the two ELF files that we make ourselves: the guest's image and compiled code.

/// A stretch of a file that is to be at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Its first byte's address.
    pub(crate) address: u64,
    /// What it begins with; the rest is zero.
    pub(crate) bytes: Vec<u8>,
    /// Its length in memory, in bytes.
    pub(crate) memory_bytes: u64,
    /// Whether it is code.
    pub(crate) executable: bool,
    /// Whether it may be written.
    pub(crate) writable: bool,
}

const LOAD: u32 = 1;
const EXECUTABLE: u32 = 1;
const WRITABLE: u32 = 2;

fn number<const N: usize>(file: &[u8], at: usize) -> Option<[u8; N]> {
    file.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn half(file: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_le_bytes(number(file, at)?).into())
}

fn word(file: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(number(file, at)?))
}

fn long(file: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(number(file, at)?))
}

fn offset(file: &[u8], at: usize) -> Option<usize> {
    usize::try_from(long(file, at)?).ok()
}

/// The headers of one table: where each begins.
fn headers(file: &[u8], table_at: usize, size_at: usize, count_at: usize) -> Option<Vec<usize>> {
    let (table, size, count) = (offset(file, table_at)?, half(file, size_at)?, half(file, count_at)?);
    (0..count).map(|index| table.checked_add(index.checked_mul(size)?)).collect()
}

/// The segments that are to be loaded. `None`: the file is no such ELF.
pub(crate) fn segments(file: &[u8]) -> Option<Vec<Segment>> {
    let mut segments = Vec::new();
    for header in headers(file, 32, 54, 56)? {
        if word(file, header)? != LOAD {
            continue;
        }
        let flags = word(file, header + 4)?;
        let start = offset(file, header + 8)?;
        let bytes = file.get(start..start.checked_add(offset(file, header + 32)?)?)?;
        segments.push(Segment {
            address: long(file, header + 16)?,
            bytes: bytes.to_vec(),
            memory_bytes: long(file, header + 40)?,
            executable: flags & EXECUTABLE != 0,
            writable: flags & WRITABLE != 0,
        });
    }
    Some(segments)
}

/// Where in the file the code is. `None`: the file is no ELF, or has none.
pub(crate) fn text(file: &[u8]) -> Option<std::ops::Range<u64>> {
    let headers = headers(file, 40, 58, 60)?;
    let names = offset(file, headers.get(half(file, 62)?)? + 24)?;
    headers.into_iter().find_map(|header| {
        let name = names.checked_add(usize::try_from(word(file, header)?).ok()?)?;
        if !file.get(name..)?.starts_with(b".text\0") {
            return None;
        }
        let start = long(file, header + 24)?;
        Some(start..start.checked_add(long(file, header + 32)?)?)
    })
}
