//! WASI 0.2, but for files and networks, over the hypercall.
//!
//! | module | interfaces |
//! |---|---|
//! | [`cli`] | `wasi:cli` |
//! | [`clocks`] | `wasi:clocks` |
//! | [`poll`] | `wasi:io/poll` |
//! | [`streams`] | `wasi:io/streams`, `wasi:io/error` |
//! | [`random`] | `wasi:random` |

use wasmtime::component::{HasSelf, Linker};

use crate::state::State;

mod cli;
mod clocks;
mod poll;
mod random;
mod streams;

/// The interfaces as Rust sees them.
mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/wasi",
        world: "wasmatrix:microvm/guest",
        imports: { default: trappable },
        trappable_error_type: { "wasi:io/streams.stream-error" => super::streams::Failure },
        with: {
            "wasi:io/error.error": super::streams::IoError,
            "wasi:io/poll.pollable": super::poll::Pollable,
            "wasi:io/streams.input-stream": super::streams::Input,
            "wasi:io/streams.output-stream": super::streams::Output,
            "wasi:cli/terminal-input.terminal-input": super::cli::Terminal,
            "wasi:cli/terminal-output.terminal-output": super::cli::Terminal,
        },
    });
}

/// Links all of it.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    bindings::Guest::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}
