//! Calls about instances.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;
use wasmatrix_model::{Grant, Grants, InstanceSpec, InstanceStatus, NodeId};
use wasmatrix_wire::{StartRequest, grant, time::duration_to_v1, v1};

use super::{Client, converted, nonsense, patience::Patience, required, within};
use crate::error::CliError;

impl Client {
    /// Starts an instance and waits until its first run has begun. Where the connection breaks, it is tried again
    /// until the time is up: the request has a key, by which the control plane knows it again.
    pub(crate) async fn start(
        &self,
        spec: InstanceSpec,
        artifact: Bytes,
    ) -> Result<InstanceStatus, CliError> {
        let key = Uuid::now_v7().to_string();
        let request = StartRequest { spec, idempotency_key: Some(key), assignment: None };
        let deadline = Instant::now() + self.timeout;
        let mut patience = Patience::default();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let parts = tokio_stream::iter(wasmatrix_wire::start_parts(request.clone(), artifact.clone()));
            let call = self.grpc.clone();
            let answer =
                self.answer_within(left, async { { call }.start_instance(within(left, parts)).await });
            let error = match answer.await {
                Ok(answer) => return required("instance", answer.instance),
                Err(error @ CliError::Broken { .. }) => error,
                Err(error) => return Err(error),
            };
            let pause = patience.pause();
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            if patience.is_first() {
                let name = &request.spec.name;
                self.say(&format!("{error}; trying to start {name} again, which makes no second one"));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Stops an instance and waits until it has ended.
    pub(crate) async fn stop(&self, instance: &str, grace: Duration) -> Result<InstanceStatus, CliError> {
        let request =
            v1::StopInstanceRequest { instance: instance.to_owned(), grace: Some(duration_to_v1(grace)) };
        let patience = self.timeout.saturating_add(grace);
        let answer = self.answer_within(patience, self.grpc.clone().stop_instance(request)).await?;
        required("instance", answer.instance)
    }

    /// Forgets an instance that has ended.
    pub(crate) async fn remove(&self, instance: &str) -> Result<(), CliError> {
        let request = v1::RemoveInstanceRequest { instance: instance.to_owned() };
        self.answer(self.grpc.clone().remove_instance(self.request(request))).await?;
        Ok(())
    }

    /// An instance as it is now.
    pub(crate) async fn get(&self, instance: &str) -> Result<InstanceStatus, CliError> {
        let request = v1::GetInstanceRequest { instance: instance.to_owned() };
        let answer = self.answer(self.grpc.clone().get_instance(self.request(request))).await?;
        required("instance", answer.instance)
    }

    /// Every instance, or every one of a node, in the order of their names.
    pub(crate) async fn list(&self, node: Option<&NodeId>) -> Result<Vec<InstanceStatus>, CliError> {
        let node = node.map(ToString::to_string).unwrap_or_default();
        let mut instances = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListInstancesRequest { page_size: 0, page_token, node: node.clone() };
            let page = self.answer(self.grpc.clone().list_instances(self.request(request))).await?;
            for instance in page.instances {
                instances.push(converted("instances", instance)?);
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(instances);
            }
        }
    }

    /// Grants all or none; gives all grants in force.
    pub(crate) async fn grant(&self, instance: &str, grants: &[Grant]) -> Result<Grants, CliError> {
        let request = v1::AssignCapabilityRequest { instance: instance.to_owned(), grants: texts(grants) };
        let answer = self.answer(self.grpc.clone().assign_capability(self.request(request))).await?;
        grant::grants_from_v1(&answer.grants).map_err(|invalid| nonsense(&invalid))
    }

    /// Revokes all or none; gives all grants left in force.
    pub(crate) async fn revoke(&self, instance: &str, grants: &[Grant]) -> Result<Grants, CliError> {
        let request = v1::RevokeCapabilityRequest { instance: instance.to_owned(), grants: texts(grants) };
        let answer = self.answer(self.grpc.clone().revoke_capability(self.request(request))).await?;
        grant::grants_from_v1(&answer.grants).map_err(|invalid| nonsense(&invalid))
    }
}

fn texts(grants: &[Grant]) -> Vec<String> {
    grants.iter().map(ToString::to_string).collect()
}
