//! What a guest asks its host for.

use alloc::{string::String, vec::Vec};
use core::fmt;

use crate::{
    KvRequest,
    codec::{Malformed, Reader, Writer},
    engine::BACKTRACE_FRAMES_MAX,
    layout::STREAM_BYTES_MAX,
};

/// One request. What it borrows is the host's own copy of the bytes: the guest can't change them any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// The runtime has booted and waits for its code. Answer: [`crate::Response::Load`].
    Ready,
    /// Memory is wanted at `address`. Answer: `Yes`, or `No` if there is none left.
    Commit {
        /// Where, page-aligned, within the linear memories.
        address: u64,
        /// How much, in whole pages.
        bytes: u64,
    },
    /// Bytes for a standard output. Answer: `Yes`, or `No` if it is closed.
    Write {
        /// Standard error, not standard output.
        to_stderr: bool,
        /// The bytes, at most [`STREAM_BYTES_MAX`].
        bytes: &'a [u8],
    },
    /// Bytes of standard input. Answer: `Bytes`, empty if there are none yet; `No` at the end.
    Read {
        /// At most so many.
        bytes_max: u32,
        /// Whether to wait for the first.
        wait: bool,
    },
    /// Waits. Answer: `Yes` when standard input can be read, `No` when the time has come.
    Wait {
        /// Until then, on the monotonic clock, in nanoseconds. `None`: for ever.
        deadline_nanos: Option<u64>,
        /// Also for standard input.
        stdin: bool,
    },
    /// The monotonic clock. Answer: `Number`, in nanoseconds since the run began.
    MonotonicClock,
    /// The time of day. Answer: `Time`.
    WallClock,
    /// Random bytes. Answer: `Bytes`, as many as asked for.
    Random {
        /// How many.
        bytes: u32,
    },
    /// A call of `wasi:logging`. Answer: `Yes`.
    Log {
        /// How grave, from 0, as in the interface.
        level: u8,
        /// The context.
        context: &'a str,
        /// The message.
        message: &'a str,
    },
    /// A call of `wasi:keyvalue`. Answer: `Kv`.
    Kv(KvRequest<'a>),
    /// The run is over. There is no answer.
    End(End),
    /// All modules are instantiated and the program begins. Answer: `Yes`.
    Started,
    /// The code is loaded and the runtime waits for its run. Answer: [`crate::Response::Start`], or
    /// [`crate::Response::Instantiate`] or [`crate::Response::Touch`], to do ahead of it what needs nothing of it.
    Loaded,
    /// All modules are instantiated, none of their code has run, and the runtime waits for its run. Answer:
    /// [`crate::Response::Start`], or [`crate::Response::Touch`].
    Instantiated {
        /// All linear memories together, in bytes.
        memory_bytes: u64,
        /// All tables together, in elements.
        table_elements: u64,
    },
}

/// How a run ended, as its runtime saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With an exit code.
    Exited {
        /// The code.
        code: u8,
    },
    /// With a trap.
    Trapped {
        /// Which, in wasmtime's words.
        trap: String,
        /// Where.
        backtrace: Backtrace,
    },
    /// With a limit.
    LimitReached {
        /// Which: 0 memory, 1 tables, 2 handles.
        limit: u8,
        /// Its value and what was wanted.
        message: String,
    },
    /// It never began: its start function failed, or the runtime would not have it.
    StartFailed {
        /// Why.
        message: String,
    },
    /// The runtime itself failed.
    RuntimeFailed {
        /// How.
        message: String,
    },
}

fn chunk(bytes: &[u8]) -> Result<&[u8], Malformed> {
    if bytes.len() > STREAM_BYTES_MAX as usize { Err(Malformed::TooMuch) } else { Ok(bytes) }
}

/// Frames, innermost first; at most [`BACKTRACE_FRAMES_MAX`].
pub type Backtrace = Vec<StackFrame>;

/// A line of a Wasm backtrace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackFrame {
    /// The module's name, where it has one.
    pub module: Option<String>,
    /// The function's name, where it has one, as it stands in the module.
    pub function: Option<String>,
    /// The function's index.
    pub index: u32,
    /// The instruction's offset in the module, in bytes.
    pub offset: Option<u64>,
}

