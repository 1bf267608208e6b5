//! What a verb says: data on standard output in the format that was asked for, messages on standard error.
//!
//! | module | what it says |
//! |---|---|
//! | [`rows`] | instances |
//! | [`nodes`] | nodes, providers, drains, join tokens |
//! | [`stream`] | facts and log lines, one at a time |
//! | [`human`] | ages, sizes and ends in a few characters |
//!
//! A document of one thing is the thing with its `kind` in front; a list is `{"kind": "…List", "items": […]}`; a
//! stream is one document on each line.

pub(crate) mod human;
pub(crate) mod nodes;
pub(crate) mod rows;
pub(crate) mod stream;

use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;
use wasmatrix_model::{Clock as _, SystemClock, Timestamp};

use crate::args::OutputFormat;

/// A thing that can be shown as a document.
pub(crate) trait Document: Serialize {
    /// What it is, e.g. `Instance`; the `kind` of its documents.
    const KIND: &'static str;
    /// What `-o name` shows of it.
    fn name(&self) -> String;
}

/// A thing that can be a row of a table.
pub(crate) trait Row: Document {
    /// The heads of the columns.
    const COLUMNS: &'static [Column];
    /// What stands in the columns, in their order; the ages are at `now`.
    fn cells(&self, now: Timestamp) -> Vec<String>;
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    title: &'static str,
    wide: bool,
}

impl Column {
    /// A column that is always there.
    pub(crate) const fn new(title: &'static str) -> Self {
        Self { title, wide: false }
    }

    /// A column of `-o wide` alone.
    pub(crate) const fn wide(title: &'static str) -> Self {
        Self { title, wide: true }
    }
}

#[derive(Serialize)]
struct Kinded<'a, T> {
    kind: &'static str,
    #[serde(flatten)]
    value: &'a T,
}

#[derive(Serialize)]
struct List<'a, T> {
    kind: String,
    items: &'a [T],
}

/// The two outputs of this process.
pub(crate) struct Printer<W = io::BufWriter<io::Stdout>> {
    out: W,
    format: OutputFormat,
    quiet: bool,
    terminal: bool,
    now: Timestamp,
}

impl Printer {
    /// Writes to standard output in `format`; says nothing but data if `quiet`.
    pub(crate) fn new(format: OutputFormat, quiet: bool) -> Self {
        let out = io::stdout();
        let terminal = out.is_terminal();
        Self { out: io::BufWriter::new(out), format, quiet, terminal, now: SystemClock.now() }
    }
}

impl<W: Write> Printer<W> {
    /// Shows some things.
    pub(crate) fn list<T: Row>(&mut self, items: &[T]) -> io::Result<()> {
        match self.format {
            OutputFormat::Table | OutputFormat::Wide => self.table(items)?,
            OutputFormat::Json | OutputFormat::Yaml => {
                self.document(&List { kind: format!("{}List", T::KIND), items })?;
            }
            OutputFormat::Name => self.names(items)?,
        }
        self.out.flush()
    }

    /// Shows one thing: as a table of one row, or as a document.
    pub(crate) fn row<T: Row>(&mut self, item: &T) -> io::Result<()> {
        match self.format {
            OutputFormat::Table | OutputFormat::Wide => self.list(std::slice::from_ref(item)),
            OutputFormat::Json | OutputFormat::Yaml | OutputFormat::Name => {
                self.one(item, |_, _| String::new())
            }
        }
    }

    /// Shows one thing; in a table, with `describe`'s lines.
    pub(crate) fn one<T: Document>(
        &mut self,
        item: &T,
        describe: impl FnOnce(&T, Timestamp) -> String,
    ) -> io::Result<()> {
        match self.format {
            OutputFormat::Table | OutputFormat::Wide => {
                let text = describe(item, self.now);
                self.text(&text)?;
            }
            OutputFormat::Json | OutputFormat::Yaml => {
                self.document(&Kinded { kind: T::KIND, value: item })?
            }
            OutputFormat::Name => writeln!(self.out, "{}", item.name())?,
        }
        self.out.flush()
    }

    /// Shows one thing of many that come as they come: as a line, or as a document on a line.
    pub(crate) fn next<T: stream::Streamed>(&mut self, item: &T) -> io::Result<()> {
        match self.format {
            OutputFormat::Table | OutputFormat::Wide => {
                let line = item.line(self.format == OutputFormat::Wide);
                self.text(&line)?;
            }
            OutputFormat::Json => {
                serde_json::to_writer(&mut self.out, &Kinded { kind: T::KIND, value: item })?;
                writeln!(self.out)?;
            }
            OutputFormat::Yaml => {
                writeln!(self.out, "---")?;
                self.document(&Kinded { kind: T::KIND, value: item })?;
            }
            OutputFormat::Name => writeln!(self.out, "{}", item.name())?,
        }
        self.out.flush()
    }

    /// Shows things that came as they came, all of them known: as lines, or as one list.
    pub(crate) fn all<T: stream::Streamed>(&mut self, items: &[T]) -> io::Result<()> {
        match self.format {
            OutputFormat::Table | OutputFormat::Wide => {
                for item in items {
                    let line = item.line(self.format == OutputFormat::Wide);
                    self.text(&line)?;
                }
            }
            OutputFormat::Json | OutputFormat::Yaml => {
                self.document(&List { kind: format!("{}List", T::KIND), items })?;
            }
            OutputFormat::Name => self.names(items)?,
        }
        self.out.flush()
    }

    /// Whether a list can be drawn again and again in one place.
    pub(crate) fn draws(&self) -> bool {
        self.terminal && matches!(self.format, OutputFormat::Table | OutputFormat::Wide)
    }

    /// Makes room on a terminal for a list as it is now.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        const HOME_AND_CLEAR: &str = "\x1b[H\x1b[2J";
        self.now = SystemClock.now();
        write!(self.out, "{HOME_AND_CLEAR}")
    }

    /// Says something to the person at the keyboard, on standard error. Not being heard is no failure.
    pub(crate) fn say(&self, message: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "{message}");
        }
    }

    fn names<T: Document>(&mut self, items: &[T]) -> io::Result<()> {
        items.iter().try_for_each(|item| writeln!(self.out, "{}", item.name()))
    }

    /// Text that may hold words of a guest's choosing, ended by a newline. A terminal obeys control characters, so
    /// it is given none.
    fn text(&mut self, text: &str) -> io::Result<()> {
        let text = text.trim_end_matches('\n');
        if self.terminal {
            writeln!(self.out, "{}", human::harmless(text))
        } else {
            writeln!(self.out, "{text}")
        }
    }

    fn document(&mut self, document: &impl Serialize) -> io::Result<()> {
        if self.format == OutputFormat::Yaml {
            let yaml = serde_saphyr::to_string(document).map_err(io::Error::other)?;
            return writeln!(self.out, "{}", yaml.trim_end_matches('\n'));
        }
        serde_json::to_writer_pretty(&mut self.out, document)?;
        writeln!(self.out)
    }

    fn table<T: Row>(&mut self, items: &[T]) -> io::Result<()> {
        let wide = self.format == OutputFormat::Wide;
        let shown = |index: &usize| T::COLUMNS.get(*index).is_some_and(|column| wide || !column.wide);
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(T::COLUMNS.iter().filter(|column| wide || !column.wide).map(|column| column.title));
        for item in items {
            let cells = item.cells(self.now).into_iter().enumerate().filter(|(index, _)| shown(index));
            table.add_row(cells.map(|(_, cell)| human::harmless(&cell.replace('\n', " "))));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for line in table.lines() {
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
