//! A node's certificate from the control plane: asked for with a token or with the one before, proven, and written.

use std::{path::Path, sync::Arc, time::Duration};

use wasmatrix_identity::{Bundle, Dialer, KeyAndRequest, Overwrite};
use wasmatrix_model::{Clock, NodeId};
use wasmatrix_wire::{
    protocol::stamped,
    v1::{EnrollRequest, enrollment_client::EnrollmentClient},
};

use crate::{
    client::{told, undialled},
    error::{CliError, chain},
};

/// Longest wait for a certificate.
const ENROLLMENT_MAX: Duration = Duration::from_secs(30);

/// Makes a key and asks for a certificate of it.
pub(super) async fn ask(url: &str, dialer: &Dialer, token: String, id: &NodeId) -> Result<Bundle, CliError> {
    let endpoint = wasmatrix_identity::endpoint(url).map_err(|error| CliError::usage(error.to_string()))?;
    let channel = dialer.connect(&endpoint).await.map_err(|error| undialled(url, &error))?;
    let key = KeyAndRequest::generate().map_err(|error| CliError::Host { message: chain(&error) })?;
    let request = EnrollRequest { token, node: id.to_string(), certificate_signing_request: key.request_pem };
    let call = async { EnrollmentClient::with_interceptor(channel, stamped).enroll(request).await };
    let answer = match tokio::time::timeout(ENROLLMENT_MAX, call).await {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => return Err(told(url, &status)),
        Err(_) => {
            let seconds = ENROLLMENT_MAX.as_secs_f64();
            return Err(CliError::Deadline { addr: url.to_owned(), seconds });
        }
    };
    Ok(Bundle { ca_pem: answer.authority, certificate_pem: answer.certificate, key_pem: key.key_pem })
}

/// Proves what was sent, and writes it.
pub(super) fn keep(bundle: &Bundle, clock: &Arc<dyn Clock>, dir: &Path) -> Result<(), CliError> {
    bundle.prove(clock).map_err(|error| CliError::certificate(&error))?;
    bundle.write(dir, Overwrite::Replace).map_err(|error| CliError::Host { message: chain(&error) })
}
