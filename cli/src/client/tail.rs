//! An instance's log without an end: its node may be lost and return, and a successor may take its place.

use futures::StreamExt as _;
use tokio::time::Instant;
use wasmatrix_model::{ErrorCode, InstanceId, InstanceStatus, LogRecord};
use wasmatrix_wire::newer;

use super::{
    Client,
    follow::passes,
    patience::Patience,
    streams::{Lines, LogsWanted},
};
use crate::{error::CliError, output::human};

/// Lines as they come, over as many connections as it takes.
pub(crate) struct Tail {
    client: Client,
    name: String,
    id: InstanceId,
    wanted: LogsWanted,
    stream: Lines,
}

impl Tail {
    /// Begins to follow.
    ///
    /// # Errors
    /// Nobody answers, there is no such instance, or its node is lost: at the beginning none is waited out.
    pub(crate) async fn begin(client: Client, wanted: LogsWanted) -> Result<Self, CliError> {
        let instance = client.get(&wanted.instance).await?;
        let wanted = LogsWanted { follow: true, instance: instance.id.to_string(), ..wanted };
        let stream = client.logs(&wanted).await?;
        let (id, name) = (instance.id, instance.spec.name.to_string());
        Ok(Self { client, name, id, wanted, stream })
    }

    /// The next line. `None`: the instance is not listed any more.
    ///
    /// # Errors
    /// The control plane refuses.
    pub(crate) async fn next(&mut self) -> Result<Option<LogRecord>, CliError> {
        loop {
            match self.stream.next().await {
                Some(Ok(line)) => {
                    self.wanted.after_seq = line.seq;
                    return Ok(Some(line));
                }
                Some(Err(error)) if !passes(&error) => return Err(error),
                ended => {
                    if let Some(Err(error)) = ended {
                        self.client.say(&format!("-- {error}"));
                    }
                    if !self.reopen().await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Waits until the instance, or its successor, can be heard, and opens its log. `false`: it is gone.
    async fn reopen(&mut self) -> Result<bool, CliError> {
        let since = Instant::now();
        let mut patience = Patience::default();
        // Whoever is told that its node is lost need not be told at each try.
        let mut told_unknown = false;
        loop {
            tokio::time::sleep(patience.pause()).await;
            match self.client.get(&self.name).await {
                Ok(instance) => match instance.unknown.as_ref().filter(|unknown| !newer::is_why(unknown)) {
                    Some(unknown) if !told_unknown => {
                        told_unknown = true;
                        self.client.say(&format!(
                            "-- {}; the log goes on when it can be heard again",
                            unknown.reason
                        ));
                    }
                    Some(_) => {}
                    None => {
                        if self.opened(&instance, since).await? {
                            return Ok(true);
                        }
                    }
                },
                Err(CliError::Refused(failure)) if failure.code == ErrorCode::InstanceNotFound => {
                    self.client.say(&format!("-- {} is listed no longer", self.name));
                    return Ok(false);
                }
                Err(error) if passes(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Opens the log of the instance as it is now; `false`: its node went away again meanwhile.
    async fn opened(&mut self, instance: &InstanceStatus, since: Instant) -> Result<bool, CliError> {
        let mut wanted = self.wanted.clone();
        wanted.tail = None;
        if instance.id != self.id {
            wanted.instance = instance.id.to_string();
            wanted.after_seq = 0;
        }
        let stream = match self.client.logs(&wanted).await {
            Ok(stream) => stream,
            Err(error) if passes(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        let told = if instance.id == self.id {
            format!("-- {} is heard again after {}", self.name, human::time(since.elapsed()))
        } else {
            let (node, generation) = (&instance.node, instance.generation);
            format!("-- {} is another instance now, of generation {generation} on node {node}", self.name)
        };
        self.client.say(&told);
        (self.id, self.wanted, self.stream) = (instance.id, wanted, stream);
        Ok(true)
    }
}
