//! Holds an answer to the time that its request allows (`grpc-timeout`).
//!
//! The transport would end a call too, but in its own words, and not one whose answer is a stream that has begun. What
//! was asked goes on: only the waiting ends.

use std::{pin::Pin, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use tokio::time::Instant;
use tonic::{Status, metadata::MetadataMap};
use wasmatrix_model::{ErrorCode, Failure};
use wasmatrix_wire::failure::to_status;

use crate::Agent;

/// Where a request says how long it may take.
const HEADER: &str = "grpc-timeout";
/// How much earlier than the transport we end a call, so that the answer is in our words.
const AHEAD: Duration = Duration::from_millis(10);

/// Until when an answer is wanted. `None`: whenever it comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    /// The deadline of a request that has just come.
    pub(super) fn of(metadata: &MetadataMap) -> Self {
        let allowed = metadata.get(HEADER).and_then(|value| parse(value.to_str().ok()?));
        let allowed = allowed.map(|allowed| if allowed > 2 * AHEAD { allowed - AHEAD } else { allowed });
        Self(allowed.and_then(|allowed| Instant::now().checked_add(allowed)))
    }

    /// The answer, or word that it took too long.
    pub(super) async fn bound<T>(
        self,
        agent: &Agent,
        answer: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Status> {
        let answer = match self.0 {
            None => answer.await,
            Some(deadline) => tokio::time::timeout_at(deadline, answer).await.map_err(|_| late(agent))?,
        };
        answer.map_err(|failure| to_status(&failure))
    }

    /// The answers that come in time, and then word that it took too long.
    pub(super) fn bound_stream<T: Send + 'static>(
        self,
        agent: &Agent,
        answers: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>> {
        let Some(deadline) = self.0 else { return answers.boxed() };
        let agent = agent.clone();
        let state = Some((answers.boxed(), agent));
        stream::unfold(state, move |state| async move {
            let (mut answers, agent) = state?;
            match tokio::time::timeout_at(deadline, answers.next()).await {
                Ok(answer) => Some((answer?, Some((answers, agent)))),
                Err(_) => Some((Err(late(&agent)), None)),
            }
        })
        .boxed()
    }
}

fn late(agent: &Agent) -> Status {
    let message = "it was not done in the time that the request allowed; it goes on, so ask how it ended";
    to_status(&Failure::new(ErrorCode::Timeout, message, agent.now()))
}

/// Reads up to eight digits and a unit, as gRPC's protocol has it.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        assert_eq!(parse("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        for bad in ["", "S", "5", "5s", "-5S", "123456789S", "5é", "é"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
