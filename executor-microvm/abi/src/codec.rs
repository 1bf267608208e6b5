//! Values as bytes: little-endian numbers; bytes, text and lists with their length in front.
//!
//! A [`Reader`] takes nothing on trust: it never reads past its end, never believes a count that the bytes left could
//! not hold, and never allocates more than a small multiple of what it was given.

use alloc::{string::String, vec::Vec};

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They end in the middle.
    Short,
    /// Something follows the message.
    Long,
    /// A number that stands for nothing.
    Unknown,
    /// Text that is no UTF-8.
    NotText,
    /// More of something than there may be.
    TooMuch,
}

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Short => "the message ends in the middle",
            Self::Long => "something follows the message",
            Self::Unknown => "the message has a number that stands for nothing",
            Self::NotText => "the message has text that is no UTF-8",
            Self::TooMuch => "the message has more of something than there may be",
        })
    }
}

impl core::error::Error for Malformed {}

/// Reads values one after another.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Begins at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// Something is.
    pub fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed::Long) }
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed::Short)
    }

    /// One byte.
    ///
    /// # Errors
    /// None is left.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Four bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// Eight bytes, signed.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }

    /// 0 or 1.
    ///
    /// # Errors
    /// No byte is left, or it is neither.
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::Unknown),
        }
    }

    /// Some bytes.
    ///
    /// # Errors
    /// Fewer are left than the length says.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()?;
        self.take(usize::try_from(length).map_err(|_| Malformed::Short)?)
    }

    /// Some text.
    ///
    /// # Errors
    /// Too short, or no UTF-8.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        core::str::from_utf8(self.bytes()?).map_err(|_| Malformed::NotText)
    }

    /// Something that may be missing.
    ///
    /// # Errors
    /// Those of `item`, and of a mark that is neither 0 nor 1.
    pub fn option<T>(
        &mut self,
        item: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.bool()? { item(self).map(Some) } else { Ok(None) }
    }

    /// A list. Every item takes a byte at least, so that no count costs more than the bytes that were sent.
    ///
    /// # Errors
    /// Those of `item`, and of a count larger than the bytes left.
    pub fn list<T>(&mut self, item: impl Fn(&mut Self) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        self.list_up_to(usize::MAX, item)
    }

    /// A list of at most so many. Items can be many times as large as the bytes that stand for them.
    ///
    /// # Errors
    /// Those of `item`, and of a count larger than `items_max` or than the bytes left.
    pub fn list_up_to<T>(
        &mut self,
        items_max: usize,
        item: impl Fn(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = usize::try_from(self.u32()?).map_err(|_| Malformed::Short)?;
        if count > items_max {
            return Err(Malformed::TooMuch);
        }
        if count > self.rest.len() {
            return Err(Malformed::Short);
        }
        (0..count).map(|_| item(self)).collect()
    }
}

/// Writes values one after another.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Begins with nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    /// Four bytes.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Eight bytes.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Eight bytes, signed.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// 0 or 1.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.u8(value.into())
    }

    /// Some bytes; of more than 4 GiB only the first 4 GiB, which no message may hold anyway.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.u32(length);
        self.0.extend(value);
        self
    }

    /// Some text.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    /// Something that may be missing.
    pub fn option<T>(&mut self, value: Option<T>, item: impl FnOnce(&mut Self, T)) -> &mut Self {
        self.bool(value.is_some());
        if let Some(value) = value {
            item(self, value);
        }
        self
    }

    /// A list.
    pub fn list<T>(
        &mut self,
        values: impl ExactSizeIterator<Item = T>,
        item: impl Fn(&mut Self, T),
    ) -> &mut Self {
        self.u32(u32::try_from(values.len()).unwrap_or(u32::MAX));
        for value in values {
            item(self, value);
        }
        self
    }
}

/// Pairs of text, as environment and configuration are.
pub(crate) fn pairs(reader: &mut Reader<'_>) -> Result<Vec<(String, String)>, Malformed> {
    reader.list(|reader| Ok((reader.text()?.into(), reader.text()?.into())))
}
