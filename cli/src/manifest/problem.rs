//! What is wrong with an `app.toml`, and where.

use std::{fmt, ops::Range};

/// A place in a file, both counted from 1; columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl Place {
    /// Where `span` begins in `text`.
    pub(crate) fn of(text: &str, span: &Range<usize>) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Self { line, column }
    }
}

/// Something that is wrong, where it is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    /// Where.
    pub place: Place,
    /// What, and what to write instead.
    pub message: String,
}

/// All that is wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problems {
    path: String,
    found: Vec<Problem>,
}

impl Problems {
    /// Nothing wrong yet with the file at `path`.
    pub(crate) fn new(path: &str) -> Self {
        Self { path: path.to_owned(), found: Vec::new() }
    }

    /// One more.
    pub(crate) fn push(&mut self, place: Place, message: impl Into<String>) {
        self.found.push(Problem { place, message: message.into() });
    }

    /// `value`, if there was none.
    pub(crate) fn none_or<T>(mut self, value: T) -> Result<T, Self> {
        if self.found.is_empty() {
            return Ok(value);
        }
        self.found.sort();
        Err(self)
    }

    /// The problems, in the order of their places.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Problem> {
        self.found.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.found.len();
        write!(f, "{} has {count} problem{}", self.path, if count == 1 { "" } else { "s" })?;
        self.found.iter().try_for_each(|Problem { place, message }| {
            write!(f, "\n  {}:{}:{}: {message}", self.path, place.line, place.column)
        })
    }
}
