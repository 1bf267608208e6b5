//! Names that a guest chose, made readable: short, whatever they say, and soon.

#![no_main]

mod seeds;

use libfuzzer_sys::fuzz_target;
use wasmatrix_artifact::names::{NAME_BYTES_MAX, function};

/// Names of Rust in both ways of mangling, of C++, and of C.
const SEEDS: &[&str] = &[
    "_ZN4core9panicking5panic17h0123456789abcdefE",
    "_RNvCs1234_7mycrate3foo",
    "_RINvNtC3std3mem8align_ofjdE",
    "_RNCNCNgCs6DXkGYLi8lr_2cc5spawn00B5_",
    "_ZN3foo3barEi",
    "_ZNSt6vectorIiSaIiEE9push_backERKi",
    "_Z1fIiEvT_PFvS0_E",
    "main",
];

fn written() -> Vec<(String, Vec<u8>)> {
    SEEDS
        .iter()
        .enumerate()
        .map(|(index, name)| (format!("name-{index}"), name.as_bytes().to_vec()))
        .collect()
}

fuzz_target!(
    init: seeds::write(&written()),
    |name: &[u8]| {
        if let Ok(name) = str::from_utf8(name) {
            assert!(function(name).len() <= NAME_BYTES_MAX);
        }
    }
);
