//! What the machine itself allows, read from where the kernel says it.

use std::{fs, io, path::PathBuf, thread};

use rustix::{
    fs::{Access, access},
    process::{Resource, getrlimit},
};

use super::{Check, Verdict};
use crate::output::human;

/// Address space that one instance reserves: a 4 GiB memory and its guard pages. Almost none of it is ever touched.
const RESERVED_BYTES: u64 = 6 << 30;
/// Fewest mappings of memory that a process should be allowed, for a thousand instances.
const MAPS_MIN: u64 = 65_530;
/// Fewest open files.
const FILES_MIN: u64 = 1024;
/// Least memory at which a node is of use.
const MEMORY_BYTES_MIN: u64 = 512 << 20;

/// The processor, the memory, and the limits of this process.
pub(crate) fn machine() -> Vec<Check> {
    vec![processor(), memory(), address_space(), mappings(), overcommit(), open_files()]
}

fn processor() -> Check {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let found = format!(
        "{}, {cores} core{}{}",
        std::env::consts::ARCH,
        if cores == 1 { "" } else { "s" },
        features()
    );
    match std::env::consts::ARCH {
        "x86_64" | "aarch64" => Check::ok("processor", found),
        _ => Check::not(Verdict::Warning, "processor", found, "x86_64 and aarch64 are what is tested"),
    }
}

#[cfg(target_arch = "x86_64")]
fn features() -> String {
    let features = [
        ("sse4.2", is_x86_feature_detected!("sse4.2")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
    ];
    features.iter().filter(|(_, there)| *there).fold(String::new(), |text, (name, _)| text + " " + name)
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> String {
    String::new()
}

fn memory() -> Check {
    const NAME: &str = "memory";
    let Some(available) = available() else { return Check::ok(NAME, "the kernel does not say") };
    let group =
        fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let found = match group {
        Some(limit) => {
            format!("{} available, control group limit {}", human::bytes(available), human::bytes(limit))
        }
        None => format!("{} available", human::bytes(available)),
    };
    if available.min(group.unwrap_or(u64::MAX)) < MEMORY_BYTES_MIN {
        return Check::not(Verdict::Warning, NAME, found, "compiling a large program needs more: free some");
    }
    Check::ok(NAME, found)
}

fn available() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

fn address_space() -> Check {
    const NAME: &str = "address space";
    match getrlimit(Resource::As).current {
        None => Check::ok(NAME, "not limited"),
        Some(bytes) => {
            let room = bytes / RESERVED_BYTES;
            let found = format!("limited to {}: room for about {room} instances", human::bytes(bytes));
            Check::not(
                Verdict::Warning,
                NAME,
                found,
                "raise it with `ulimit -v unlimited`; none of it is used up",
            )
        }
    }
}

fn mappings() -> Check {
    const NAME: &str = "vm.max_map_count";
    match fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok())
    {
        Some(count) if count < MAPS_MIN => {
            let remedy = format!("many instances need more: sysctl vm.max_map_count={}", MAPS_MIN * 4);
            Check::not(Verdict::Warning, NAME, count.to_string(), remedy)
        }
        Some(count) => Check::ok(NAME, count.to_string()),
        None => Check::ok(NAME, "the kernel does not say"),
    }
}

fn overcommit() -> Check {
    const NAME: &str = "vm.overcommit_memory";
    match fs::read_to_string("/proc/sys/vm/overcommit_memory").as_deref().map(str::trim) {
        Ok("2") => {
            let remedy = "address space that is only reserved counts as used: sysctl vm.overcommit_memory=0";
            Check::not(Verdict::Warning, NAME, "2 (strict)", remedy)
        }
        Ok(mode) => Check::ok(NAME, mode),
        Err(_) => Check::ok(NAME, "the kernel does not say"),
    }
}

fn open_files() -> Check {
    const NAME: &str = "open files";
    match getrlimit(Resource::Nofile).current {
        Some(count) if count < FILES_MIN => {
            let remedy = format!("many clients need more: ulimit -n {FILES_MIN}");
            Check::not(Verdict::Warning, NAME, count.to_string(), remedy)
        }
        Some(count) => Check::ok(NAME, count.to_string()),
        None => Check::ok(NAME, "not limited"),
    }
}

/// Whether a directory can be written, or made where it is not there yet.
pub(crate) fn directory(name: &str, path: Option<PathBuf>, flag: &str) -> Check {
    let Some(path) = path else {
        return Check::not(
            Verdict::Warning,
            name,
            "there is no home directory",
            format!("say where with {flag}"),
        );
    };
    let found = path.display().to_string();
    let there = path.ancestors().find(|ancestor| ancestor.exists());
    let nearest = there.filter(|path| !path.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
    if !nearest.is_dir() {
        let problem = format!("{} is no directory", nearest.display());
        return Check::not(Verdict::Warning, name, problem, format!("say where else with {flag}"));
    }
    match access(nearest, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if nearest == path => Check::ok(name, found),
        Ok(()) => Check::ok(name, format!("{found} (will be made)")),
        Err(error) => {
            let problem = format!("{found}: {}", io::Error::from(error));
            Check::not(Verdict::Warning, name, problem, format!("say where else with {flag}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_can_be_made_is_good_and_a_file_is_not() {
        let file = std::env::current_exe().unwrap();
        let dir = file.parent().unwrap();
        assert_eq!(directory("d", Some(dir.to_owned()), "--d").verdict, Verdict::Ok);
        assert!(directory("d", Some(dir.join("not/yet")), "--d").found.contains("will be made"));
        let below_a_file = directory("d", Some(file.join("x")), "--d");
        assert_eq!(below_a_file.verdict, Verdict::Warning);
        assert!(below_a_file.found.contains("is no directory"), "{below_a_file:?}");
        assert!(directory("d", None, "--d").remedy.unwrap().contains("--d"));
    }
}
