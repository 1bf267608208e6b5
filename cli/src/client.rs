//! The control plane's API as plain calls: each has a deadline, and an answer or an error in the words of the model.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};
use wasmatrix_model::{
    Capability, Clock as _, ErrorCode, Fact, Grant, Grants, InstanceSpec, InstanceStatus, LogRecord,
    NodeStatus, ProviderStatus, SystemClock, failure::Invalid,
};
use wasmatrix_wire::{
    failure, grant,
    time::duration_to_v1,
    v1::{self, control_plane_client::ControlPlaneClient},
};

use crate::{
    args::{Events, Global, Logs},
    error::{CliError, chain},
    output::stream::FactWithToken,
};

/// Longest wait for an answer, unless `--timeout` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The same for what compiles a program first.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a connection that waits is asked whether its other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A connection to a control plane.
pub(crate) struct Client {
    grpc: ControlPlaneClient<Channel>,
    addr: String,
    timeout: Duration,
}

impl Client {
    /// Connects to the control plane that the flags name.
    ///
    /// # Errors
    /// The address is none, or nobody answers there.
    pub(crate) async fn connect(global: &Global) -> Result<Self, CliError> {
        Self::connect_within(global, TIMEOUT).await
    }

    /// The same, with another default for the longest wait for an answer.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub(crate) async fn connect_within(global: &Global, timeout: Duration) -> Result<Self, CliError> {
        let addr = &global.addr;
        let wrong = || CliError::usage(format!("`{addr}` is no address: write it as http://127.0.0.1:7117"));
        if !addr.starts_with("http://") {
            return Err(wrong());
        }
        let endpoint = Endpoint::from_shared(addr.clone())
            .map_err(|_| wrong())?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE);
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| CliError::Unreachable { addr: addr.clone(), reason: chain(&error) })?;
        Ok(Self {
            grpc: ControlPlaneClient::new(channel)
                .max_decoding_message_size(usize::MAX) // our own server's answers; pages are bounded by their count
                .max_encoding_message_size(wasmatrix_wire::MESSAGE_BYTES_MAX),
            addr: addr.clone(),
            timeout: global.timeout.unwrap_or(timeout),
        })
    }

    /// Starts an instance and waits until its first run has begun.
    pub(crate) async fn start(
        &self,
        spec: InstanceSpec,
        artifact: Bytes,
    ) -> Result<InstanceStatus, CliError> {
        let parts = tokio_stream::iter(wasmatrix_wire::start_parts(spec, artifact));
        let answer = self.answer(self.grpc.clone().start_instance(self.request(parts))).await?;
        required("instance", answer.instance)
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

    /// Every instance, in the order of their names.
    pub(crate) async fn list(&self) -> Result<Vec<InstanceStatus>, CliError> {
        let mut instances = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = v1::ListInstancesRequest { page_token, ..Default::default() };
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

    /// The lines that an instance said. Has no deadline once it has begun.
    pub(crate) async fn logs(
        &self,
        args: &Logs,
    ) -> Result<impl Stream<Item = Result<LogRecord, CliError>> + use<>, CliError> {
        let request = v1::StreamLogsRequest {
            instance: args.name.clone(),
            follow: args.follow,
            tail: args.tail,
            after_seq: 0,
        };
        let lines = self.answer(self.grpc.clone().stream_logs(request)).await?;
        let addr = self.addr.clone();
        Ok(lines.map(move |line| required("record", line.map_err(|status| told(&addr, &status))?.record)))
    }

    /// What happened. Has no deadline once it has begun.
    pub(crate) async fn facts(
        &self,
        args: &Events,
    ) -> Result<impl Stream<Item = Result<FactWithToken, CliError>> + use<>, CliError> {
        let request = v1::WatchFactsRequest {
            follow: args.watch,
            resume_token: args.since.clone().unwrap_or_default(),
            instance: args.instance.clone().unwrap_or_default(),
        };
        let facts = self.answer(self.grpc.clone().watch_facts(request)).await?;
        let addr = self.addr.clone();
        Ok(facts.map(move |answer| {
            let answer = answer.map_err(|status| told(&addr, &status))?;
            let fact: Fact = required("fact", answer.fact)?;
            Ok(FactWithToken { fact, resume_token: answer.resume_token })
        }))
    }

    /// Every node.
    pub(crate) async fn nodes(&self) -> Result<Vec<NodeStatus>, CliError> {
        let answer = self.answer(self.grpc.clone().list_nodes(self.request(v1::ListNodesRequest {}))).await?;
        answer.nodes.into_iter().map(|node| converted("nodes", node)).collect()
    }

    /// Lets a provider answer again.
    pub(crate) async fn start_provider(&self, capability: Capability) -> Result<ProviderStatus, CliError> {
        let request = v1::StartProviderRequest { capability: capability.to_string(), ..Default::default() };
        let answer = self.answer(self.grpc.clone().start_provider(self.request(request))).await?;
        required("provider", answer.provider)
    }

    /// Lets a provider finish what it has and take nothing new.
    pub(crate) async fn stop_provider(
        &self,
        capability: Capability,
        drain: Duration,
    ) -> Result<ProviderStatus, CliError> {
        let request = v1::StopProviderRequest {
            capability: capability.to_string(),
            drain: Some(duration_to_v1(drain)),
            ..Default::default()
        };
        let patience = self.timeout.saturating_add(drain);
        let answer = self.answer_within(patience, self.grpc.clone().stop_provider(request)).await?;
        required("provider", answer.provider)
    }

    /// A request that tells the server how long its answer is waited for.
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CliError> {
        self.answer_within(self.timeout, call).await
    }

    async fn answer_within<T>(
        &self,
        patience: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CliError> {
        match tokio::time::timeout(patience, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(told(&self.addr, &status)),
            Err(_) => Err(CliError::Deadline { addr: self.addr.clone(), seconds: patience.as_secs_f64() }),
        }
    }
}

fn texts(grants: &[Grant]) -> Vec<String> {
    grants.iter().map(ToString::to_string).collect()
}

/// What a status means: a refusal of the server's, or that the connection failed, or that no Wasmatrix answered.
fn told(addr: &str, status: &Status) -> CliError {
    let failure = failure::from_status(status, SystemClock.now());
    let broken = |reason: String| CliError::Broken { addr: addr.to_owned(), reason };
    match std::error::Error::source(status) {
        Some(cause) if failure.code == ErrorCode::NodeUnavailable => broken(chain(cause)),
        // Ours always says more than its code.
        None if failure.code == ErrorCode::NodeUnavailable && status.details().is_empty() => {
            broken(failure.message)
        }
        Some(_) | None => CliError::Refused(failure),
    }
}

fn required<W, M: TryFrom<W, Error = Invalid>>(field: &str, message: Option<W>) -> Result<M, CliError> {
    let message = message.ok_or_else(|| nonsense(&Invalid::new(field, "is missing")))?;
    converted(field, message)
}

fn converted<W, M: TryFrom<W, Error = Invalid>>(field: &str, message: W) -> Result<M, CliError> {
    M::try_from(message).map_err(|invalid| nonsense(&invalid.within(field)))
}

fn nonsense(invalid: &Invalid) -> CliError {
    CliError::Answer { problem: invalid.to_string() }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::args::OutputFormat;

    fn global(addr: &str) -> Global {
        Global {
            addr: addr.to_owned(),
            output: OutputFormat::Table,
            timeout: Some(Duration::from_secs(10)),
            quiet: true,
            verbose: 0,
            log: None,
            log_format: wasmatrix_telemetry::Format::Auto,
        }
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_a_mistake_of_the_command_line() {
        for addr in ["", "127.0.0.1:7117", "https://127.0.0.1:7117", "ftp://x", "http://", "http://a b"] {
            let Err(error) = Client::connect(&global(addr)).await else { panic!("{addr} was taken") };
            assert!(matches!(error, CliError::Usage { .. }), "{addr}: {error}");
        }
    }

    #[tokio::test]
    async fn where_nobody_listens_the_user_is_told_so_and_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let Err(error) = Client::connect(&global(&addr)).await else { panic!("somebody answered") };
        assert_eq!(error.to_string(), format!("no Wasmatrix answers at {addr}"));
        assert!(error.hint().unwrap().contains("wasmatrix up"));
    }

    #[tokio::test]
    async fn what_answers_and_is_no_wasmatrix_is_not_taken_for_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (connection, _) = listener.accept().await.unwrap();
            drop(connection);
        });
        let client = Client::connect(&global(&addr)).await;
        let error = match client {
            Ok(client) => client.list().await.expect_err("it hung up"),
            Err(error) => error,
        };
        assert!(matches!(error, CliError::Broken { .. } | CliError::Unreachable { .. }), "{error:?}");
        server.await.unwrap();
    }
}
