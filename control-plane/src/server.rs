//! Serves the control plane on sockets, with health and reflection, until it is told to stop; and within the process.

use std::{future::Future, io, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, future::ready};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server, Uri, server::Connected};
use wasmatrix_wire::{FILE_DESCRIPTOR_SET, v1::control_plane_server::ControlPlaneServer};

use crate::{
    ControlPlane,
    access::Guard,
    attend::Attendance,
    cluster::{Cluster, Door},
    counted::Counted,
    enroll::Enrollment,
    service::Service,
};

/// Connections that are served at one time: each node has one, each user has some. Those beyond are closed.
const CONNECTIONS_MAX: usize = 32_768;
/// Streams that one connection may have open at a time.
const STREAMS_PER_CONNECTION_MAX: u32 = 256;
/// How often an idle connection is asked whether its other end is still there, and how long the answer may take.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_ANSWER_MAX: Duration = Duration::from_secs(5);
/// After how long a connection takes no more requests, so that the next is made with the certificates of then. What is in
/// flight goes on.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(3600);
/// Bytes in flight between the two ends of a pipe.
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
    #[error("the control API's transport failed")]
    Transport(#[source] tonic::transport::Error),
}

/// Serves `control_plane` to all who come in by `incoming`, until `shutdown` is ready; then takes no more requests and
/// gives those in flight `grace` to finish. Sockets come in by `wasmatrix_identity::Incoming`, which knows who is at the
/// other end; several of them by `futures::stream::select_all`.
///
/// # Errors
/// The transport failed.
pub async fn serve<IO>(
    incoming: impl Stream<Item = io::Result<IO>> + Send,
    control_plane: ControlPlane,
    shutdown: impl Future<Output = ()> + Send + 'static,
    grace: Duration,
) -> Result<(), ServeError>
where
    IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<ControlPlaneServer<Service>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(ServeError::Reflection)?;
    let draining = CancellationToken::new();
    let told = draining.clone();
    let cluster = control_plane.cluster();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let incoming = incoming.filter_map(move |connection| ready(admitted(connection, &room)));
    let serving = Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER_MAX))
        .max_connection_age(CONNECTION_AGE_MAX)
        .layer(Guard::new(Arc::clone(cluster)))
        .add_service(health)
        .add_service(reflection)
        .add_service(Service::server(Arc::clone(cluster)))
        .add_service(Attendance::server(Arc::clone(cluster), Door::Network))
        .add_service(Enrollment::server(Arc::clone(cluster)))
        .serve_with_incoming_shutdown(incoming, async move {
            shutdown.await;
            health_reporter.set_not_serving::<ControlPlaneServer<Service>>().await;
            told.cancel();
        });
    // A follower of logs or facts never ends by itself, so the drain needs an end of its own.
    let patience = async {
        draining.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        served = serving => served.map_err(ServeError::Transport),
        () = patience => Ok(()),
    }
}

/// A connection with its place among those that are served. `None`: there is no place left, and it is closed.
fn admitted<IO>(connection: io::Result<IO>, room: &Arc<Semaphore>) -> Option<io::Result<Counted<IO>>> {
    let place = Arc::clone(room).try_acquire_owned();
    match (connection, place) {
        (Ok(connection), Ok(place)) => Some(Ok(Counted::new(connection, place))),
        (Ok(_), Err(_)) => {
            tracing::warn!(
                connections = CONNECTIONS_MAX,
                "a connection was closed: as many as there may be are served"
            );
            None
        }
        (Err(error), _) => Some(Err(error)),
    }
}

/// Serves the control plane within this process, until it ends or the channel does.
pub(crate) fn in_process(cluster: Arc<Cluster>) -> Channel {
    let (connections, accepted) = tokio::sync::mpsc::channel::<tokio::io::DuplexStream>(BACKLOG);
    let incoming = tokio_stream::wrappers::ReceiverStream::new(accepted);
    let held = Arc::clone(&cluster);
    cluster.spawn(async move {
        let served = Server::builder()
            .layer(Guard::new(Arc::clone(&held)))
            .add_service(Service::server(Arc::clone(&held)))
            .add_service(Attendance::server(held, Door::InProcess))
            .serve_with_incoming(incoming.map(Ok::<_, std::convert::Infallible>))
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "the control plane's service within the process ended");
        }
    });
    let connector = tower::service_fn(move |_: Uri| {
        let connections = connections.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
            connections
                .send(theirs)
                .await
                .map_err(|_| std::io::Error::other("the control plane has ended"))?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(ours))
        }
    });
    Endpoint::from_static("http://control-plane.invalid").connect_with_connector_lazy(connector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_connections_are_served_as_there_are_places() {
        let room = Arc::new(Semaphore::new(2));
        let arrive = || admitted(Ok(()), &room);
        let (first, second) = (arrive(), arrive());
        assert!(first.is_some() && second.is_some());
        assert!(arrive().is_none(), "it is closed");
        drop(first);
        assert!(arrive().is_some(), "one that ended makes room");
    }
}
