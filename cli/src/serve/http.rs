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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };
    use wasmatrix_agent::Config;

    use super::*;

    async fn get(addr: SocketAddr, path: &str) -> String {
        let mut connection = TcpStream::connect(addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_node_tells_how_it_is_and_when_it_drains() {
        let agent = Config::new("test".parse().unwrap()).build().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let draining = CancellationToken::new();
        let server = serve(listener, agent, draining.clone());
        assert!(get(addr, "/livez").await.starts_with("HTTP/1.1 200"));
        assert!(get(addr, "/readyz").await.starts_with("HTTP/1.1 200"));
        let metrics = get(addr, "/metrics").await;
        assert!(metrics.contains(&format!("content-type: {OPEN_METRICS}")), "{metrics}");
        assert!(metrics.trim_end().ends_with("# EOF"), "{metrics}");
        draining.cancel();
        assert!(get(addr, "/readyz").await.starts_with("HTTP/1.1 503"));
        assert!(get(addr, "/livez").await.starts_with("HTTP/1.1 200"), "a node that drains is alive");
        server.abort();
    }
}
