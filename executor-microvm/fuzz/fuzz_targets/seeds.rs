//! Writes what a target begins from, before the fuzzer reads it: made from values, and so readable here.

use std::{env, fs, path::PathBuf};

/// Where to, in a folder's path. Not set: nowhere.
const FOLDER: &str = "WASMATRIX_FUZZ_SEEDS";

/// Writes inputs, each in a file of that name.
pub fn write(seeds: &[(String, Vec<u8>)]) {
    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    for (name, bytes) in seeds {
        fs::write(folder.join(name), bytes).expect("the folder of the seeds can be written to");
    }
}
