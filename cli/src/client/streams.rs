//! Logs and facts: what comes one at a time.

use futures::{StreamExt as _, stream::BoxStream};
use wasmatrix_model::{Fact, LogRecord};
use wasmatrix_wire::v1;

use super::{Client, required, told};
use crate::{error::CliError, output::stream::FactWithToken};

/// Which lines of which log.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogsWanted {
    /// Of the instance with this name or id.
    pub instance: String,
    /// Those to come, too.
    pub follow: bool,
    /// Only the last so many of those kept.
    pub tail: Option<u32>,
    /// Only later ones than the one with this number.
    pub after_seq: u64,
}

/// Which facts.
#[derive(Clone, Debug, Default)]
pub(crate) struct FactsWanted {
    /// Those to come, too.
    pub follow: bool,
    /// Only what is about this instance; `None`: of all.
    pub instance: Option<String>,
    /// Only what came after the fact with this token; `None`: all that are kept.
    pub since: Option<String>,
}

pub(crate) type Facts = BoxStream<'static, Result<FactWithToken, CliError>>;
pub(crate) type Lines = BoxStream<'static, Result<LogRecord, CliError>>;

impl Client {
    /// The lines that an instance said. Has no deadline once it has begun.
    pub(crate) async fn logs(&self, wanted: &LogsWanted) -> Result<Lines, CliError> {
        let request = v1::StreamLogsRequest {
            instance: wanted.instance.clone(),
            follow: wanted.follow,
            tail: wanted.tail,
            after_seq: wanted.after_seq,
        };
        let lines = self.answer(self.grpc.clone().stream_logs(request)).await?;
        let addr = self.addr.clone();
        Ok(lines
            .map(move |line| required("record", line.map_err(|status| told(&addr, &status))?.record))
            .boxed())
    }

    /// What happened. Has no deadline once it has begun.
    pub(crate) async fn facts(&self, wanted: &FactsWanted) -> Result<Facts, CliError> {
        let request = v1::WatchFactsRequest {
            follow: wanted.follow,
            resume_token: wanted.since.clone().unwrap_or_default(),
            instance: wanted.instance.clone().unwrap_or_default(),
        };
        let facts = self.answer(self.grpc.clone().watch_facts(request)).await?;
        let addr = self.addr.clone();
        Ok(facts
            .map(move |answer| {
                let answer = answer.map_err(|status| told(&addr, &status))?;
                let fact: Fact = required("fact", answer.fact)?;
                Ok(FactWithToken { fact, resume_token: answer.resume_token })
            })
            .boxed())
    }
}
