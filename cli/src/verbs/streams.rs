//! `logs` and `events`: what comes one at a time, to its end or for ever.

use futures::TryStreamExt as _;

use crate::{
    args::{Events, Global, Logs},
    client::{
        Client,
        follow::Followed,
        streams::{FactsWanted, LogsWanted},
        tail::Tail,
    },
    error::CliError,
    output::Printer,
};

/// Shows what an instance said. What is known by now is a list; what goes on is a document on each line. What a node
/// keeps of a log is bounded, so the list is.
pub(crate) async fn logs(args: &Logs, global: &Global, out: &mut Printer) -> Result<(), CliError> {
    let client = Client::connect(global).await?;
    let wanted = LogsWanted { instance: args.name.clone(), tail: args.tail, ..LogsWanted::default() };
    if !args.follow {
        let lines: Vec<_> = client.logs(&wanted).await?.try_collect().await?;
        out.all(&lines)?;
        return Ok(());
    }
    let mut tail = Tail::begin(client, wanted).await?;
    while let Some(line) = tail.next().await? {
        out.next(&line)?;
    }
    Ok(())
}

/// Shows what happened, in the same way.
pub(crate) async fn events(args: &Events, global: &Global, out: &mut Printer) -> Result<(), CliError> {
    let client = Client::connect(global).await?;
    let wanted =
        FactsWanted { instance: args.instance.clone(), since: args.since.clone(), ..FactsWanted::default() };
    if !args.watch {
        let facts: Vec<_> = client.facts(&wanted).await?.try_collect().await?;
        out.all(&facts)?;
        return Ok(());
    }
    let mut followed = Followed::begin(client, wanted).await?;
    loop {
        out.next(&followed.next().await?)?;
    }
}
