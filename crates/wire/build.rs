//! Turns the proto files into Rust with protox, so that no `protoc` is needed.

use std::{env, error::Error, fs, path::Path};

use prost::Message as _;

const FILES: [&str; 2] = ["wasmatrix/v1/types.proto", "wasmatrix/v1/service.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    // compile_fds() writes no descriptor set, whatever it is told.
    let out_dir = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    fs::write(Path::new(&out_dir).join("wasmatrix.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .boxed(".wasmatrix.v1.StartInstanceRequest.part.spec")
        .boxed(".wasmatrix.v1.AttendRequest.part.registration")
        .boxed(".wasmatrix.v1.WatchInstancesResponse.change.instance")
        .compile_fds(descriptors)?;
    Ok(())
}
