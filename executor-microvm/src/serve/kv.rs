//! Key-value storage: a guest's request becomes the same typed call as in process, and leaves through the same gate.

use std::sync::Arc;

use bytes::Bytes;
use wasmatrix_executor_api::{
    CapabilityCall, CapabilityError, CapabilityErrorKind, CapabilityReply, KvCall, KvReply, Swapped, Version,
};
use wasmatrix_microvm_abi::{KvAnswer, KvRequest, Response, kv::Operation, layout::CALL_BYTES_MAX};
use wasmatrix_model::{BucketName, Key};

use super::Host;
use crate::run::Cut;

impl Host {
    pub(super) fn kv(&mut self, request: KvRequest<'_>) -> Result<Response, Cut> {
        let call = match call(request) {
            Ok(call) => call,
            Err(error) => return Ok(Response::Kv(failed(&error))),
        };
        let capabilities = Arc::clone(&self.capabilities);
        let answer = match self.wait_for(capabilities.call(CapabilityCall::Kv(call)))? {
            Ok(CapabilityReply::Kv(reply)) => answer(reply),
            Err(error) => failed(&error),
        };
        Ok(Response::Kv(answer))
    }
}

fn invalid(message: impl ToString) -> CapabilityError {
    CapabilityError::new(CapabilityErrorKind::Invalid, message.to_string())
}

fn key(text: &str) -> Result<Key, CapabilityError> {
    text.parse().map_err(invalid)
}

fn keys(texts: &[&str]) -> Result<Vec<Key>, CapabilityError> {
    texts.iter().map(|text| key(text)).collect()
}

/// The call, if its names and keys are legal.
fn call(KvRequest { bucket, operation }: KvRequest<'_>) -> Result<KvCall, CapabilityError> {
    let bucket: BucketName = bucket.parse().map_err(invalid)?;
    let value = Bytes::copy_from_slice;
    Ok(match operation {
        Operation::Get { key: text } => KvCall::Get { bucket, key: key(text)? },
        Operation::Set { key: text, value: bytes } => {
            KvCall::Set { bucket, key: key(text)?, value: value(bytes) }
        }
        Operation::Delete { key: text } => KvCall::Delete { bucket, key: key(text)? },
        Operation::Exists { key: text } => KvCall::Exists { bucket, key: key(text)? },
        Operation::List { after } => KvCall::List { bucket, after: after.map(key).transpose()? },
        Operation::Increment { key: text, delta } => KvCall::Increment { bucket, key: key(text)?, delta },
        Operation::Current { key: text } => KvCall::Current { bucket, key: key(text)? },
        Operation::Swap { key: text, expected, value: bytes } => {
            KvCall::Swap { bucket, key: key(text)?, expected: expected.map(Version), value: value(bytes) }
        }
        Operation::GetMany { keys: texts } => KvCall::GetMany { bucket, keys: keys(&texts)? },
        Operation::SetMany { entries } => {
            let entries: Result<_, CapabilityError> =
                entries.into_iter().map(|(text, bytes)| Ok((key(text)?, value(bytes)))).collect();
            KvCall::SetMany { bucket, entries: entries? }
        }
        Operation::DeleteMany { keys: texts } => KvCall::DeleteMany { bucket, keys: keys(&texts)? },
    })
}

fn answer(reply: KvReply) -> KvAnswer {
    let bytes = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
    match reply {
        KvReply::Value(value) => KvAnswer::Value(value.map(Vec::from)),
        KvReply::Done => KvAnswer::Done,
        KvReply::Exists(exists) => KvAnswer::Exists(exists),
        KvReply::Keys(page) => {
            KvAnswer::Keys { keys: page.keys.iter().map(ToString::to_string).collect(), more: page.more }
        }
        KvReply::Number(number) => KvAnswer::Number(number),
        KvReply::Versioned(found) => {
            KvAnswer::Versioned(found.map(|found| (found.value.into(), found.version.0)))
        }
        KvReply::Swapped(swapped) => KvAnswer::Swapped(swapped == Swapped::Done),
        KvReply::Values(values) => {
            let total: usize = values.iter().map(bytes).sum();
            if total > CALL_BYTES_MAX as usize {
                return failed(&invalid(format!(
                    "a call carries at most {CALL_BYTES_MAX} bytes, this one {total}"
                )));
            }
            KvAnswer::Values(values.into_iter().map(|value| value.map(Vec::from)).collect())
        }
    }
}

fn failed(error: &CapabilityError) -> KvAnswer {
    let message = error.to_string();
    match error.kind {
        CapabilityErrorKind::Denied => KvAnswer::Denied { message },
        CapabilityErrorKind::Invalid
        | CapabilityErrorKind::Unavailable
        | CapabilityErrorKind::Exhausted
        | CapabilityErrorKind::Timeout
        | CapabilityErrorKind::Failed => KvAnswer::Failed { message },
    }
}
