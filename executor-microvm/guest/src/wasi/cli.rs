//! `wasi:cli`: what the launch gave, and the way out.

use alloc::{string::String, vec::Vec};

use wasmtime::component::Resource;

use super::{
    bindings::wasi::cli::{
        environment, exit, stderr, stdin, stdout, terminal_input, terminal_output, terminal_stderr,
        terminal_stdin, terminal_stdout,
    },
    streams::{Input, Output},
};
use crate::{ending::ExitCode, state::State};

/// A standard stream that is a terminal. It can do nothing more than be one.
pub struct Terminal;

impl environment::Host for State {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.start.env.clone())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.start.args.clone())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}

impl exit::Host for State {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        Err(ExitCode(status.is_err().into()).into())
    }

    fn exit_with_code(&mut self, code: u8) -> wasmtime::Result<()> {
        Err(ExitCode(code).into())
    }
}

impl stdin::Host for State {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<Input>> {
        Ok(self.table.push(Input)?)
    }
}

impl stdout::Host for State {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<Output>> {
        Ok(self.table.push(Output::stdout())?)
    }
}

impl stderr::Host for State {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<Output>> {
        Ok(self.table.push(Output::stderr())?)
    }
}

impl State {
    fn terminal(&mut self, stream: usize) -> wasmtime::Result<Option<Resource<Terminal>>> {
        let is_terminal = self.start.terminals.get(stream).copied().unwrap_or(false);
        Ok(if is_terminal { Some(self.table.push(Terminal)?) } else { None })
    }

    fn drop_terminal(&mut self, terminal: Resource<Terminal>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl terminal_input::Host for State {}

impl terminal_input::HostTerminalInput for State {
    fn drop(&mut self, terminal: Resource<Terminal>) -> wasmtime::Result<()> {
        self.drop_terminal(terminal)
    }
}

impl terminal_output::Host for State {}

impl terminal_output::HostTerminalOutput for State {
    fn drop(&mut self, terminal: Resource<Terminal>) -> wasmtime::Result<()> {
        self.drop_terminal(terminal)
    }
}

impl terminal_stdin::Host for State {
    fn get_terminal_stdin(&mut self) -> wasmtime::Result<Option<Resource<Terminal>>> {
        self.terminal(0)
    }
}

impl terminal_stdout::Host for State {
    fn get_terminal_stdout(&mut self) -> wasmtime::Result<Option<Resource<Terminal>>> {
        self.terminal(1)
    }
}

impl terminal_stderr::Host for State {
    fn get_terminal_stderr(&mut self) -> wasmtime::Result<Option<Resource<Terminal>>> {
        self.terminal(2)
    }
}
