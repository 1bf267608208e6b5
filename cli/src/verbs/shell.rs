//! `completion` and `man`, which a package installs beside the binary, and `exit-codes`.

use std::{fs, io, io::Write as _};

use crate::{
    args::{self, Completion, Man},
    error::CliError,
    output::Printer,
};

/// Writes a shell's completion script.
pub(crate) fn completion(args: &Completion) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::command(), "wasmatrix", &mut script);
    let mut out = io::stdout().lock();
    out.write_all(&script)?;
    out.flush()?;
    Ok(())
}

/// Says what the exit codes mean.
pub(crate) fn exit_codes() -> Result<(), CliError> {
    writeln!(io::stdout(), "{}", args::EXIT_CODES)?;
    Ok(())
}

/// Writes a manual page for each verb.
pub(crate) fn man(args: &Man, out: &Printer) -> Result<(), CliError> {
    let written =
        fs::create_dir_all(&args.dir).and_then(|()| clap_mangen::generate_to(args::command(), &args.dir));
    written.map_err(|error| CliError::file(&args.dir, &error))?;
    out.say(&format!(
        "wrote the manual pages; read one with: man {}",
        args.dir.join("wasmatrix.1").display()
    ));
    Ok(())
}
