//! What users ask of nodes.

use std::sync::Arc;

use tonic::Status;
use wasmatrix_model::{ErrorCode, NodeStatus};
use wasmatrix_wire::{failure::to_status, v1};

use super::Service;
use crate::{
    cordon,
    nodes::{Link, Node},
    route,
};

impl Service {
    /// Every node that is known.
    pub(super) async fn nodes(&self) -> v1::ListNodesResponse {
        route::settled(&self.cluster).await;
        let nodes = self.cluster.nodes.all();
        v1::ListNodesResponse { nodes: nodes.iter().map(|node| self.status(node).into()).collect() }
    }

    fn status(&self, node: &Node) -> NodeStatus {
        node.status(self.cluster.mirror.load(&node.id))
    }

    /// The node of that id.
    pub(super) fn known_node(&self, id: &str) -> Result<Arc<Node>, Status> {
        let id = self.node_id(id)?;
        self.cluster.nodes.get(&id).ok_or_else(|| {
            let problem = format!("no node is called {id}: `wasmatrix node ls` shows those that are known");
            to_status(&self.cluster.invalid("node", problem).with("node", id.as_str()))
        })
    }

    pub(super) async fn cordon(
        &self,
        request: v1::CordonNodeRequest,
        by: &str,
    ) -> Result<v1::CordonNodeResponse, Status> {
        let node = self.known_node(&request.node)?;
        cordon::decide(&self.cluster, &node, request.cordoned, by);
        cordon::told(&node).await;
        Ok(v1::CordonNodeResponse { node: Some(self.status(&node).into()) })
    }

    /// How to ask the node whose provider is meant.
    pub(super) fn provider_link(&self, node: &str) -> Result<(Arc<Node>, Arc<Link>), Status> {
        let id = self.provider_node(node)?;
        let (node, link) = route::node(&self.cluster, &id).map_err(|failure| to_status(&failure))?;
        link.touch();
        Ok((node, link))
    }

    /// A token with which one machine may join.
    pub(super) fn join_token(
        &self,
        request: v1::CreateJoinTokenRequest,
    ) -> Result<v1::CreateJoinTokenResponse, Status> {
        let Some(joining) = &self.cluster.joining else {
            let message = "this control plane has no authority that could sign certificates, and nobody can join it from \
                           elsewhere: start it with --cluster-listen, which makes one";
            return Err(to_status(&self.cluster.failure(ErrorCode::CapabilityNotFound, message)));
        };
        joining.create(&self.cluster, request).map_err(|failure| to_status(&failure))
    }
}
