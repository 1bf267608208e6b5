//! Why a request was refused: the one mapping between the model's [`Failure`] and gRPC's [`Status`].
//!
//! A failure travels as the status's code and message, with a `google.rpc.ErrorInfo` in the details that holds the
//! error code, the failure's details and its time, and for `INVALID_REQUEST` a `google.rpc.BadRequest` that names
//! the field. A status without our `ErrorInfo` (a connection that broke, a proxy, a server of another kind) becomes
//! the failure that its gRPC code suggests.
//!
//! All of it travels in HTTP/2 trailers, and a client drops a response whose headers are larger than it likes: the
//! user would lose the reason of the refusal. So what is long is cut here, see [`STATUS_HEADER_BYTES_MAX`].

use std::{collections::HashMap, error::Error};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use wasmatrix_model::{ErrorCode, Failure, Timestamp};

/// The domain of our `ErrorInfo`.
const DOMAIN: &str = "wasmatrix";
/// The metadata key that holds the time. A detail of that name does not travel.
const TIMESTAMP: &str = "timestamp";

/// Most bytes that a status of ours takes in the trailers: what hyper's client accepts unless told otherwise.
pub const STATUS_HEADER_BYTES_MAX: usize = 16 << 10;
/// Most bytes of a message. It travels twice: as itself, up to three bytes for one, and in the details, four for three.
const TEXT_BYTES_MAX: usize = 2 << 10;
/// Most bytes of a field's violation, which repeats the message.
const VIOLATION_BYTES_MAX: usize = 512;
/// Most bytes of all details together, names and values.
const DETAILS_BYTES_MAX: usize = 2 << 10;
/// What a detail takes beside its name and value.
const DETAIL_OVERHEAD_BYTES: usize = 16;

/// The status that carries a failure.
pub fn to_status(failure: &Failure) -> Status {
    let mut metadata = HashMap::new();
    let mut bytes_left = DETAILS_BYTES_MAX;
    for (name, value) in &failure.details {
        let value = cut(value, TEXT_BYTES_MAX / 4);
        let bytes = name.len().saturating_add(value.len()).saturating_add(DETAIL_OVERHEAD_BYTES);
        if bytes <= bytes_left && name != TIMESTAMP {
            bytes_left -= bytes;
            metadata.insert(name.clone(), value);
        }
    }
    metadata.insert(TIMESTAMP.to_owned(), failure.at.to_string());

    let mut details = ErrorDetails::new();
    details.set_error_info(failure.code.as_str(), DOMAIN, metadata);
    if failure.code == ErrorCode::InvalidRequest
        && let Some(field) = failure.details.get("field")
    {
        details.add_bad_request_violation(
            cut(field, VIOLATION_BYTES_MAX),
            cut(&failure.message, VIOLATION_BYTES_MAX),
        );
    }
    Status::with_error_details(grpc_code(failure.code), cut(&failure.message, TEXT_BYTES_MAX), details)
}

/// The failure that a status carries, or that it amounts to if it carries none; `now` is then its time.
pub fn from_status(status: &Status, now: Timestamp) -> Failure {
    let message = match status.message() {
        "" => format!("the server said only: {}", status.code().description()),
        message => message.to_owned(),
    };
    if let Some(info) = status.get_details_error_info()
        && info.domain == DOMAIN
        && let Ok(code) = info.reason.parse()
    {
        let mut details = info.metadata;
        let at = details.remove(TIMESTAMP).and_then(|text| text.parse().ok()).unwrap_or(now);
        return Failure { code, message, details: details.into_iter().collect(), at };
    }
    Failure::new(derived_code(status), message, now)
}

const fn grpc_code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::InvalidRequest => Code::InvalidArgument,
        ErrorCode::InstanceNotFound | ErrorCode::CapabilityNotFound => Code::NotFound,
        ErrorCode::PermissionDenied => Code::PermissionDenied,
        ErrorCode::ProviderUnavailable | ErrorCode::NodeUnavailable => Code::Unavailable,
        ErrorCode::WasmRuntimeError | ErrorCode::CrashDetected | ErrorCode::RestartPolicyViolation => {
            Code::FailedPrecondition
        }
        ErrorCode::ResourceExhausted => Code::ResourceExhausted,
        ErrorCode::Timeout => Code::DeadlineExceeded,
        ErrorCode::Internal => Code::Internal,
    }
}

/// What a status without our `ErrorInfo` amounts to.
fn derived_code(status: &Status) -> ErrorCode {
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange | Code::AlreadyExists => ErrorCode::InvalidRequest,
        Code::NotFound => ErrorCode::InstanceNotFound,
        Code::PermissionDenied | Code::Unauthenticated => ErrorCode::PermissionDenied,
        Code::FailedPrecondition => ErrorCode::RestartPolicyViolation,
        Code::ResourceExhausted => ErrorCode::ResourceExhausted,
        Code::DeadlineExceeded => ErrorCode::Timeout,
        // A node that does not know the method is of another version: it can't do what is asked.
        Code::Unavailable | Code::Unimplemented => ErrorCode::NodeUnavailable,
        // tonic cancels a call that took too long; hyper cancels the calls of a connection that broke.
        Code::Cancelled if !broke_here(status) => ErrorCode::Timeout,
        Code::Cancelled => ErrorCode::NodeUnavailable,
        Code::Unknown | Code::Internal | Code::Aborted | Code::DataLoss | Code::Ok => {
            if broke_here(status) {
                ErrorCode::NodeUnavailable
            } else {
                ErrorCode::Internal
            }
        }
    }
}

/// Whether the status was made on this side, because the connection failed and not because time was up.
fn broke_here(status: &Status) -> bool {
    let Some(source) = status.source() else { return false };
    let mut cause: Option<&(dyn Error + 'static)> = Some(source);
    while let Some(error) = cause {
        if error.is::<tonic::TimeoutExpired>() {
            return false;
        }
        cause = error.source();
    }
    true
}

/// The text, or its beginning and a mark that it was cut, in at most `bytes_max` bytes.
fn cut(text: &str, bytes_max: usize) -> String {
    const MARK: &str = "… (cut)";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max.saturating_sub(MARK.len()));
    format!("{}{MARK}", &text[..end])
}
