//! An address into a connection: in plain text on loopback, over TLS with certificates on both ends elsewhere.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::transport::{Channel, Endpoint};
use wasmatrix_identity::{DialError, Expected, LiveCredentials};
use wasmatrix_model::SystemClock;

use crate::{
    args::Global,
    certs, dirs,
    error::{CliError, chain},
};

/// Longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How often a connection that waits is asked whether its other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// How long it is waited for the answer.
const KEEPALIVE_MAX: Duration = Duration::from_secs(10);
/// Longest look at what listens somewhere.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// What the first message of TLS begins with that an end sends which was spoken to in plain text: an alert.
const TLS_ALERT: u8 = 0x15;
/// How what is said of an end that speaks plain text ends.
const NOT_TLS: &str = "it does not speak TLS";
/// What an HTTP/2 connection begins with, and an empty frame of settings.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Connects to the control plane that the flags name.
///
/// # Errors
/// The address is none, or one that must not be spoken to in plain text; nobody answers there, or who does can't prove
/// to be a control plane of ours.
pub(super) async fn connect(global: &Global) -> Result<Channel, CliError> {
    let addr = &global.addr;
    match addr.split_once("://") {
        Some(("https", _)) => over_tls(addr, global).await,
        Some(("http", authority)) => in_plain_text(addr, authority, global).await,
        _ => Err(CliError::usage(format!(
            "`{addr}` is no address: write it as http://127.0.0.1:7117, or https://HOST:PORT"
        ))),
    }
}

async fn in_plain_text(addr: &str, authority: &str, global: &Global) -> Result<Channel, CliError> {
    let wrong = || CliError::usage(format!("`{addr}` is no address: write it as http://127.0.0.1:7117"));
    let endpoint = Endpoint::from_shared(addr.to_owned()).map_err(|_| wrong())?;
    let host = endpoint.uri().host().unwrap_or_default();
    if !is_loopback(host) && !global.insecure_plaintext_i_trust_this_network {
        return Err(CliError::usage(format!(
            "{addr} is not on this machine, and http:// sends everything there in plain text, for anybody on the way to \
             read and to change: write https://{authority}"
        )));
    }
    lasting(endpoint)
        .connect()
        .await
        .map_err(|error| CliError::Unreachable { addr: addr.to_owned(), reason: chain(&error) })
}

async fn over_tls(addr: &str, global: &Global) -> Result<Channel, CliError> {
    let endpoint = wasmatrix_identity::endpoint(addr).map_err(|error| CliError::usage(error.to_string()))?;
    let credentials = credentials(global)?;
    let dialer = credentials.dialer(Expected::ControlPlane);
    dialer.connect(&lasting(endpoint)).await.map_err(|error| undialled(addr, &error))
}

/// The certificate that is shown to an `https://` address.
fn credentials(global: &Global) -> Result<LiveCredentials, CliError> {
    let dir = match &global.certs {
        Some(dir) => dir.clone(),
        None => {
            let dir = dirs::certs().map(|certs| certs.join(certs::ADMIN));
            dir.filter(|dir| dir.exists()).ok_or_else(|| CliError::Certificate {
                message: format!(
                    "{} asks for a certificate, and you have none: make one with `wasmatrix certs issue operator` on the \
                     control plane's machine, copy its directory here, and name it with --certs or WASMATRIX_CERTS",
                    global.addr
                ),
            })?
        }
    };
    LiveCredentials::open(dir, Arc::new(SystemClock)).map_err(|error| CliError::certificate(&error))
}

/// Why there is no connection over TLS.
pub(crate) fn undialled(addr: &str, error: &(dyn std::error::Error + 'static)) -> CliError {
    let mut cause = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<DialError>() {
            Some(DialError::Unreachable { source, .. }) => {
                return CliError::Unreachable { addr: addr.to_owned(), reason: source.to_string() };
            }
            // Its machine takes connections, and it does nothing with them: it may be held up.
            Some(slow @ DialError::TimedOut { .. }) => {
                return CliError::Unreachable { addr: addr.to_owned(), reason: slow.to_string() };
            }
            Some(dial) => {
                let said = dial.to_string();
                let listens = "it may be a control plane's --listen, which is http:// and for its own machine; other \
                               machines are answered at its --cluster-listen";
                let more = if said.ends_with(NOT_TLS) { format!(": {listens}") } else { String::new() };
                return CliError::Certificate { message: format!("{said}{more}") };
            }
            None => cause = error.source(),
        }
    }
    CliError::Unreachable { addr: addr.to_owned(), reason: chain(error) }
}

/// With a limit for connecting, and so that an end that is gone is noticed.
fn lasting(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_MAX)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_MAX)
}

/// Whether a host is this machine, whatever its name server says.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// A failed connection with its reason, where that can be found out: a port that speaks TLS hangs up on who does not.
pub(super) async fn explained(error: CliError) -> CliError {
    let CliError::Broken { addr, reason } = error else { return error };
    let Some(authority) = addr.strip_prefix("http://") else { return CliError::Broken { addr, reason } };
    if speaks_tls(authority).await {
        return CliError::usage(format!("{addr} speaks TLS: write https://{authority}"));
    }
    CliError::Broken { addr, reason }
}

async fn speaks_tls(authority: &str) -> bool {
    let look = async {
        let mut connection = TcpStream::connect(authority).await.ok()?;
        connection.write_all(HTTP2_PREFACE).await.ok()?;
        connection.read_u8().await.ok()
    };
    matches!(tokio::time::timeout(LOOK_MAX, look).await, Ok(Some(TLS_ALERT)))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn this_machine_is_known_by_its_names() {
        for here in ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"] {
            assert!(is_loopback(here), "{here}");
        }
        for elsewhere in ["10.0.0.1", "0.0.0.0", "localhost.example", "example", "::", ""] {
            assert!(!is_loopback(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn who_is_too_slow_is_out_of_reach_and_who_proves_nothing_is_refused() {
        let address = || "10.0.0.1:7118".to_owned();
        let slow = undialled("x", &DialError::TimedOut { address: address() });
        assert_eq!(slow.exit(), crate::error::Exit::Unavailable, "{slow}");
        let reason = "its certificate was revoked".to_owned();
        let other = undialled("x", &DialError::Unproven { address: address(), reason });
        assert_eq!(other.exit(), crate::error::Exit::Denied, "{other}");
    }

    #[tokio::test]
    async fn a_port_that_answers_with_an_alert_speaks_tls() {
        for (said, tls) in [(&[TLS_ALERT, 3, 3][..], true), (b"HTTP/1.1 400", false), (b"", false)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let authority = listener.local_addr().unwrap().to_string();
            let server = tokio::spawn(async move {
                let (mut connection, _) = listener.accept().await.unwrap();
                connection.write_all(said).await.unwrap();
            });
            assert_eq!(speaks_tls(&authority).await, tls, "{said:?}");
            server.await.unwrap();
        }
    }
}
