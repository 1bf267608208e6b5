//! Links the guest as a freestanding, static image at a fixed address.

fn main() {
    let directory = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    println!("cargo:rerun-if-changed=linker.ld");
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{directory}/linker.ld");
    println!(
        "cargo:rustc-link-arg-bins=-Wl,--gc-sections,--build-id=none,-z,norelro,-z,max-page-size=4096,\
         --no-dynamic-linker,--strip-all"
    );
}
