//! Walks the tables of a TOML file: checks types and keys, and collects what is wrong instead of giving up.

use std::{collections::BTreeMap, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::problem::{Place, Problems};
use crate::value::shown;

/// A value of the file, with its place.
pub(crate) type Value<'a> = &'a Spanned<DeValue<'a>>;

/// The file that is being read, and what was wrong so far.
pub(crate) struct Reader<'t, 'p> {
    text: &'t str,
    problems: &'p mut Problems,
}

impl<'t, 'p> Reader<'t, 'p> {
    /// Begins to read `text`.
    pub(crate) fn new(text: &'t str, problems: &'p mut Problems) -> Self {
        Self { text, problems }
    }

    /// Where `span` begins.
    pub(crate) fn place(&self, span: &Range<usize>) -> Place {
        Place::of(self.text, span)
    }

    /// Notes a problem with what is at `span`.
    pub(crate) fn object(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.problems.push(Place::of(self.text, span), message);
    }

    /// Notes every key of `table` that is not in `known`, with the nearest one that is.
    pub(crate) fn check_keys(&mut self, table: &DeTable<'_>, section: &str, known: &[&str]) {
        for key in table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())) {
            let hint = match nearest(key.get_ref(), known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there is: {}", known.join(", ")),
            };
            self.object(&key.span(), format!("unknown key `{}` in {section}: {hint}", shown(key.get_ref())));
        }
    }

    /// The text of a value.
    pub(crate) fn text<'a>(&mut self, key: &str, value: Value<'a>) -> Option<&'a str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(key, value, "text in quotes");
        }
        text
    }

    /// The text of a value, made into a `T`.
    pub(crate) fn parsed<T>(
        &mut self,
        key: &str,
        value: Value<'_>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(key, value)?;
        parse(text).map_err(|problem| self.object(&value.span(), format!("`{key}`: {problem}"))).ok()
    }

    /// A whole number, 0 or more, that fits a `T`.
    pub(crate) fn count<T: TryFrom<u64>>(&mut self, key: &str, value: Value<'_>) -> Option<T> {
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong_type(key, value, "a whole number");
            return None;
        };
        let parsed = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let count = parsed.and_then(|count| T::try_from(count).ok());
        if count.is_none() {
            let message =
                format!("`{key}`: {} is out of range: take 0 or more, and not that many", integer.as_str());
            self.object(&value.span(), message);
        }
        count
    }

    /// A table.
    pub(crate) fn table<'a>(&mut self, key: &str, value: Value<'a>) -> Option<&'a DeTable<'a>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(key, value, "a table");
        }
        table
    }

    /// A list of texts, each made into a `T`; those that are wrong are noted and left out.
    pub(crate) fn list<T>(
        &mut self,
        key: &str,
        value: Value<'_>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value, "a list of texts, e.g. [\"a\", \"b\"]");
            return Vec::new();
        };
        array.iter().filter_map(|item| self.parsed(key, item, &parse)).collect()
    }

    /// A table of texts.
    pub(crate) fn texts(&mut self, key: &str, value: Value<'_>) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        for (name, value) in self.table(key, value).into_iter().flatten() {
            if let Some(text) = self.text(&format!("{key}.{}", shown(name.get_ref())), value) {
                texts.insert(name.get_ref().to_string(), text.to_owned());
            }
        }
        texts
    }

    fn wrong_type(&mut self, key: &str, value: Value<'_>, expected: &str) {
        let found = value.get_ref().type_str();
        let found = if found == "string" { "text" } else { found };
        self.object(&value.span(), format!("`{key}` must be {expected}; this is of type {found}"));
    }
}

/// The known name that was probably meant.
pub(crate) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let name = plain(name);
    let distance = |known: &str| {
        let known = plain(known);
        // `grant` for `grants`, `memory_bytes` for `memory`: the beginning is right.
        if known.starts_with(&name) || name.starts_with(&known) {
            0
        } else {
            strsim::damerau_levenshtein(&name, &known)
        }
    };
    let near_enough = 1.max(name.chars().count() / 3);
    let (best, known) =
        known.iter().map(|known| (distance(known), *known)).min_by_key(|(distance, _)| *distance)?;
    (best <= near_enough && !name.is_empty()).then_some(known)
}
