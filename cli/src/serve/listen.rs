//! The sockets of a process that serves, and which may be open to whom: plain text on this machine, TLS beyond it.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use tokio::net::TcpListener;
use wasmatrix_identity::{ClientCertificate, HandshakeLimits, Incoming, LiveCredentials};

use crate::{args::Global, error::CliError};

/// Where to look from for the address by which others reach this machine: a documentation network, which is routed
/// like any other. Nothing is sent there.
const ELSEWHERE: (IpAddr, u16) = (IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 9);

/// Listens.
///
/// # Errors
/// The address is in use, or not ours; the message says which flag changes it.
pub(super) async fn bind(addr: SocketAddr, flag: &str) -> Result<TcpListener, CliError> {
    TcpListener::bind(addr).await.map_err(|error| {
        let message = match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "{addr} is in use; another Wasmatrix may be running there (`wasmatrix version` tells): choose another \
                 port with {flag}"
            ),
            io::ErrorKind::PermissionDenied => {
                format!("listening at {addr} is not allowed: choose a port above 1023 with {flag}")
            }
            io::ErrorKind::AddrNotAvailable => {
                format!("{addr} is no address of this machine: choose one of its own with {flag}")
            }
            _ => format!("can't listen at {addr}: {error}"),
        };
        CliError::Host { message }
    })
}

/// Connections in plain text: on loopback, or where the user insists.
///
/// # Errors
/// The address can be reached from other machines, and nobody insisted.
pub(super) async fn plain(
    addr: SocketAddr,
    flag: &str,
    global: &Global,
) -> Result<(Incoming, SocketAddr), CliError> {
    if !addr.ip().is_loopback() {
        if !global.insecure_plaintext_i_trust_this_network {
            return Err(CliError::usage(format!(
                "{flag} {addr} can be reached from other machines, and what listens there speaks plain text and asks \
                 nobody who he is: listen at 127.0.0.1 or [::1], and for other machines use --cluster-listen or \
                 `wasmatrix join`"
            )));
        }
        super::warn_of_plaintext(&format!("{flag} {addr}"));
    }
    let listener = bind(addr, flag).await?;
    let addr = listener.local_addr()?;
    Ok((Incoming::plain(listener), addr))
}

/// Connections over TLS.
///
/// # Errors
/// The address can't be listened at, or the certificate is not one to answer with.
pub(super) async fn tls(
    addr: SocketAddr,
    flag: &str,
    credentials: &LiveCredentials,
    certificate: ClientCertificate,
) -> Result<(Incoming, SocketAddr), CliError> {
    let listener = bind(addr, flag).await?;
    let addr = listener.local_addr()?;
    let incoming = credentials
        .incoming(listener, certificate, HandshakeLimits::default())
        .map_err(|error| CliError::certificate(&error))?;
    Ok((incoming, addr))
}

/// The address from which this machine reaches `there`; from which it reaches other networks, if `None`. Sends nothing.
pub(super) async fn own_address(there: Option<&str>) -> Option<IpAddr> {
    let there = match there {
        None => ELSEWHERE.into(),
        Some(authority) => tokio::net::lookup_host(authority).await.ok()?.next()?,
    };
    let any: SocketAddr = if there.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 8], 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(there).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_unspecified()).then_some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loopback_is_reached_from_loopback() {
        assert_eq!(own_address(Some("127.0.0.1:9")).await, Some([127, 0, 0, 1].into()));
        assert_eq!(own_address(Some("no.such.host.invalid:9")).await, None);
    }
}
