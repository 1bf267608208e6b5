//! How an agent reaches its control plane.

use std::sync::Arc;

use tonic::transport::Endpoint;
use wasmatrix_agent::attend::Connect;
use wasmatrix_control_plane::dial::patient;
use wasmatrix_identity::{Expected, LiveCredentials};

/// How an agent reaches its control plane over TLS, to attend it. A connection does not outlive the certificate that it
/// was made with: when that is renewed, the agent attends anew.
///
/// # Errors
/// The address is none.
pub(super) fn to_control_plane(credentials: &LiveCredentials, url: &str) -> Result<Connect, String> {
    let endpoint = patient(wasmatrix_identity::endpoint(url).map_err(|error| error.to_string())?);
    let dialer = credentials.dialer(Expected::ControlPlane).following();
    Ok(Arc::new(move || Ok(dialer.channel(&endpoint))))
}

/// The same in plain text.
///
/// # Errors
/// The address is none.
pub(super) fn to_control_plane_in_plain_text(url: &str) -> Result<Connect, String> {
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| error.to_string())?;
    let endpoint = patient(endpoint);
    Ok(Arc::new(move || Ok(endpoint.connect_lazy())))
}
