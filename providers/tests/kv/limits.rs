//! What there is no room for is refused, with nothing changed, on every backend.

use wasmatrix_executor_api::{CapabilityErrorKind, KvCall, Swapped};
use wasmatrix_providers::{KvLimits, Provider};

use crate::guest::{Guest, InFile, key, on_every_backend};

const EXHAUSTED: Result<(), CapabilityErrorKind> = Err(CapabilityErrorKind::Exhausted);

/// Room in a namespace for three entries with a bucket of one letter, a key of one letter and ten bytes of value.
fn limits() -> KvLimits {
    KvLimits {
        value_bytes_max: 100,
        namespace_bytes_max: 3 * (KvLimits::ENTRY_OVERHEAD_BYTES + 1 + 1 + 10),
        store_bytes_max: 4 * (KvLimits::ENTRY_OVERHEAD_BYTES + 1 + 1 + 10),
        page_keys_max: 10,
        batch_entries_max: 3,
        batch_bytes_max: 110,
    }
}

on_every_backend! {
    a_value_has_a_largest_size,
    a_batch_has_a_largest_length_and_size,
    a_namespace_fills_and_empties,
    a_batch_without_room_leaves_no_trace,
    the_store_fills_over_all_namespaces,
    every_kind_of_write_is_counted,
    an_error_says_which_limit,
}

fn ten(letter: &str) -> String {
    letter.repeat(10)
}

async fn a_value_has_a_largest_size(provider: &dyn Provider) {
    let guest = Guest::new(provider, "app", "b");
    assert_eq!(guest.set("k", "x".repeat(100)).await, Ok(()));
    assert_eq!(guest.set("k", "x".repeat(101)).await, EXHAUSTED);
    assert_eq!(guest.swap("k", None, "x".repeat(101)).await, Err(CapabilityErrorKind::Exhausted));
    assert_eq!(guest.set_many(&[("a", "x"), ("k", &"x".repeat(101))]).await, EXHAUSTED);
    assert_eq!(guest.get("a").await.unwrap(), None);
}

async fn a_batch_has_a_largest_length_and_size(provider: &dyn Provider) {
    let guest = Guest::new(provider, "app", "b");
    assert_eq!(guest.set_many(&[("a", ""), ("a", ""), ("a", ""), ("a", "")]).await, EXHAUSTED);
    assert_eq!(guest.get_many(&["a"; 4]).await, Err(CapabilityErrorKind::Exhausted));
    assert_eq!(guest.delete_many(&["a"; 4]).await, EXHAUSTED);
    assert_eq!(guest.set_many(&[("a", &"x".repeat(60)), ("b", &"x".repeat(51))]).await, EXHAUSTED);
    guest.set("a", "x".repeat(100)).await.unwrap();
    assert!(guest.get_many(&["a"]).await.is_ok());
    assert_eq!(
        guest.get_many(&["a", "a"]).await,
        Err(CapabilityErrorKind::Exhausted),
        "nor is more answered"
    );
}

async fn a_namespace_fills_and_empties(provider: &dyn Provider) {
    let guest = Guest::new(provider, "app", "b");
    for key in ["1", "2", "3"] {
        guest.set(key, ten("x")).await.unwrap();
    }
    assert_eq!(guest.set("4", "").await, EXHAUSTED);
    assert_eq!(Guest::new(provider, "app", "c").set("4", "").await, EXHAUSTED, "all buckets count together");
    assert_eq!(guest.set("3", ten("y")).await, Ok(()), "overwriting counts the difference");
    assert_eq!(guest.set("3", "x".repeat(11)).await, EXHAUSTED);
    assert_eq!(guest.get("3").await.unwrap(), Some(ten("y")));
    assert_eq!(guest.set("3", "x".repeat(9)).await, Ok(()));
    assert_eq!(guest.set("2", "x".repeat(11)).await, Ok(()), "what one gave up another may use");
    guest.delete("1").await.unwrap();
    guest.delete("1").await.unwrap();
    guest.delete("not there").await.unwrap();
    assert_eq!(guest.set("4", ten("x")).await, Ok(()));
    assert_eq!(guest.set("5", "").await, EXHAUSTED, "a deletion is counted once");
}

async fn a_batch_without_room_leaves_no_trace(provider: &dyn Provider) {
    let guest = Guest::new(provider, "app", "b");
    guest.set("1", ten("x")).await.unwrap();
    let before = guest.current("1").await.unwrap();
    let value = "y".repeat(30);
    assert_eq!(guest.set_many(&[("1", &value), ("2", &value), ("3", &value)]).await, EXHAUSTED);
    assert_eq!(guest.current("1").await.unwrap(), before);
    assert_eq!(guest.list(None).await.unwrap().keys, [key("1")]);
    assert_eq!(guest.set_many(&[("2", &ten("x")), ("3", &ten("x"))]).await, Ok(()), "nor was room lost");
}

