//! What an instance said.

use wasmatrix_model::{LogRecord, failure::Invalid};

use crate::{
    field,
    time::{timestamp_from_v1, timestamp_to_v1},
    v1,
};

impl From<LogRecord> for v1::LogRecord {
    fn from(record: LogRecord) -> Self {
        Self {
            seq: record.seq,
            at: Some(timestamp_to_v1(record.at)),
            stream: v1::LogStream::from(record.stream).into(),
            restart: record.restart,
            level: record.level.map_or(v1::LogLevel::Unspecified, Into::into).into(),
            context: record.context,
            line: record.line,
        }
    }
}

impl TryFrom<v1::LogRecord> for LogRecord {
    type Error = Invalid;

    fn try_from(record: v1::LogRecord) -> Result<Self, Invalid> {
        let level = if record.level == v1::LogLevel::Unspecified as i32 {
            None
        } else {
            Some(field::choice::<v1::LogLevel, _>("level", record.level)?)
        };
        Ok(Self {
            seq: record.seq,
            at: timestamp_from_v1("at", field::required("at", record.at)?)?,
            stream: field::choice::<v1::LogStream, _>("stream", record.stream)?,
            restart: record.restart,
            level,
            context: record.context,
            line: record.line,
        })
    }
}
