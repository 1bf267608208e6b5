//! Failures as statuses: what a client of any kind reads, and what becomes of a status that is not ours.

use proptest::{collection, prelude::*, sample::select};
use tonic::{Code, Status, codegen::http::HeaderMap};
use tonic_types::StatusExt as _;
use wasmatrix_model::{ErrorCode, Failure, Timestamp, failure::Invalid};
use wasmatrix_wire::failure::{STATUS_HEADER_BYTES_MAX, from_status, to_status};

use crate::strategies;

/// Sends a status as HTTP/2 trailers and reads it back; also how large they are, as HTTP/2 counts.
fn through_trailers(status: &Status) -> (Status, usize) {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).unwrap();
    let bytes = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    (Status::from_header_map(&trailers).unwrap(), bytes)
}

proptest! {
    #[test]
    fn property_16_failures_survive(failure in strategies::failure()) {
        let (status, _) = through_trailers(&to_status(&failure));
        prop_assert_eq!(from_status(&status, Timestamp::MAX), failure);
    }

    /// However much is said, and in whatever letters, the trailers fit, and what is cut is cut between letters.
    #[test]
    fn property_18_every_failure_fits_the_trailers(
        code in select(ErrorCode::ALL),
        letter in select(vec!["x", " ", "%", "é", "語", "😀"]),
        letters in 0_usize..20_000,
        details in collection::btree_map("[a-z]{1,400}", "[a-z ]{0,900}", 0..30),
    ) {
        let mut failure = Failure::new(code, letter.repeat(letters), Timestamp::UNIX_EPOCH);
        failure.details = details;
        let (status, bytes) = through_trailers(&to_status(&failure));
        prop_assert!(bytes < STATUS_HEADER_BYTES_MAX - 512, "{} bytes", bytes);
        let read = from_status(&status, Timestamp::MAX);
        prop_assert_eq!(read.code, code);
        prop_assert_eq!(read.at, failure.at);
    }
}

#[test]
fn any_grpc_client_can_read_a_refusal() {
    let invalid = Invalid::new("limits.memory_bytes_max", "1 bytes is out of range");
    let (status, _) = through_trailers(&to_status(&Failure::invalid(&invalid, Timestamp::UNIX_EPOCH)));
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "limits.memory_bytes_max: 1 bytes is out of range");
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID_REQUEST", "wasmatrix"));
    assert_eq!(info.metadata["timestamp"], "1970-01-01T00:00:00Z");
    assert_eq!(info.metadata["field"], "limits.memory_bytes_max");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].field, "limits.memory_bytes_max");
}

#[test]
fn a_status_of_somebody_else_becomes_what_its_code_suggests() {
    let read = |status: Status| from_status(&status, Timestamp::UNIX_EPOCH);
    for (code, expected) in [
        (Code::Unavailable, ErrorCode::NodeUnavailable),
        (Code::Unimplemented, ErrorCode::NodeUnavailable),
        (Code::DeadlineExceeded, ErrorCode::Timeout),
        (Code::Cancelled, ErrorCode::Timeout),
        (Code::Unauthenticated, ErrorCode::PermissionDenied),
        (Code::OutOfRange, ErrorCode::InvalidRequest),
        (Code::Unknown, ErrorCode::Internal),
    ] {
        let failure = read(Status::new(code, "said elsewhere"));
        assert_eq!((failure.code, failure.message.as_str()), (expected, "said elsewhere"));
        assert_eq!(failure.at, Timestamp::UNIX_EPOCH);
    }
    assert!(!read(Status::new(Code::Unavailable, "")).message.is_empty());
    let foreign = tonic_types::ErrorDetails::with_error_info("TIMEOUT", "somebody.else", []);
    assert_eq!(
        read(Status::with_error_details(Code::NotFound, "", foreign)).code,
        ErrorCode::InstanceNotFound
    );
    let torn = Status::with_details(Code::NotFound, "torn", vec![0xff; 9].into());
    assert_eq!(read(torn).code, ErrorCode::InstanceNotFound);
}

#[test]
fn a_connection_that_breaks_is_a_node_out_of_reach() {
    let broken = || Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    let mut status = Status::unknown("transport error");
    status.set_source(std::sync::Arc::from(broken() as Box<dyn std::error::Error + Send + Sync>));
    assert_eq!(from_status(&status, Timestamp::UNIX_EPOCH).code, ErrorCode::NodeUnavailable);
    let mut status = Status::cancelled("operation was canceled");
    status.set_source(std::sync::Arc::from(broken() as Box<dyn std::error::Error + Send + Sync>));
    assert_eq!(from_status(&status, Timestamp::UNIX_EPOCH).code, ErrorCode::NodeUnavailable);
}
