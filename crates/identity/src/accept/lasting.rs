//! An answer that goes on, and lasts no longer than the certificate of whom it is for.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http_body::{Frame, SizeHint};
use tonic::{
    Status,
    body::Body,
    codegen::{Bytes, http::HeaderMap},
};

use super::Peer;
use crate::access::{Access, Denied};

/// How often the time of day is asked for while a certificate is far from its end: clocks are set.
const LOOK_EVERY: Duration = Duration::from_secs(60);

impl Peer {
    /// Waits until no request of its may pass any more, whatever its role: its certificate has expired or was revoked.
    /// That never comes for a peer that showed none.
    pub async fn denied(&self) -> Denied {
        let (Some(identity), Some(credentials)) = (&self.identity, &self.credentials) else {
            return std::future::pending().await;
        };
        let mut changes = credentials.changes();
        loop {
            changes.borrow_and_update();
            let now = credentials.clock().now();
            if let Err(denied) = self.check(Access::ANYONE, now) {
                return denied;
            }
            let patience = identity.ends_in(now).min(LOOK_EVERY);
            // Either will do, and we hold who sends.
            let _ = tokio::time::timeout(patience, changes.changed()).await;
        }
    }
}

/// The body of an answer: what the service says, until the peer is denied; then the reason, as a status. The service
/// sees that its caller is gone.
pub struct Lasting {
    /// `None`: it was cut off.
    body: Option<Body>,
    denied: Pin<Box<dyn Future<Output = Status> + Send>>,
}

impl Lasting {
    /// `body`, for as long as `peer` may be answered. `told` makes a status of why it may not be any more, once.
    pub fn new(body: Body, peer: Peer, told: impl FnOnce(Denied) -> Status + Send + 'static) -> Self {
        let denied = Box::pin(async move { told(peer.denied().await) });
        Self { body: Some(body), denied }
    }
}

impl std::fmt::Debug for Lasting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lasting").field("body", &self.body).finish_non_exhaustive()
    }
}

impl http_body::Body for Lasting {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(body) = this.body.as_mut().filter(|body| !body.is_end_stream()) else {
            return Poll::Ready(None);
        };
        let Poll::Ready(status) = this.denied.as_mut().poll(cx) else {
            return Pin::new(body).poll_frame(cx);
        };
        this.body = None;
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