async fn the_store_fills_over_all_namespaces(provider: &dyn Provider) {
    let (one, other) = (Guest::new(provider, "one", "b"), Guest::new(provider, "other", "b"));
    for key in ["1", "2", "3"] {
        one.set(key, ten("x")).await.unwrap();
    }
    other.set("1", ten("x")).await.unwrap();
    assert_eq!(other.set("2", "").await, EXHAUSTED);
    assert_eq!(Guest::new(provider, "one", "@s").set("1", "").await, EXHAUSTED);
    one.delete_many(&["1", "2"]).await.unwrap();
    assert_eq!(other.set("2", "").await, Ok(()));
    let shared = Guest::new(provider, "one", "@s");
    assert_eq!(shared.set("1", "").await, Ok(()), "a shared bucket counts by itself");
    assert_eq!(one.set("4", "").await, EXHAUSTED, "and towards the whole");
}

async fn every_kind_of_write_is_counted(provider: &dyn Provider) {
    let guest = Guest::new(provider, "app", "b");
    assert_eq!(guest.increment("1", 1_234_567_890).await, Ok(1_234_567_890));
    assert_eq!(guest.swap("2", None, ten("x")).await, Ok(Swapped::Done));
    guest.set_many(&[("3", &ten("x"))]).await.unwrap();
    assert_eq!(guest.set("4", "").await, EXHAUSTED);
    assert_eq!(guest.increment("4", 1).await, Err(CapabilityErrorKind::Exhausted));
    assert_eq!(guest.swap("4", None, "").await, Err(CapabilityErrorKind::Exhausted));
    assert_eq!(
        guest.increment("1", 9_000_000_000).await,
        Err(CapabilityErrorKind::Exhausted),
        "a digit more"
    );
    assert_eq!(guest.get("1").await.unwrap().as_deref(), Some("1234567890"));
}

async fn an_error_says_which_limit(provider: &dyn Provider) {
    let guest = Guest::new(provider, "app", "b");
    let bucket = || "b".parse().unwrap();
    let big = KvCall::Set { bucket: bucket(), key: key("k"), value: "x".repeat(101).into() };
    let error = guest.try_call(big).await.unwrap_err();
    assert_eq!(error.to_string(), "RESOURCE_EXHAUSTED: the value has 101 bytes; at most 100 are taken");
    guest.set("1", "x".repeat(100)).await.unwrap();
    let full = KvCall::Set { bucket: bucket(), key: key("2"), value: "x".repeat(100).into() };
    let error = guest.try_call(full).await.unwrap_err();
    assert_eq!(
        error.message,
        "this instance would hold 332 bytes; at most 228 are taken: delete something first"
    );
}

/// The count of what is stored is stored with it, and so are versions.
#[tokio::test]
async fn a_reopened_store_remembers_what_is_full() {
    let store = InFile::new(limits());
    let guest = Guest::new(&store.provider, "app", "b");
    for key in ["1", "2", "3"] {
        guest.set(key, ten("x")).await.unwrap();
    }
    let last = guest.current("3").await.unwrap().unwrap().version;
    guest.delete("3").await.unwrap();

    let store = store.reopened(limits()).await;
    let guest = Guest::new(&store.provider, "app", "b");
    assert_eq!(guest.set("3", ten("x")).await, Ok(()));
    assert!(guest.current("3").await.unwrap().unwrap().version > last);
    assert_eq!(guest.set("4", "").await, EXHAUSTED);

    // A store that is over its limit, because the limit was lowered, can be read and brought down, and not grown.
    let lowered = KvLimits { namespace_bytes_max: 100, ..limits() };
    let store = store.reopened(lowered).await;
    let guest = Guest::new(&store.provider, "app", "b");
    assert_eq!(guest.get("1").await.unwrap(), Some(ten("x")));
    assert_eq!(guest.set("1", ten("y")).await, Ok(()));
    assert_eq!(guest.set("1", "x".repeat(11)).await, EXHAUSTED);
    guest.delete_many(&["1", "2"]).await.unwrap();
    assert_eq!(guest.set("3", "x".repeat(34)).await, Ok(()));
    assert_eq!(guest.set("3", "x".repeat(35)).await, EXHAUSTED);
}
