//! From a node's address to a channel to its agent: the one place that decides which connections are allowed.
//!
//! `http://` is plain text, for loopback, and beyond it only where the operator insists. What an address leads to is
//! dialled anew whenever a connection is gone; a channel itself never ends.

use std::{fmt, net::IpAddr, time::Duration};

use tonic::transport::{Channel, Endpoint, Uri};
use wasmatrix_identity::{Expected, LiveCredentials};
use wasmatrix_model::NodeId;

/// How long a connection may take to come about: whoever waits for a node that is gone waits for this.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How often an idle connection is asked whether its other end is still there, and how long the answer may take.
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_ANSWER_MAX: Duration = Duration::from_secs(5);

/// Makes channels to agents.
pub trait Dial: fmt::Debug + Send + Sync {
    /// A channel to the agent of `node`, which says that it listens at `address`. Connects at the first call.
    ///
    /// # Errors
    /// The address is none, or may not be dialled; in words that the node's operator can act on.
    fn dial(&self, node: &NodeId, address: &str) -> Result<Channel, String>;
}

/// Dials in plain text.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainText {
    /// Whether addresses beyond loopback are dialled too: whoever is on the way can read and change everything.
    pub beyond_loopback: bool,
}

impl Dial for PlainText {
    fn dial(&self, _: &NodeId, address: &str) -> Result<Channel, String> {
        let shown: String = address.chars().take(200).collect();
        let uri: Uri = address
            .parse()
            .ok()
            .filter(|uri: &Uri| uri.port_u16().is_some() && matches!(uri.path(), "" | "/"))
            .ok_or_else(|| format!("`{shown}` is no address: an agent listens at http://HOST:PORT"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(format!(
                    "{shown} is to be dialled over TLS, and the control plane has no credentials"
                ));
            }
            _ => return Err(format!("`{shown}` is no address: an agent listens at http://HOST:PORT")),
        }
        if !self.beyond_loopback && !is_loopback(uri.host().unwrap_or_default()) {
            return Err(format!(
                "{shown} is plain text beyond loopback, which is not allowed here: give both ends certificates, or \
                 insist on plain text in the control plane's configuration"
            ));
        }
        Ok(patient(Endpoint::from(uri)).connect_lazy())
    }
}

/// Dials over TLS, and takes nobody for a node but who proves to be it; in plain text only where that is allowed.
#[derive(Clone, Debug)]
pub struct Proven {
    /// Ours, and the authority that we believe.
    pub credentials: LiveCredentials,
    /// How `http://` addresses are dialled.
    pub plain_text: PlainText,
}

impl Dial for Proven {
    fn dial(&self, node: &NodeId, address: &str) -> Result<Channel, String> {
        if address.starts_with("http://") {
            return self.plain_text.dial(node, address);
        }
        let endpoint = wasmatrix_identity::endpoint(address).map_err(|error| error.to_string())?;
        Ok(self.credentials.dialer(Expected::Node(node.clone())).channel(&patient(endpoint)))
    }
}

/// The endpoint with the limits that every channel to an agent has.
pub fn patient(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_MAX)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_ANSWER_MAX)
        .keep_alive_while_idle(true)
}

fn is_loopback(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || literal.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn plain_text_stays_at_home_unless_somebody_insists() {
        let node = "n".parse().unwrap();
        for near in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1/"] {
            assert!(PlainText::default().dial(&node, near).is_ok(), "{near}");
        }
        for far in ["http://10.0.0.1:1", "http://localhost.example:1", "http://127.0.0.1.example:1"] {
            assert!(PlainText::default().dial(&node, far).unwrap_err().contains("insist"), "{far}");
            assert!(PlainText { beyond_loopback: true }.dial(&node, far).is_ok(), "{far}");
        }
        for none in ["", "x", "127.0.0.1:1", "http://127.0.0.1", "unix:/x", "http://127.0.0.1:1/x"] {
            assert!(PlainText { beyond_loopback: true }.dial(&node, none).is_err(), "{none}");
        }
        assert!(PlainText::default().dial(&node, "https://127.0.0.1:1").unwrap_err().contains("credentials"));
    }
}
