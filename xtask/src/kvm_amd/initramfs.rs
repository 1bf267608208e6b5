//! A Linux initramfs, written as the kernel reads it: a cpio archive of the kind "newc", uncompressed, because an
//! emulated processor copies faster than it unpacks.
//!
//! An entry is a header of 110 ASCII characters, the name with a NUL, and the content; name and content are each
//! filled up to a multiple of 4 bytes. An entry of a fixed name ends the archive.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};

/// The mode of a file that is read.
pub const PLAIN: u32 = 0o100_644;
/// The mode of a file that is run.
pub const EXECUTABLE: u32 = 0o100_755;
const FOLDER: u32 = 0o040_755;
const LAST: &str = "TRAILER!!!";

/// An archive that is being written. Names are relative to `/`.
#[derive(Debug)]
pub struct Initramfs {
    file: BufWriter<File>,
    /// What is in it already: folders that need not be made, libraries that several programs share.
    names: BTreeSet<String>,
}

impl Initramfs {
    /// Begins an archive, in place of what was there.
    ///
    /// # Errors
    /// The file can't be made.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self { file: BufWriter::new(File::create(path)?), names: BTreeSet::new() })
    }

    /// Adds a folder and those above it.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn folder(&mut self, name: &str) -> Result<()> {
        if !name.is_empty() && !self.names.contains(name) {
            self.folders_above(name)?;
            self.entry(name, FOLDER, &[])?;
        }
        Ok(())
    }

    /// Adds a file with this content.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn bytes(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.folders_above(name)?;
        self.entry(name, mode, content)
    }

    /// Adds a program, and the shared libraries that it needs at the paths where it looks for them.
    ///
    /// # Errors
    /// The program or a library can't be read, or the file can't be written.
    pub fn program(&mut self, name: &str, path: &Path) -> Result<()> {
        self.bytes(name, EXECUTABLE, &read(path)?)?;
        for library in libraries(path)? {
            let name = library.trim_start_matches('/');
            if !self.names.contains(name) {
                self.bytes(name, EXECUTABLE, &read(library.as_ref())?)?;
            }
        }
        Ok(())
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn finish(mut self) -> Result<()> {
        self.entry(LAST, 0, &[])?;
        Ok(self.file.flush()?)
    }

    fn folders_above(&mut self, name: &str) -> Result<()> {
        name.rsplit_once('/').map_or(Ok(()), |(folder, _)| self.folder(folder))
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        let bytes = u32::try_from(content.len()).context("a file in an initramfs is smaller than 4 GiB")?;
        let number = u32::try_from(self.names.len())?;
        let name_bytes = u32::try_from(name.len() + 1)?;
        // Magic, inode, mode, owner, group, links, time, size, four device numbers, length of the name, checksum.
        write!(self.file, "070701{number:08x}{mode:08x}{:016x}{:08x}{:08x}{bytes:08x}", 0, 1, 0)?;
        write!(self.file, "{:032x}{name_bytes:08x}{:08x}{name}\0", 0, 0)?;
        self.fill(110 + name.len() + 1)?;
        self.file.write_all(content)?;
        self.fill(content.len())?;
        self.names.insert(name.to_owned());
        Ok(())
    }

    fn fill(&mut self, written: usize) -> Result<()> {
        Ok(self.file.write_all(&[0; 3][..written.next_multiple_of(4) - written])?)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("can't read {}", path.display()))
}

/// The shared libraries that a program is started with, loader included. None for one that is linked statically,
/// which `ldd` calls a failure.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let output = Command::new("ldd").arg(program).output().context("can't start `ldd`")?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(told.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_laid_out_as_the_kernel_reads_them() {
        let path = std::env::temp_dir().join(format!("wasmatrix-initramfs-{}", std::process::id()));
        let mut initramfs = Initramfs::create(&path).unwrap();
        initramfs.bytes("a/b/c", PLAIN, b"hello").unwrap();
        initramfs.folder("a").unwrap();
        initramfs.finish().unwrap();
        let archive = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();

        let mut rest = archive.as_slice();
        let mut told = Vec::new();
        while !rest.is_empty() {
            assert_eq!(&rest[..6], b"070701");
            let field = |index: usize| {
                let digits = std::str::from_utf8(&rest[6 + 8 * index..14 + 8 * index]).unwrap();
                usize::from_str_radix(digits, 16).unwrap()
            };
            let (mode, links, bytes, name_bytes) = (field(1), field(4), field(6), field(11));
            let name = String::from_utf8(rest[110..109 + name_bytes].to_vec()).unwrap();
            let content = (110 + name_bytes).next_multiple_of(4);
            assert_eq!((rest[109 + name_bytes], links), (0, 1), "{name}");
            told.push((name, mode, rest[content..content + bytes].to_vec()));
            rest = &rest[(content + bytes).next_multiple_of(4)..];
        }
        let folder = FOLDER as usize;
        assert_eq!(
            told,
            [
                ("a".to_owned(), folder, vec![]),
                ("a/b".to_owned(), folder, vec![]),
                ("a/b/c".to_owned(), PLAIN as usize, b"hello".to_vec()),
                (LAST.to_owned(), 0, vec![]),
            ]
        );
    }

    #[test]
    fn a_program_brings_its_loader() {
        let libraries = libraries(&std::env::current_exe().unwrap()).unwrap();
        assert!(libraries.iter().any(|path| path.contains("ld-")), "{libraries:?}");
    }
}
