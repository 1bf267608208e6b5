//! A user of a cluster: asks the control plane, asks again if no answer came, and follows what happens.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{task::JoinHandle, time::sleep};
use tonic::Status;
use wasmatrix_model::{Clock, ErrorCode, Fact, Failure, Grant, InstanceStatus, NodeId, NodeStatus};
use wasmatrix_wire::{StartRequest, failure::from_status, protocol::StampedClient, start_parts, v1};

/// How long a user waits before he asks again.
const PAUSE: Duration = Duration::from_millis(200);

/// See the module's head. Cheap to clone; clones share a connection.
#[derive(Clone, Debug)]
pub struct User {
    client: StampedClient,
    clock: Arc<dyn Clock>,
}

impl User {
    /// One who asks by `client`.
    pub fn new(client: StampedClient, clock: Arc<dyn Clock>) -> Self {
        Self { client, clock }
    }

    fn failure(&self, status: &Status) -> Failure {
        from_status(status, self.clock.now())
    }

    fn instance(&self, instance: Option<v1::InstanceStatus>) -> Result<InstanceStatus, Failure> {
        let objection = |problem: String| Failure::new(ErrorCode::Internal, problem, self.clock.now());
        let instance = instance.ok_or_else(|| objection("an answer without its instance".to_owned()))?;
        instance.try_into().map_err(|invalid: wasmatrix_wire::Invalid| objection(invalid.to_string()))
    }

    /// Starts an instance.
    ///
    /// # Errors
    /// What the control plane said, or that it said nothing.
    pub async fn start(&mut self, request: StartRequest, artifact: Bytes) -> Result<InstanceStatus, Failure> {
        let parts = tokio_stream::iter(start_parts(request, artifact));
        let answer = self.client.start_instance(parts).await.map_err(|status| self.failure(&status))?;
        self.instance(answer.into_inner().instance)
    }

    /// Starts an instance and asks again for as long as it is not known what came of it, at most `tries` times.
    /// The request should have an idempotency key.
    ///
    /// # Errors
    /// The start was refused, or no try brought word of it.
    pub async fn start_surely(
        &mut self,
        request: StartRequest,
        artifact: Bytes,
        tries: u32,
    ) -> Result<InstanceStatus, Failure> {
        let mut tried = 0;
        loop {
            tried += 1;
            match self.start(request.clone(), artifact.clone()).await {
                Err(failure) if is_uncertain(failure.code) && tried < tries => sleep(PAUSE).await,
                outcome => return outcome,
            }
        }
    }

    /// Stops an instance.
    ///
    /// # Errors
    /// As [`User::start`].
    pub async fn stop(&mut self, instance: &str) -> Result<InstanceStatus, Failure> {
        let request = v1::StopInstanceRequest { instance: instance.to_owned(), grace: None };
        let answer = self.client.stop_instance(request).await.map_err(|status| self.failure(&status))?;
        self.instance(answer.into_inner().instance)
    }

    /// Forgets an instance.
    ///
    /// # Errors
    /// As [`User::start`].
    pub async fn remove(&mut self, instance: &str) -> Result<(), Failure> {
        let request = v1::RemoveInstanceRequest { instance: instance.to_owned() };
        self.client.remove_instance(request).await.map(drop).map_err(|status| self.failure(&status))
    }

    /// An instance as it is now.
    ///
    /// # Errors
    /// As [`User::start`].
    pub async fn get(&mut self, instance: &str) -> Result<InstanceStatus, Failure> {
        let request = v1::GetInstanceRequest { instance: instance.to_owned() };
        let answer = self.client.get_instance(request).await.map_err(|status| self.failure(&status))?;
        self.instance(answer.into_inner().instance)
    }

