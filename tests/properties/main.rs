//! The properties P01 to P21, each a proptest that is named after it, on every executor.
//!
//! `grep -r property_07` finds the seventh. 256 cases each, unless a case says why fewer. Cases share a node per
//! executor where the property is about one instance, and take a node of their own where it is about all of them.

#![expect(clippy::unwrap_used, reason = "what a test takes for granted and is not so ends it")]

mod facts;
mod following;
mod instances;
mod isolation;
mod lifecycle;
mod storage;
mod validation;

use std::{
    future::Future,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use proptest::test_runner::{Config, TestCaseError};
use tokio::runtime::Runtime;
use wasmatrix_model::{BucketName, Grant, Key, KvAction};

/// Cases of each property.
const CASES: u32 = 256;

/// The same number of cases everywhere; failures are printed, not stored beside the code.
fn cases(count: u32) -> Config {
    Config { cases: count, failure_persistence: None, ..Config::default() }
}

type Case = Result<(), TestCaseError>;

/// A number that no other case has, for names that must differ.
fn fresh() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Relaxed)
}

/// A runtime for one property.
fn runtime() -> Runtime {
    Runtime::new().expect("a runtime can be built")
}

/// Runs one case on `runtime`.
fn block_on(runtime: &Runtime, case: impl Future<Output = Case>) -> Case {
    runtime.block_on(case)
}

/// What a grant means, told a second time and differently from the code under test: by its text.
fn covers(grant: &Grant, action: KvAction, bucket: &BucketName, key: Option<&Key>) -> bool {
    let text = grant.to_string();
    let mut parts = text.splitn(3, ':');
    let (_, verb, scope) = (parts.next(), parts.next().unwrap_or_default(), parts.next());
    if verb != action.as_str() {
        return false;
    }
    let Some(scope) = scope else { return !bucket.as_str().starts_with('@') };
    let (named, pattern) = scope.split_once('/').map_or((scope, "*"), |(bucket, pattern)| (bucket, pattern));
    if named != bucket.as_str() {
        return false;
    }
    match (pattern.strip_suffix('*'), key) {
        (Some(""), _) => true,
        (_, None) => false,
        (Some(prefix), Some(key)) => key.as_str().starts_with(prefix),
        (None, Some(key)) => pattern == key.as_str(),
    }
}
