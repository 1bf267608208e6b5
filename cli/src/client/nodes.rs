//! Calls about nodes, providers and join tokens.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use wasmatrix_model::{
    Capability, Clock as _, ErrorCode, Failure, InstanceStatus, NodeId, NodeStatus, ProviderStatus,
    SystemClock, Timestamp,
};
use wasmatrix_wire::{
    time::{duration_to_v1, timestamp_from_v1},
    v1::{self, drain_node_response::Outcome as WireOutcome},
};

use super::{Client, converted, nonsense, present, required, told};
use crate::error::CliError;

/// What became of one instance of a node that is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It was stopped.
    Stopped,
    /// It was stopped there, and another was started elsewhere.
    Moved,
    /// It is there still, or gone without a successor.
    Failed,
}

/// One step of a drain.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Drained {
    /// The instance; if it was moved, the one that was started elsewhere.
    pub instance: InstanceStatus,
    /// What became of it.
    pub outcome: Outcome,
    /// More about it; why, if it failed.
    pub message: String,
    /// Instances of the node that are still to go.
    pub remaining: u32,
}

/// A join token, and until when it can be used.
#[derive(serde::Serialize)]
pub(crate) struct JoinToken {
    /// The secret.
    pub token: String,
    /// Its end.
    pub expires_at: Timestamp,
}

impl Client {
    /// Every node, in the order of their names.
    pub(crate) async fn nodes(&self) -> Result<Vec<NodeStatus>, CliError> {
        let answer = self.answer(self.grpc.clone().list_nodes(self.request(v1::ListNodesRequest {}))).await?;
        let nodes: Result<Vec<NodeStatus>, _> =
            answer.nodes.into_iter().map(|node| converted("nodes", node)).collect();
        let mut nodes = nodes?;
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(nodes)
    }

    /// One node.
    pub(crate) async fn node(&self, id: &NodeId) -> Result<NodeStatus, CliError> {
        let nodes = self.nodes().await?;
        let known: Vec<String> = nodes.iter().map(|node| node.id.to_string()).collect();
        nodes.into_iter().find(|node| node.id == *id).ok_or_else(|| {
            let known = if known.is_empty() { "there is none yet".to_owned() } else { known.join(", ") };
            let message = format!("no node is called `{id}`");
            // The same code as for an instance that is not there: there is no other for what can't be found.
            let failure = Failure::new(ErrorCode::InstanceNotFound, message, SystemClock.now());
            CliError::Refused(failure.with("hint", format!("the nodes are: {known}")))
        })
    }

    /// Lets a node take no new instances, or take them again.
    pub(crate) async fn cordon(&self, node: &NodeId, cordoned: bool) -> Result<NodeStatus, CliError> {
        let request = v1::CordonNodeRequest { node: node.to_string(), cordoned };
        let answer = self.answer(self.grpc.clone().cordon_node(self.request(request))).await?;
        required("node", answer.node)
    }

    /// Cordons a node and ends what runs there. Has no deadline once it has begun.
    pub(crate) async fn drain(
        &self,
        node: &NodeId,
        grace: Duration,
    ) -> Result<impl Stream<Item = Result<Drained, CliError>> + use<>, CliError> {
        let request = v1::DrainNodeRequest { node: node.to_string(), grace: Some(duration_to_v1(grace)) };
        // The first step may take as long as an instance takes to stop and another to start.
        let patience = self.timeout.saturating_add(grace);
        let steps = self.answer_within(patience, self.grpc.clone().drain_node(request)).await?;
        let addr = self.addr.clone();
        Ok(steps.map(move |step| {
            let step = step.map_err(|status| told(&addr, &status))?;
            let outcome = match step.outcome() {
                WireOutcome::Stopped => Outcome::Stopped,
                WireOutcome::Moved => Outcome::Moved,
                WireOutcome::Failed | WireOutcome::Unspecified => Outcome::Failed,
            };
            let instance = required("instance", step.instance)?;
            Ok(Drained { instance, outcome, message: step.message, remaining: step.remaining })
        }))
    }

    /// Forgets a lost node.
    pub(crate) async fn forget(&self, node: &NodeId) -> Result<(), CliError> {
        let request = v1::ForgetNodeRequest { node: node.to_string() };
        self.answer(self.grpc.clone().forget_node(self.request(request))).await?;
        Ok(())
    }

    /// Makes a token with which one machine may join.
    pub(crate) async fn create_token(
        &self,
        valid_for: Duration,
        node: Option<&NodeId>,
    ) -> Result<JoinToken, CliError> {
        let request = v1::CreateJoinTokenRequest {
            valid_for: Some(duration_to_v1(valid_for)),
            node: node.map(ToString::to_string).unwrap_or_default(),
        };
        let answer = self.answer(self.grpc.clone().create_join_token(self.request(request))).await?;
        let expires_at = present("expires_at", answer.expires_at)?;
        let expires_at = timestamp_from_v1("expires_at", expires_at).map_err(|invalid| nonsense(&invalid))?;
        Ok(JoinToken { token: answer.token, expires_at })
    }

    /// Lets a provider answer again. `node`: where; `None`: on the only node there is.
    pub(crate) async fn start_provider(
        &self,
        capability: Capability,
        node: Option<&NodeId>,
    ) -> Result<ProviderStatus, CliError> {
        let request = v1::StartProviderRequest {
            capability: capability.to_string(),
            node: node.map(ToString::to_string).unwrap_or_default(),
        };
        let answer = self.answer(self.grpc.clone().start_provider(self.request(request))).await?;
        required("provider", answer.provider)
    }

    /// Lets a provider finish what it has and take nothing new. `node`: as in [`Client::start_provider`].
    pub(crate) async fn stop_provider(
        &self,
        capability: Capability,
        drain: Duration,
        node: Option<&NodeId>,
    ) -> Result<ProviderStatus, CliError> {
        let request = v1::StopProviderRequest {
            capability: capability.to_string(),
            drain: Some(duration_to_v1(drain)),
            node: node.map(ToString::to_string).unwrap_or_default(),
        };
        let patience = self.timeout.saturating_add(drain);
        let answer = self.answer_within(patience, self.grpc.clone().stop_provider(request)).await?;
        required("provider", answer.provider)
    }
}
