//! Serves the control plane on a socket, with health and reflection, until it is told to stop.

use std::{future::Future, time::Duration};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::TcpIncoming};
use wasmatrix_wire::{FILE_DESCRIPTOR_SET, v1::control_plane_server::ControlPlaneServer};

use crate::ControlPlane;

/// Streams that one connection may have open at a time.
const STREAMS_PER_CONNECTION_MAX: u32 = 256;
/// How often an idle connection is asked whether its other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

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

/// Serves `control_plane` on `listener` until `shutdown` is ready; then takes no more requests and gives those in
/// flight `grace` to finish.
///
/// # Errors
/// The transport failed.
pub async fn serve(
    listener: TcpListener,
    control_plane: ControlPlane,
    shutdown: impl Future<Output = ()> + Send + 'static,
    grace: Duration,
) -> Result<(), ServeError> {
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<ControlPlaneServer<ControlPlane>>().await;
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
        .add_service(health)
        .add_service(reflection)
        .add_service(control_plane.server())
        .serve_with_incoming_shutdown(TcpIncoming::from(listener), async move {
            shutdown.await;
            health_reporter.set_not_serving::<ControlPlaneServer<ControlPlane>>().await;
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
