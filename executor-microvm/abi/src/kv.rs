//! Key-value storage, asked and answered.

use alloc::{string::String, vec::Vec};

use crate::codec::{Malformed, Reader, Writer};

/// Keys or entries in one call; the same as in process.
pub const BATCH_ENTRIES_MAX: usize = 1000;

/// What is asked of the store; the same as `CapabilityCall`, before names and keys are proven good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvRequest<'a> {
    /// Of which bucket.
    pub bucket: &'a str,
    /// What.
    pub operation: Operation<'a>,
}

/// One operation on a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are those of the store, and their fields what their names say")]
pub enum Operation<'a> {
    Get { key: &'a str },
    Set { key: &'a str, value: &'a [u8] },
    Delete { key: &'a str },
    Exists { key: &'a str },
    List { after: Option<&'a str> },
    Increment { key: &'a str, delta: i64 },
    Current { key: &'a str },
    Swap { key: &'a str, expected: Option<u64>, value: &'a [u8] },
    GetMany { keys: Vec<&'a str> },
    SetMany { entries: Vec<(&'a str, &'a [u8])> },
    DeleteMany { keys: Vec<&'a str> },
}

impl<'a> KvRequest<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let bucket = reader.text()?;
        let operation = match reader.u8()? {
            0 => Operation::Get { key: reader.text()? },
            1 => Operation::Set { key: reader.text()?, value: reader.bytes()? },
            2 => Operation::Delete { key: reader.text()? },
            3 => Operation::Exists { key: reader.text()? },
            4 => Operation::List { after: reader.option(Reader::text)? },
            5 => Operation::Increment { key: reader.text()?, delta: reader.i64()? },
            6 => Operation::Current { key: reader.text()? },
            7 => Operation::Swap {
                key: reader.text()?,
                expected: reader.option(Reader::u64)?,
                value: reader.bytes()?,
            },
            8 => Operation::GetMany { keys: batch(reader, Reader::text)? },
            9 => {
                Operation::SetMany { entries: batch(reader, |reader| Ok((reader.text()?, reader.bytes()?)))? }
            }
            10 => Operation::DeleteMany { keys: batch(reader, Reader::text)? },
            _ => return Err(Malformed::Unknown),
        };
        Ok(Self { bucket, operation })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.text(self.bucket);
        match &self.operation {
            Operation::Get { key } => writer.u8(0).text(key),
            Operation::Set { key, value } => writer.u8(1).text(key).bytes(value),
            Operation::Delete { key } => writer.u8(2).text(key),
            Operation::Exists { key } => writer.u8(3).text(key),
            Operation::List { after } => writer.u8(4).option(*after, |writer, after| _ = writer.text(after)),
            Operation::Increment { key, delta } => writer.u8(5).text(key).i64(*delta),
            Operation::Current { key } => writer.u8(6).text(key),
            Operation::Swap { key, expected, value } => writer
                .u8(7)
                .text(key)
                .option(*expected, |writer, version| _ = writer.u64(version))
                .bytes(value),
            Operation::GetMany { keys } => writer.u8(8).list(keys.iter(), |writer, key| _ = writer.text(key)),
            Operation::SetMany { entries } => {
                writer.u8(9).list(entries.iter(), |writer, (key, value)| _ = writer.text(key).bytes(value))
            }
            Operation::DeleteMany { keys } => {
                writer.u8(10).list(keys.iter(), |writer, key| _ = writer.text(key))
            }
        };
    }
}

fn batch<'a, T>(
    reader: &mut Reader<'a>,
    item: impl Fn(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    reader.list_up_to(BATCH_ENTRIES_MAX, item)
}

/// What the store answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are those of the store, and their fields what their names say")]
pub enum KvAnswer {
    Value(Option<Vec<u8>>),
    Done,
    Exists(bool),
    Keys {
        keys: Vec<String>,
        more: bool,
    },
    Number(i64),
    Versioned(Option<(Vec<u8>, u64)>),
    Swapped(bool),
    Values(Vec<Option<Vec<u8>>>),
    /// No grant covers it.
    Denied {
        message: String,
    },
    /// It failed in another way.
    Failed {
        message: String,
    },
}

impl KvAnswer {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let value = |reader: &mut Reader<'_>| reader.option(|reader| reader.bytes().map(Vec::from));
        Ok(match reader.u8()? {
            0 => Self::Value(value(reader)?),
            1 => Self::Done,
            2 => Self::Exists(reader.bool()?),
            3 => Self::Keys {
                keys: reader.list(|reader| reader.text().map(String::from))?,
                more: reader.bool()?,
            },
            4 => Self::Number(reader.i64()?),
            5 => Self::Versioned(reader.option(|reader| Ok((reader.bytes()?.into(), reader.u64()?)))?),
            6 => Self::Swapped(reader.bool()?),
            7 => Self::Values(reader.list(value)?),
            8 => Self::Denied { message: reader.text()?.into() },
            9 => Self::Failed { message: reader.text()?.into() },
            _ => return Err(Malformed::Unknown),
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        let value = |writer: &mut Writer, value: &Option<Vec<u8>>| {
            writer.option(value.as_ref(), |writer, value| _ = writer.bytes(value));
        };
        match self {
            Self::Value(found) => value(writer.u8(0), found),
            Self::Done => _ = writer.u8(1),
            Self::Exists(exists) => _ = writer.u8(2).bool(*exists),
            Self::Keys { keys, more } => {
                writer.u8(3).list(keys.iter(), |writer, key| _ = writer.text(key)).bool(*more);
            }
            Self::Number(number) => _ = writer.u8(4).i64(*number),
            Self::Versioned(found) => {
                writer.u8(5).option(found.as_ref(), |writer, (value, version)| {
                    writer.bytes(value).u64(*version);
                });
            }
            Self::Swapped(done) => _ = writer.u8(6).bool(*done),
            Self::Values(values) => _ = writer.u8(7).list(values.iter(), value),
            Self::Denied { message } => _ = writer.u8(8).text(message),
            Self::Failed { message } => _ = writer.u8(9).text(message),
        }
    }
}
