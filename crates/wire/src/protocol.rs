//! Which version of the protocol is spoken, and how each end tells the other.

use tonic::{
    Request, Status,
    metadata::{MetadataMap, MetadataValue},
    service::interceptor::InterceptedService,
    transport::Channel,
};
use wasmatrix_model::{ErrorCode, Failure, ProtocolVersion, Timestamp};

use crate::{failure::to_status, v1::control_plane_client::ControlPlaneClient};

/// What this build speaks.
pub const PROTOCOL: ProtocolVersion = ProtocolVersion { major: 1, minor: 1 };

/// The metadata in which the sender of a call names its version.
pub const HEADER: &str = "wasmatrix-protocol";

/// [`stamped`], as a type of its own.
pub type Stamp = fn(Request<()>) -> Result<Request<()>, Status>;

/// A client of the control plane that names its version in each call.
pub type StampedClient = ControlPlaneClient<InterceptedService<Channel, Stamp>>;

/// Asks the control plane over that channel, in our version.
pub fn control_plane(channel: Channel) -> StampedClient {
    ControlPlaneClient::with_interceptor(channel, stamped as Stamp)
}

/// Names our version in a call's metadata, if none is named yet.
pub fn stamp(metadata: &mut MetadataMap) {
    if metadata.contains_key(HEADER) {
        return;
    }
    // Digits and a dot are legal in metadata.
    if let Ok(value) = MetadataValue::try_from(PROTOCOL.to_string()) {
        metadata.insert(HEADER, value);
    }
}

/// [`stamp`] as an interceptor of a client.
///
/// # Errors
/// None; an interceptor may have some.
#[allow(clippy::result_large_err, reason = "tonic says so")]
pub fn stamped(mut request: Request<()>) -> Result<Request<()>, Status> {
    stamp(request.metadata_mut());
    Ok(request)
}

/// What those speak who name no version: it was the first, in which there was no way to name one.
const FIRST: ProtocolVersion = ProtocolVersion { major: 1, minor: 0 };

/// The version that a peer speaks, once it was checked.
pub fn spoken(metadata: &MetadataMap) -> ProtocolVersion {
    metadata.get(HEADER).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(FIRST)
}

/// Checks the version that a peer names. One that names none speaks the first one of ours.
///
/// # Errors
/// Another major version, or a text that is no version: `INVALID_REQUEST`, with both versions named.
pub fn check(metadata: &MetadataMap, now: Timestamp) -> Result<(), Box<Failure>> {
    let Some(value) = metadata.get(HEADER) else { return Ok(()) };
    let text = value.to_str().unwrap_or("(not ASCII)");
    match text.parse() {
        Ok(theirs) => check_version(theirs, now),
        Err(_) => Err(Box::new(refusal(text, now))),
    }
}

/// The same for a version that came in a message.
///
/// # Errors
/// As [`check`].
pub fn check_version(theirs: ProtocolVersion, now: Timestamp) -> Result<(), Box<Failure>> {
    if theirs.major == PROTOCOL.major {
        return Ok(());
    }
    Err(Box::new(refusal(&theirs.to_string(), now)))
}

/// [`check`] as an interceptor of a server.
///
/// # Errors
/// As [`check`].
#[allow(clippy::result_large_err, reason = "tonic says so")]
pub fn checked(request: Request<()>) -> Result<Request<()>, Status> {
    use wasmatrix_model::Clock as _;
    let now = wasmatrix_model::SystemClock.now();
    check(request.metadata(), now).map_err(|failure| to_status(&failure))?;
    Ok(request)
}

fn refusal(theirs: &str, now: Timestamp) -> Failure {
    let shown: String = theirs.chars().take(40).collect();
    let message = format!(
        "protocol {shown} is spoken there and protocol {PROTOCOL} here, and only versions with the same first number \
         understand each other: bring both ends to the same major version of Wasmatrix"
    );
    Failure::new(ErrorCode::InvalidRequest, message, now)
        .with("protocol_theirs", shown)
        .with("protocol_ours", PROTOCOL.to_string())
}
