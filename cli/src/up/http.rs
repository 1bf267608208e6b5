//! What monitoring asks of a node over HTTP: `/metrics`, `/livez`, `/readyz`.

use axum::{Router, http::StatusCode, http::header::CONTENT_TYPE, routing::get};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use wasmatrix_agent::Agent;

/// The format that the node writes its counts in.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until it is aborted, so that a drain can be watched: `/readyz` says 503 while `draining`.
pub(crate) fn serve(listener: TcpListener, agent: Agent, draining: CancellationToken) -> JoinHandle<()> {
    let ready = move || async move {
        if draining.is_cancelled() {
            (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
        } else {
            (StatusCode::OK, "ready\n")
        }
    };
    let router = Router::new()
        .route("/metrics", get(move || async move { ([(CONTENT_TYPE, OPEN_METRICS)], agent.metrics()) }))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the metrics endpoint ended");
        }
    })
}
