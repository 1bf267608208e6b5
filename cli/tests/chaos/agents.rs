//! The agents themselves, asked past the control plane: what they list, what happened there, what their guests say.

use wasmatrix_identity::Expected;
use wasmatrix_model::{Fact, InstanceStatus, LogRecord, LogStream};
use wasmatrix_wire::v1::{self, agent_client::AgentClient};

use crate::{
    World,
    cluster::{Cluster, NODES},
    load::channel,
};

/// Lines of a log that are looked at: more than a turn of a service takes.
const TAIL: u32 = 30;

/// One agent. Only a control plane may ask it, so its certificate is shown.
#[derive(Clone, Debug)]
pub(crate) struct Agent(AgentClient<tonic::transport::Channel>);

impl Agent {
    pub(crate) fn of(world: &World, number: usize) -> Self {
        let certs = world.cluster.word("control/certs/control-plane");
        let node = NODES[number].parse().expect("a legal name");
        let channel = channel(&certs, &Cluster::agent_url(number), Expected::Node(node));
        Self(AgentClient::new(channel).max_decoding_message_size(usize::MAX))
    }

    /// All of them, in order.
    pub(crate) fn all(world: &World) -> Vec<Self> {
        (0..NODES.len()).map(|number| Self::of(world, number)).collect()
    }

    /// All that it lists.
    pub(crate) async fn list(&mut self) -> Result<Vec<InstanceStatus>, String> {
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListInstancesRequest { page_token, ..Default::default() };
            let page = self.0.list_instances(request).await.map_err(in_words)?.into_inner();
            for instance in page.instances {
                all.push(InstanceStatus::try_from(instance).map_err(|invalid| invalid.to_string())?);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// All that happened there in this run of it.
    pub(crate) async fn facts(&mut self) -> Result<Vec<Fact>, String> {
        let mut stream =
            self.0.watch_facts(v1::WatchFactsRequest::default()).await.map_err(in_words)?.into_inner();
        let mut facts = Vec::new();
        while let Some(message) = stream.message().await.map_err(in_words)? {
            let fact = message.fact.ok_or("a message without a fact")?;
            facts.push(Fact::try_from(fact).map_err(|invalid| invalid.to_string())?);
        }
        Ok(facts)
    }

    /// The last that an instance wrote to its standard output.
    pub(crate) async fn tail(&mut self, instance: &str) -> Result<Vec<String>, String> {
        self.log(instance, Some(TAIL)).await
    }

    /// All that is kept of what it wrote there.
    pub(crate) async fn whole_log(&mut self, instance: &str) -> Result<Vec<String>, String> {
        self.log(instance, None).await
    }

    async fn log(&mut self, instance: &str, tail: Option<u32>) -> Result<Vec<String>, String> {
        let request =
            v1::StreamLogsRequest { instance: instance.to_owned(), follow: false, tail, after_seq: 0 };
        let mut stream = self.0.stream_logs(request).await.map_err(in_words)?.into_inner();
        let mut lines = Vec::new();
        while let Some(message) = stream.message().await.map_err(in_words)? {
            let record = message.record.ok_or("a message without a line")?;
            let record = LogRecord::try_from(record).map_err(|invalid| invalid.to_string())?;
            if record.stream == LogStream::Stdout {
                lines.push(record.line);
            }
        }
        Ok(lines)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what an error is mapped by")]
fn in_words(status: tonic::Status) -> String {
    format!("{}: {}", status.code(), status.message())
}
