//! `logs` and `events`: what comes one at a time, to its end or for ever.

use futures::{Stream, StreamExt as _, TryStreamExt as _, pin_mut};

use crate::{
    args::{Events, Global, Logs},
    client::Client,
    error::CliError,
    output::{Printer, stream::Streamed},
};

/// Shows what an instance said.
pub(crate) async fn logs(args: &Logs, global: &Global, out: &mut Printer) -> Result<(), CliError> {
    let client = Client::connect(global).await?;
    show(client.logs(args).await?, args.follow, out).await
}

/// Shows what happened.
pub(crate) async fn events(args: &Events, global: &Global, out: &mut Printer) -> Result<(), CliError> {
    let client = Client::connect(global).await?;
    show(client.facts(args).await?, args.watch, out).await
}

/// What is known by now is a list; what goes on is a document on each line. Both kept ends of the server are bounded,
/// so the list is.
async fn show<T: Streamed>(
    stream: impl Stream<Item = Result<T, CliError>>,
    follow: bool,
    out: &mut Printer,
) -> Result<(), CliError> {
    pin_mut!(stream);
    if !follow {
        let items: Vec<T> = stream.try_collect().await?;
        out.all(&items)?;
        return Ok(());
    }
    while let Some(item) = stream.next().await {
        out.next(&item?)?;
    }
    Ok(())
}
