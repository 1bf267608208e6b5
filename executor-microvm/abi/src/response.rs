//! What a guest is told.

use alloc::{string::String, vec::Vec};

use crate::{
    KvAnswer,
    codec::{Malformed, Reader, Writer, pairs},
};

/// The answer to a request; each request names its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// What to run.
    Start(Start),
    /// It is so, or it is done.
    Yes,
    /// It is not so, or it can't be done.
    No,
    /// Some bytes.
    Bytes(Vec<u8>),
    /// A number.
    Number(u64),
    /// The time of day, since 1970.
    Time {
        /// Whole seconds.
        seconds: u64,
        /// And nanoseconds.
        nanoseconds: u32,
    },
    /// Of key-value storage.
    Kv(KvAnswer),
    /// The code is mapped: load it.
    Load {
        /// Its length, in bytes.
        artifact_bytes: u64,
    },
    /// Instantiate ahead of the run.
    Instantiate,
    /// Touch pages, so that the run need not be the first to, and ask again.
    Touch {
        /// Address and length in bytes of each stretch.
        stretches: Vec<(u64, u64)>,
    },
}

/// All that a run is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Its arguments; the first is the program's name.
    pub args: Vec<String>,
    /// Its environment variables.
    pub env: Vec<(String, String)>,
    /// What `wasi:config` tells it.
    pub config: Vec<(String, String)>,
    /// All linear memories together, in bytes.
    pub memory_bytes_max: u64,
    /// All tables together, in elements.
    pub table_elements_max: u64,
    /// Resource handles held at one time.
    pub handles_max: u32,
    /// Whether standard input, output and error are terminals.
    pub terminals: [bool; 3],
}

impl Response {
    /// Reads a response.
    ///
    /// # Errors
    /// The bytes are none.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let response = match reader.u8()? {
            0 => Self::Start(Start::read(&mut reader)?),
            1 => Self::Yes,
            2 => Self::No,
            3 => Self::Bytes(reader.bytes()?.into()),
            4 => Self::Number(reader.u64()?),
            5 => Self::Time { seconds: reader.u64()?, nanoseconds: reader.u32()? },
            6 => Self::Kv(KvAnswer::read(&mut reader)?),
            7 => Self::Load { artifact_bytes: reader.u64()? },
            8 => Self::Instantiate,
            9 => Self::Touch { stretches: reader.list(|reader| Ok((reader.u64()?, reader.u64()?)))? },
            _ => return Err(Malformed::Unknown),
        };
        reader.finish()?;
        Ok(response)
    }

    /// The response as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self {
            Self::Start(start) => start.write(writer.u8(0)),
            Self::Yes => _ = writer.u8(1),
            Self::No => _ = writer.u8(2),
            Self::Bytes(bytes) => _ = writer.u8(3).bytes(bytes),
            Self::Number(number) => _ = writer.u8(4).u64(*number),
            Self::Time { seconds, nanoseconds } => _ = writer.u8(5).u64(*seconds).u32(*nanoseconds),
            Self::Kv(answer) => answer.write(writer.u8(6)),
            Self::Load { artifact_bytes } => _ = writer.u8(7).u64(*artifact_bytes),
            Self::Instantiate => _ = writer.u8(8),
            Self::Touch { stretches } => {
                writer.u8(9).list(stretches.iter(), |writer, (at, bytes)| _ = writer.u64(*at).u64(*bytes));
            }
        }
        writer.into_bytes()
    }
}

impl Start {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            args: reader.list(|reader| reader.text().map(String::from))?,
            env: pairs(reader)?,
            config: pairs(reader)?,
            memory_bytes_max: reader.u64()?,
            table_elements_max: reader.u64()?,
            handles_max: reader.u32()?,
            terminals: [reader.bool()?, reader.bool()?, reader.bool()?],
        })
    }

    fn write(&self, writer: &mut Writer) {
        let [stdin, stdout, stderr] = self.terminals;
        let pair = |writer: &mut Writer, (name, value): &(String, String)| _ = writer.text(name).text(value);
        writer
            .list(self.args.iter(), |writer, arg| _ = writer.text(arg))
            .list(self.env.iter(), pair)
            .list(self.config.iter(), pair)
            .u64(self.memory_bytes_max)
            .u64(self.table_elements_max)
            .u32(self.handles_max)
            .bool(stdin)
            .bool(stdout)
            .bool(stderr);
    }
}
