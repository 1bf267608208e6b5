//! Facts without an end: the connection may break, and the control plane may be another when it is back. What was
//! told is not told twice.
//!
//! ```text
//!         token ┌────────── the connection broke ◄──────────┐
//!  open ──good──┴──► told one by one ───────────────────────┘
//!    └── of another run of the control plane ──► from the beginning, less what was told
//! ```

use std::collections::HashMap;

use futures::StreamExt as _;
use tokio::time::Instant;
use wasmatrix_model::{ErrorCode, Fact, NodeId, Timestamp};

use super::{
    Client,
    patience::Patience,
    streams::{Facts, FactsWanted},
};
use crate::{
    error::CliError,
    output::{human, stream::FactWithToken},
};

/// Facts as they come, over as many connections as it takes.
pub(crate) struct Followed {
    client: Client,
    wanted: FactsWanted,
    stream: Facts,
    told: Told,
    /// Whether the stream began anew, so that it may hold what was told.
    anew: bool,
}

impl Followed {
    /// Begins to follow.
    ///
    /// # Errors
    /// Nobody answers, or what is wanted is refused: at the beginning neither is waited out.
    pub(crate) async fn begin(client: Client, wanted: FactsWanted) -> Result<Self, CliError> {
        let wanted = FactsWanted { follow: true, ..wanted };
        let stream = client.facts(&wanted).await?;
        Ok(Self { client, wanted, stream, told: Told::default(), anew: false })
    }

    /// The next fact. Cancel-safe, except while it is connecting again: then the next call connects again.
    ///
    /// # Errors
    /// The control plane refuses; that a connection breaks is none.
    pub(crate) async fn next(&mut self) -> Result<FactWithToken, CliError> {
        loop {
            match self.stream.next().await {
                Some(Ok(fact)) => {
                    self.wanted.since = Some(fact.resume_token.clone());
                    let new = self.told.tell(&fact.fact);
                    if new || !self.anew {
                        return Ok(fact);
                    }
                }
                Some(Err(error)) if passes(&error) => self.reopen().await?,
                Some(Err(error)) => return Err(error),
                None => self.reopen().await?,
            }
        }
    }

    async fn reopen(&mut self) -> Result<(), CliError> {
        let since = Instant::now();
        let mut patience = Patience::default();
        loop {
            match self.client.facts(&self.wanted).await {
                Ok(stream) => {
                    self.stream = stream;
                    let addr = self.client.addr();
                    self.client.say(&format!(
                        "the connection to {addr} broke and is back after {}; no event is told twice",
                        human::time(since.elapsed())
                    ));
                    return Ok(());
                }
                // A token of the control plane as it was before.
                Err(CliError::Refused(failure))
                    if failure.code == ErrorCode::InvalidRequest && self.wanted.since.is_some() =>
                {
                    self.wanted.since = None;
                    self.anew = true;
                }
                Err(error) if passes(&error) => tokio::time::sleep(patience.pause()).await,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether it may be over by itself.
pub(crate) fn passes(error: &CliError) -> bool {
    match error {
        CliError::Broken { .. } | CliError::Unreachable { .. } | CliError::Deadline { .. } => true,
        CliError::Refused(failure) => failure.code == ErrorCode::NodeUnavailable,
        _ => false,
    }
}

/// Up to where each node's facts were told. A node numbers its facts from 1 in each of its runs, and each of its runs
/// is later than those before.
#[derive(Debug, Default)]
struct Told(HashMap<NodeId, (Timestamp, u64)>);

impl Told {
    /// Notes that a fact is being told; gives whether it was not told before.
    fn tell(&mut self, fact: &Fact) -> bool {
        let Some(last) = self.0.get_mut(&fact.node) else {
            self.0.insert(fact.node.clone(), (fact.at, fact.seq));
            return true;
        };
        if (fact.at, fact.seq) <= *last {
            return false;
        }
        *last = (fact.at, fact.seq);
        true
    }
}

#[cfg(test)]
mod tests {
    use wasmatrix_model::FactKind;

    use super::*;

    fn fact(node: &str, seq: u64, second: i64) -> Fact {
        let at = Timestamp::from_second(second).unwrap();
        Fact { seq, at, node: node.parse().unwrap(), kind: FactKind::NodeStopping }
    }

    #[test]
    fn what_is_told_again_from_the_beginning_is_known_again() {
        let mut told = Told::default();
        let first = [fact("a", 1, 1), fact("b", 1, 1), fact("a", 2, 1), fact("b", 2, 5)];
        assert!(first.iter().all(|fact| told.tell(fact)));
        // The same in another order of nodes, and what is new: later facts, another run of `b`, another node.
        let again = [
            (fact("b", 1, 1), false),
            (fact("b", 2, 5), false),
            (fact("b", 3, 5), true),
            (fact("a", 1, 1), false),
            (fact("a", 2, 1), false),
            (fact("b", 1, 9), true),
            (fact("c", 1, 0), true),
        ];
        for (fact, new) in again {
            assert_eq!(told.tell(&fact), new, "{fact:?}");
        }
    }
}
