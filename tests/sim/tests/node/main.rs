//! A simulated node, as a control plane meets it: over pipes under a paused clock, and over TCP.

#![expect(clippy::unwrap_used, reason = "what a test takes for granted and is not so ends it")]

mod attendance;
mod instances;
mod weather;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tonic::{Status, transport::Channel};
use wasmatrix_model::{
    Clock as _, Digest, Failure, InstanceSpec, InstanceStatus, Phase, RestartMode, RestartPolicy, SystemClock,
};
use wasmatrix_sim::{Link, Lives, Net, Seed, SimClock, SimNode, Traits};
use wasmatrix_wire::{
    StartRequest,
    failure::from_status,
    start_parts,
    v1::{self, agent_client::AgentClient},
};

/// What stands for an artifact: nothing runs it.
const ARTIFACT: &[u8] = b"not even Wasm";

/// A node that is up, and a client of it.
struct Front {
    node: SimNode,
    net: Net,
    client: AgentClient<Channel>,
}

impl Front {
    async fn on(net: Net, lives: Lives) -> Self {
        let traits = Traits { lives, ..Traits::new("node-0".parse().unwrap(), Seed::new(1)) };
        // Nobody listens there; the node tries again for as long as it lives.
        let nowhere = "http://127.0.0.1:1";
        let node = SimNode::new(traits, net.clone(), Some(Link::new()), Arc::new(SimClock::new()), nowhere);
        node.boot().await.unwrap();
        let client = AgentClient::new(net.channel(&node.address().unwrap(), None));
        Self { node, net, client }
    }

    async fn new() -> Self {
        Self::on(Net::memory(), Lives::calm()).await
    }

    async fn start(&mut self, request: impl Into<StartRequest>) -> Result<InstanceStatus, Failure> {
        self.start_with(request, Bytes::from_static(ARTIFACT)).await
    }

    async fn start_with(
        &mut self,
        request: impl Into<StartRequest>,
        artifact: Bytes,
    ) -> Result<InstanceStatus, Failure> {
        let parts = tokio_stream::iter(start_parts(request, artifact));
        let answer = self.client.start_instance(parts).await.map_err(failure)?;
        Ok(answer.into_inner().instance.unwrap().try_into().unwrap())
    }

    async fn get(&mut self, instance: &str) -> Result<InstanceStatus, Failure> {
        let request = v1::GetInstanceRequest { instance: instance.to_owned() };
        let answer = self.client.get_instance(request).await.map_err(failure)?;
        Ok(answer.into_inner().instance.unwrap().try_into().unwrap())
    }
}

fn failure(status: Status) -> Failure {
    from_status(&status, SystemClock.now())
}

fn spec(name: &str) -> InstanceSpec {
    InstanceSpec::new(name.parse().unwrap(), Digest::of(ARTIFACT))
}

/// A spec whose configuration says what becomes of the instance.
fn doomed(name: &str, run: &str, end: &str) -> InstanceSpec {
    let config = [("sim-run", run), ("sim-end", end)].map(|(key, value)| (key.to_owned(), value.to_owned()));
    InstanceSpec { config: config.into(), ..spec(name) }
}