    /// All instances, page by page.
    ///
    /// # Errors
    /// As [`User::start`].
    pub async fn list(&mut self) -> Result<Vec<InstanceStatus>, Failure> {
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListInstancesRequest { page_token, ..Default::default() };
            let answer = self.client.list_instances(request).await.map_err(|status| self.failure(&status))?;
            let page = answer.into_inner();
            for instance in page.instances {
                all.push(self.instance(Some(instance))?);
            }
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            page_token = page.next_page_token;
        }
    }

    /// Grants something.
    ///
    /// # Errors
    /// As [`User::start`].
    pub async fn assign(&mut self, instance: &str, grant: &Grant) -> Result<Vec<String>, Failure> {
        let request =
            v1::AssignCapabilityRequest { instance: instance.to_owned(), grants: vec![grant.to_string()] };
        let answer = self.client.assign_capability(request).await.map_err(|status| self.failure(&status))?;
        Ok(answer.into_inner().grants)
    }

    /// Takes a grant away.
    ///
    /// # Errors
    /// As [`User::start`].
    pub async fn revoke(&mut self, instance: &str, grant: &Grant) -> Result<Vec<String>, Failure> {
        let request =
            v1::RevokeCapabilityRequest { instance: instance.to_owned(), grants: vec![grant.to_string()] };
        let answer = self.client.revoke_capability(request).await.map_err(|status| self.failure(&status))?;
        Ok(answer.into_inner().grants)
    }

    /// All nodes.
    ///
    /// # Errors
    /// As [`User::start`].
    pub async fn nodes(&mut self) -> Result<Vec<NodeStatus>, Failure> {
        let answer = self.client.list_nodes(v1::ListNodesRequest {}).await;
        let nodes = answer.map_err(|status| self.failure(&status))?.into_inner().nodes;
        let read = |node: v1::NodeStatus| {
            NodeStatus::try_from(node)
                .map_err(|invalid| Failure::new(ErrorCode::Internal, invalid.to_string(), self.clock.now()))
        };
        nodes.into_iter().map(read).collect()
    }

    /// Opens or closes a node to new instances.
    ///
    /// # Errors
    /// As [`User::start`].
    pub async fn cordon(&mut self, node: &NodeId, cordoned: bool) -> Result<(), Failure> {
        let request = v1::CordonNodeRequest { node: node.to_string(), cordoned };
        self.client.cordon_node(request).await.map_err(|status| self.failure(&status))?;
        Ok(())
    }

    /// The client itself, for what has no word here.
    pub const fn client(&mut self) -> &mut StampedClient {
        &mut self.client
    }

    /// Follows what happens, from the oldest fact that is kept on, over every end of a stream.
    pub fn observe(&self) -> Observer {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn(observe(self.clone(), Arc::clone(&seen)));
        Observer { seen, task }
    }
}

/// Whether a request that failed so may have been carried out.
pub const fn is_uncertain(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NodeUnavailable | ErrorCode::Timeout | ErrorCode::Internal)
}

/// Somebody who watches all that happens. Ends with the value.
#[derive(Debug)]
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    facts: Vec<Fact>,
    known: HashSet<String>,
    /// How often facts were missed that the control plane kept no longer.
    gaps: u32,
}

impl Observer {
    /// What was seen so far, each fact once, in the order in which it was seen.
    pub fn facts(&self) -> Vec<Fact> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).facts.clone()
    }

    /// How often facts were missed.
    pub fn gaps(&self) -> u32 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).gaps
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn observe(mut user: User, seen: Arc<Mutex<Seen>>) {
    let mut token = String::new();
    loop {
        let request =
            v1::WatchFactsRequest { follow: true, resume_token: token.clone(), instance: String::new() };
        let ended = match user.client.watch_facts(request).await {
            Ok(answer) => take_all(answer.into_inner(), &seen, &mut token).await,
            Err(status) => Some(status),
        };
        match ended.map(|status| user.failure(&status).code) {
            // Of another life of the control plane: what it has taken in is told from the beginning.
            Some(ErrorCode::InvalidRequest) => token.clear(),
            Some(ErrorCode::ResourceExhausted) => {
                token.clear();
                seen.lock().unwrap_or_else(PoisonError::into_inner).gaps += 1;
            }
            Some(_) | None => {}
        }
        sleep(PAUSE).await;
    }
}

async fn take_all(
    mut facts: tonic::Streaming<v1::WatchFactsResponse>,
    seen: &Mutex<Seen>,
    token: &mut String,
) -> Option<Status> {
    loop {
        let message = match facts.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return None,
            Err(status) => return Some(status),
        };
        *token = message.resume_token;
        if let Some(Ok(fact)) = message.fact.map(Fact::try_from) {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.known.insert(format!("{fact:?}")) {
                seen.facts.push(fact);
            }
        }
    }
}
