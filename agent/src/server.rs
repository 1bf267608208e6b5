//! The agent's end of a connection: what checks each call before the service sees it, and the servers themselves.
//!
//! ```text
//! incoming ──► Guarded: protocol, who calls ──► AgentService ──► Agent
//!          └─► health, reflection
//! ```

mod guard;

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server, Uri, server::Connected};
use wasmatrix_wire::{FILE_DESCRIPTOR_SET, v1::agent_server::AgentServer};

use crate::{Agent, service::AgentService};
use guard::Guarded;

/// Calls that one connection may have open at a time: a control plane has one connection, and on it a stream for each
/// user who follows something.
const STREAMS_PER_CONNECTION_MAX: u32 = 1024;
/// How often an idle connection is asked whether its other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// How long the other end may take to say so.
const KEEPALIVE_PATIENCE: Duration = Duration::from_secs(10);
/// After how long a connection takes no more calls, so that the next is made with the certificates of then. What is in
/// flight goes on.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(3600);
/// Bytes in flight between the two ends of [`in_process`].
const PIPE_BYTES: usize = 1 << 20;
/// Connections that wait to be accepted.
const BACKLOG: usize = 16;

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The reflection service could not be built.
    #[error("the descriptor of the API could not be read")]
    Reflection(#[source] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("the agent's transport failed")]
    Transport(#[source] tonic::transport::Error),
}

/// Serves `agent` to whoever comes in by `incoming`, with health and reflection, until `shutdown` is ready; then takes
/// no more calls and gives those in flight `grace` to finish. Streams that last longer end with the process.
///
/// Over TLS (an [`wasmatrix_identity::Incoming`] with credentials), the control plane alone may ask the agent
/// anything. Other connections prove nothing, so everybody who can make one may: they are for loopback.
///
/// # Errors
/// The transport failed.
pub async fn serve<IO, E>(
    incoming: impl Stream<Item = Result<IO, E>>,
    agent: Agent,
    shutdown: impl Future<Output = ()>,
    grace: Duration,
) -> Result<(), ServeError>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<AgentServer<AgentService>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(ServeError::Reflection)?;
    let draining = CancellationToken::new();
    let told = draining.clone();
    let serving = Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_PATIENCE))
        .max_connection_age(CONNECTION_AGE_MAX)
        .add_service(health)
        .add_service(reflection)
        .add_service(Guarded::new(agent))
        .serve_with_incoming_shutdown(incoming, async move {
            shutdown.await;
            health_reporter.set_not_serving::<AgentServer<AgentService>>().await;
            told.cancel();
        });
    // A follower of logs or changes never ends by itself, so the drain needs an end of its own.
    let patience = async {
        draining.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        served = serving => served.map_err(ServeError::Transport),
        () = patience => Ok(()),
    }
}

/// Serves the agent within this process and gives a channel to it: the same gRPC that goes between machines, over a
/// pipe in memory, so that no port is opened that others could find. The service ends with the channel.
///
/// # Errors
/// The service could not be started.
pub fn in_process(agent: Agent) -> Result<Channel, tonic::transport::Error> {
    let (connections, accepted) = tokio::sync::mpsc::channel(BACKLOG);
    let incoming = tokio_stream::wrappers::ReceiverStream::new(accepted);
    tokio::spawn(async move {
        let served = Server::builder()
            .add_service(Guarded::new(agent))
            .serve_with_incoming(incoming.map(Ok::<_, std::convert::Infallible>))
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "the agent's service ended");
        }
    });
    let connector = tower::service_fn(move |_: Uri| {
        let connections = connections.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
            connections
                .send(theirs)
                .await
                .map_err(|_| std::io::Error::other("the agent's service has ended"))?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(ours))
        }
    });
    Ok(Endpoint::try_from("http://agent.invalid")?.connect_with_connector_lazy(connector))
}

#[cfg(test)]
mod tests;
