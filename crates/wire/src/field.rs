//! Reading one field of a message: what is absent, unreadable or unknown becomes an objection that names it.

use std::{fmt::Display, str::FromStr};

use wasmatrix_model::failure::Invalid;

/// A field that must be there.
pub(crate) fn required<T>(name: &str, value: Option<T>) -> Result<T, Invalid> {
    value.ok_or_else(|| Invalid::new(name, "is missing"))
}

/// A text that stands for a value.
pub(crate) fn text<T: FromStr<Err = Invalid>>(name: &str, text: &str) -> Result<T, Invalid> {
    text.parse().map_err(|invalid: Invalid| Invalid::new(name, invalid.problem))
}

/// A text that stands for a value, or is empty: there is none.
pub(crate) fn optional_text<T: FromStr<Err = Invalid>>(
    name: &str,
    value: &str,
) -> Result<Option<T>, Invalid> {
    if value.is_empty() { Ok(None) } else { text(name, value).map(Some) }
}

/// A message within a message.
pub(crate) fn message<M, T: TryFrom<M, Error = Invalid>>(name: &str, message: M) -> Result<T, Invalid> {
    message.try_into().map_err(|invalid: Invalid| invalid.within(name))
}

/// A list of messages.
pub(crate) fn messages<M, T: TryFrom<M, Error = Invalid>>(
    name: &str,
    list: Vec<M>,
) -> Result<Vec<T>, Invalid> {
    list.into_iter().enumerate().map(|(index, item)| message(&format!("{name}[{index}]"), item)).collect()
}

/// The number of an enum's value, which may be one that only a newer version knows.
pub(crate) fn choice<W: TryFrom<i32>, T: TryFrom<W, Error = Invalid>>(
    name: &str,
    number: i32,
) -> Result<T, Invalid> {
    let known = W::try_from(number).map_err(|_| unknown(name, number))?;
    T::try_from(known).map_err(|invalid| Invalid::new(name, invalid.problem))
}

/// A number that must fit into a narrower type.
pub(crate) fn number<N: Copy + Display, T: TryFrom<N>>(
    name: &str,
    value: N,
    range: &str,
) -> Result<T, Invalid> {
    T::try_from(value).map_err(|_| Invalid::new(name, format!("{value} is out of range: take {range}")))
}

/// How every objection ends that is to what only a newer version can mean.
const NEWER: &str = "means nothing to this version of Wasmatrix";

fn unknown(name: &str, number: i32) -> Invalid {
    newer(name, &format!("the number {number}"))
}

/// An objection to what a newer version may mean something by.
pub(crate) fn newer(name: &str, what: &str) -> Invalid {
    Invalid::new(name, format!("{what} {NEWER}"))
}

/// Whether an objection is to what a newer version may mean something by, and not to a mistake.
pub(crate) fn is_newer(invalid: &Invalid) -> bool {
    invalid.problem.ends_with(NEWER)
}

/// A list of messages, less those that only a newer version can read.
pub(crate) fn known<M, T: TryFrom<M, Error = Invalid>>(name: &str, list: Vec<M>) -> Result<Vec<T>, Invalid> {
    let read = list.into_iter().enumerate();
    read.map(|(index, item)| message(&format!("{name}[{index}]"), item))
        .filter(|read: &Result<T, Invalid>| !read.as_ref().is_err_and(is_newer))
        .collect()
}

/// An empty text stands for none.
pub(crate) fn none_if_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
