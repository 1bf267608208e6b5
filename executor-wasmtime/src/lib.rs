//! Runs guests in this process, with wasmtime.