impl<'a> Request<'a> {
    /// Reads a request that a guest wrote. Whatever the bytes are, this returns.
    ///
    /// # Errors
    /// They are no request.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let request = match reader.u8()? {
            0 => Self::Ready,
            1 => Self::Commit { address: reader.u64()?, bytes: reader.u64()? },
            2 => Self::Write { to_stderr: reader.bool()?, bytes: chunk(reader.bytes()?)? },
            3 => Self::Read { bytes_max: reader.u32()?, wait: reader.bool()? },
            4 => Self::Wait { deadline_nanos: reader.option(Reader::u64)?, stdin: reader.bool()? },
            5 => Self::MonotonicClock,
            6 => Self::WallClock,
            7 => Self::Random { bytes: reader.u32()? },
            8 => Self::Log { level: reader.u8()?, context: reader.text()?, message: reader.text()? },
            9 => Self::Kv(KvRequest::read(&mut reader)?),
            10 => Self::End(End::read(&mut reader)?),
            11 => Self::Started,
            12 => Self::Loaded,
            13 => Self::Instantiated { memory_bytes: reader.u64()?, table_elements: reader.u64()? },
            _ => return Err(Malformed::Unknown),
        };
        reader.finish()?;
        Ok(request)
    }

    /// The request as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self {
            Self::Ready => _ = writer.u8(0),
            Self::Commit { address, bytes } => _ = writer.u8(1).u64(*address).u64(*bytes),
            Self::Write { to_stderr, bytes } => _ = writer.u8(2).bool(*to_stderr).bytes(bytes),
            Self::Read { bytes_max, wait } => _ = writer.u8(3).u32(*bytes_max).bool(*wait),
            Self::Wait { deadline_nanos, stdin } => {
                writer.u8(4).option(*deadline_nanos, |writer, nanos| _ = writer.u64(nanos)).bool(*stdin);
            }
            Self::MonotonicClock => _ = writer.u8(5),
            Self::WallClock => _ = writer.u8(6),
            Self::Random { bytes } => _ = writer.u8(7).u32(*bytes),
            Self::Log { level, context, message } => _ = writer.u8(8).u8(*level).text(context).text(message),
            Self::Kv(request) => request.write(writer.u8(9)),
            Self::End(end) => end.write(writer.u8(10)),
            Self::Started => _ = writer.u8(11),
            Self::Loaded => _ = writer.u8(12),
            Self::Instantiated { memory_bytes, table_elements } => {
                writer.u8(13).u64(*memory_bytes).u64(*table_elements);
            }
        }
        writer.into_bytes()
    }
}

impl End {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match reader.u8()? {
            0 => Self::Exited { code: reader.u8()? },
            1 => Self::Trapped {
                trap: reader.text()?.into(),
                backtrace: reader.list_up_to(BACKTRACE_FRAMES_MAX.get(), StackFrame::read)?,
            },
            2 => Self::LimitReached { limit: reader.u8()?, message: reader.text()?.into() },
            3 => Self::StartFailed { message: reader.text()?.into() },
            4 => Self::RuntimeFailed { message: reader.text()?.into() },
            _ => return Err(Malformed::Unknown),
        })
    }

    fn write(&self, writer: &mut Writer) {
        match self {
            Self::Exited { code } => writer.u8(0).u8(*code),
            Self::Trapped { trap, backtrace } => {
                writer.u8(1).text(trap).list(backtrace.iter(), |writer, frame| frame.write(writer))
            }
            Self::LimitReached { limit, message } => writer.u8(2).u8(*limit).text(message),
            Self::StartFailed { message } => writer.u8(3).text(message),
            Self::RuntimeFailed { message } => writer.u8(4).text(message),
        };
    }
}

/// Longest text of a [`LastWords`], in bytes.
const LAST_WORDS_BYTES_MAX: usize = 512;
/// What stands before the text of an [`Request::End`] with an [`End::RuntimeFailed`], and before its length.
const RUNTIME_FAILED: [u8; 2] = [10, 4];
const LAST_WORDS_HEAD: usize = RUNTIME_FAILED.len() + 4;

/// An [`End::RuntimeFailed`] that takes no memory to write, because memory may be what failed. Text that is too long is
/// cut.
#[derive(Debug)]
pub struct LastWords {
    request: [u8; LAST_WORDS_HEAD + LAST_WORDS_BYTES_MAX],
    text_bytes: usize,
}

impl LastWords {
    /// Of whatever can be shown.
    pub fn of(reason: &dyn fmt::Display) -> Self {
        let mut words = Self { request: [0; LAST_WORDS_HEAD + LAST_WORDS_BYTES_MAX], text_bytes: 0 };
        words.request[..2].copy_from_slice(&RUNTIME_FAILED);
        // Fails when the text is too long, and what was written until then stays.
        let _cut = fmt::write(&mut words, format_args!("{reason}"));
        words
    }

    /// The request as bytes.
    pub fn request(&self) -> &[u8] {
        &self.request[..LAST_WORDS_HEAD + self.text_bytes]
    }
}

impl fmt::Write for LastWords {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let end = piece.floor_char_boundary(LAST_WORDS_BYTES_MAX - self.text_bytes);
        let at = LAST_WORDS_HEAD + self.text_bytes;
        self.request[at..at + end].copy_from_slice(&piece.as_bytes()[..end]);
        self.text_bytes += end;
        self.request[2..LAST_WORDS_HEAD].copy_from_slice(&(self.text_bytes as u32).to_le_bytes());
        if end == piece.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

impl StackFrame {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            module: reader.option(|reader| reader.text().map(String::from))?,
            function: reader.option(|reader| reader.text().map(String::from))?,
            index: reader.u32()?,
            offset: reader.option(Reader::u64)?,
        })
    }

    fn write(&self, writer: &mut Writer) {
        writer
            .option(self.module.as_deref(), |writer, name| _ = writer.text(name))
            .option(self.function.as_deref(), |writer, name| _ = writer.text(name))
            .u32(self.index)
            .option(self.offset, |writer, offset| _ = writer.u64(offset));
    }
}
