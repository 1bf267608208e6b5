//! A step as it was written, read word by word.

use std::str::FromStr;

use crate::outcome::Problem;

/// A step: its name, and what of it has not been read yet.
#[derive(Clone, Copy)]
pub(crate) struct Step<'a> {
    name: &'a str,
    rest: &'a str,
}

impl<'a> Step<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let (name, rest) = split(text);
        Self { name, rest }
    }

    pub(crate) fn name(&self) -> &'a str {
        self.name
    }

    /// All that has not been read.
    pub(crate) fn rest(&self) -> &'a str {
        self.rest
    }

    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next word as it stands; `what` says what it should have been.
    pub(crate) fn word(&mut self, what: &str) -> Result<&'a str, Problem> {
        if self.is_done() {
            return Err(Problem::Other(format!("`{}` needs {what}", self.name)));
        }
        let (word, rest) = split(self.rest);
        self.rest = rest;
        Ok(word)
    }

    pub(crate) fn number<N: FromStr>(&mut self, what: &str) -> Result<N, Problem> {
        let word = self.word(what)?;
        word.parse().map_err(|_| Problem::Other(format!("`{}`: `{word}` is not {what}", self.name)))
    }

    /// The next word as text, spelled out if it begins with `0x`.
    pub(crate) fn text(&mut self, what: &str) -> Result<String, Problem> {
        let bytes = spelled(self.word(what)?)?;
        String::from_utf8(bytes).map_err(|_| Problem::Other(format!("`{}`: {what} must be UTF-8", self.name)))
    }

    /// The next word as bytes, spelled out if it begins with `0x`.
    pub(crate) fn bytes(&mut self, what: &str) -> Result<Vec<u8>, Problem> {
        spelled(self.word(what)?)
    }

    /// All the rest as bytes, spaces included; nothing is a value too.
    pub(crate) fn value(&mut self) -> Result<Vec<u8>, Problem> {
        spelled(std::mem::take(&mut self.rest))
    }

    /// All words that are left, as text.
    pub(crate) fn texts(&mut self, what: &str) -> Result<Vec<String>, Problem> {
        let mut texts = Vec::new();
        while !self.is_done() {
            texts.push(self.text(what)?);
        }
        Ok(texts)
    }
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_once(' ').unwrap_or((text, ""))
}

fn spelled(word: &str) -> Result<Vec<u8>, Problem> {
    let Some(digits) = word.strip_prefix("0x") else {
        return Ok(word.as_bytes().to_vec());
    };
    let wrong = || Problem::Other(format!("`{word}` does not spell bytes"));
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return Err(wrong());
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| wrong()))
        .collect()
}
