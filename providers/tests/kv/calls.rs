//! What each call means, on every backend.

use wasmatrix_executor_api::{CapabilityErrorKind, Swapped, Version};
use wasmatrix_model::Capability;
use wasmatrix_providers::{KvLimits, Provider};

use crate::guest::{Guest, key, on_every_backend};

fn limits() -> KvLimits {
    KvLimits::default()
}

on_every_backend! {
    a_value_is_what_was_last_set,
    a_key_that_is_not_there_is_no_error,
    listing_goes_page_by_page_in_order,
    increments_keep_decimal_text,
    what_is_no_number_is_left_alone,
    a_sum_that_does_not_fit_is_refused,
    a_swap_needs_the_version_it_saw,
    a_value_made_anew_has_a_new_version,
    a_batch_is_read_in_the_order_asked,
    the_last_of_two_entries_under_one_key_counts,
    namespaces_are_apart_and_shared_buckets_are_shared,
    a_provider_says_what_it_is,
}

async fn a_value_is_what_was_last_set(provider: &dyn Provider) {
    let guest = Guest::new(provider, "app", "b");
    guest.set("k", "one").await.unwrap();
    assert_eq!(guest.get("k").await.unwrap().as_deref(), Some("one"));
    guest.set("k", "two").await.unwrap();
    assert_eq!(guest.get("k").await.unwrap().as_deref(), Some("two"));
    assert!(guest.exists("k").await.unwrap());
    guest.set("k", "").await.unwrap();
    assert_eq!(guest.get("k").await.unwrap().as_deref(), Some(""), "an empty value is a value");
    guest.delete("k").await.unwrap();
    assert_eq!(guest.get("k").await.unwrap(), None);
    assert!(!guest.exists("k").await.unwrap());
}

async fn a_key_that_is_not_there_is_no_error(provider: &dyn Provider) {
    let guest = Guest::new(provider, "app", "b");
    assert_eq!(guest.get("k").await.unwrap(), None);
    assert_eq!(guest.current("k").await.unwrap(), None);
    guest.delete("k").await.unwrap();
    guest.delete_many(&["k", "l", "k"]).await.unwrap();
    let page = guest.list(None).await.unwrap();
    assert!(page.keys.is_empty() && !page.more);
}

async fn listing_goes_page_by_page_in_order(provider: &dyn Provider) {
    let guest = Guest::new(provider, "app", "b");
    let names: Vec<String> = (0..2050).map(|number| format!("{number:04}")).collect();
    for chunk in names.chunks(1000) {
        let entries: Vec<(&str, &str)> = chunk.iter().rev().map(|name| (name.as_str(), "x")).collect();
        guest.set_many(&entries).await.unwrap();
    }
    // Neighbours that a listing must not run into.
    Guest::new(provider, "app", "a").set("0", "x").await.unwrap();
    Guest::new(provider, "app", "c").set("0", "x").await.unwrap();
    Guest::new(provider, "aqq", "b").set("9", "x").await.unwrap();

    let (mut seen, mut sizes, mut after) = (Vec::new(), Vec::new(), None::<String>);
    loop {
        let page = guest.list(after.as_deref()).await.unwrap();
        sizes.push(page.keys.len());
        seen.extend(page.keys.iter().map(|key| key.as_str().to_owned()));
        after = seen.last().cloned();
        if !page.more {
            break;
        }
    }
    assert_eq!(seen, names);
    assert_eq!(sizes, [1000, 1000, 50]);

    let names: Vec<String> = names.iter().skip(1000).cloned().collect();
    assert_eq!(guest.list(Some("0999")).await.unwrap().keys[0].as_str(), names[0]);
    assert_eq!(
        guest.list(Some("0999a")).await.unwrap().keys[0].as_str(),
        "1000",
        "`after` need not be there"
    );
    assert!(guest.list(Some("z")).await.unwrap().keys.is_empty());
}

async fn increments_keep_decimal_text(provider: &dyn Provider) {
    let guest = Guest::new(provider, "app", "b");
    assert_eq!(guest.increment("n", 5).await, Ok(5));
    assert_eq!(guest.increment("n", -7).await, Ok(-2));
    assert_eq!(guest.get("n").await.unwrap().as_deref(), Some("-2"));
    guest.set("n", "41").await.unwrap();
    assert_eq!(guest.increment("n", 1).await, Ok(42));
    assert_eq!(guest.increment("n", 0).await, Ok(42));
}

async fn what_is_no_number_is_left_alone(provider: &dyn Provider) {
    let guest = Guest::new(provider, "app", "b");
    for text in ["", "one", "1.5", "007", " 1"] {
        guest.set("n", text).await.unwrap();
        assert_eq!(guest.increment("n", 1).await, Err(CapabilityErrorKind::Invalid));
        assert_eq!(guest.get("n").await.unwrap().as_deref(), Some(text));
    }
}

async fn a_sum_that_does_not_fit_is_refused(provider: &dyn Provider) {
    let guest = Guest::new(provider, "app", "b");
    for (end, beyond) in [(i64::MAX, 1), (i64::MIN, -1)] {
        guest.set("n", end.to_string()).await.unwrap();
        assert_eq!(guest.increment("n", beyond).await, Err(CapabilityErrorKind::Invalid));
        assert_eq!(guest.get("n").await.unwrap(), Some(end.to_string()));
        assert_eq!(guest.increment("n", 0).await, Ok(end));
    }
}

async fn a_swap_needs_the_version_it_saw(provider: &dyn Provider) {
    let guest = Guest::new(provider, "app", "b");
    assert_eq!(guest.swap("k", Some(Version(1)), "no").await, Ok(Swapped::Stale));
    assert_eq!(guest.swap("k", None, "one").await, Ok(Swapped::Done));
    assert_eq!(guest.swap("k", None, "no").await, Ok(Swapped::Stale));
    let seen = guest.current("k").await.unwrap().unwrap();
    assert_eq!(seen.value, "one");
    guest.set("k", "two").await.unwrap();
    assert_eq!(guest.swap("k", Some(seen.version), "no").await, Ok(Swapped::Stale));
    assert_eq!(guest.get("k").await.unwrap().as_deref(), Some("two"));
    let seen = guest.current("k").await.unwrap().unwrap();
    assert_eq!(guest.swap("k", Some(seen.version), "three").await, Ok(Swapped::Done));
    assert_eq!(guest.swap("k", Some(seen.version), "no").await, Ok(Swapped::Stale), "a version is good once");
}

async fn a_value_made_anew_has_a_new_version(provider: &dyn Provider) {
    let guest = Guest::new(provider, "app", "b");
    guest.set("k", "same").await.unwrap();
    let first = guest.current("k").await.unwrap().unwrap();
    guest.delete("k").await.unwrap();
    guest.set("k", "same").await.unwrap();
    let second = guest.current("k").await.unwrap().unwrap();
    assert!(second.version > first.version);
    assert_eq!(guest.swap("k", Some(first.version), "no").await, Ok(Swapped::Stale));
    guest.set("other", "x").await.unwrap();
    assert_eq!(
        guest.current("k").await.unwrap(),
        Some(second),
        "another key's write is no write of this one"
    );
}

async fn a_batch_is_read_in_the_order_asked(provider: &dyn Provider) {
    let guest = Guest::new(provider, "app", "b");
    guest.set_many(&[("c", "3"), ("a", "1"), ("b", "2")]).await.unwrap();
    let read = guest.get_many(&["b", "nothing", "a", "b"]).await.unwrap();
    let expected: Vec<Option<bytes::Bytes>> = [Some("2"), None, Some("1"), Some("2")]
        .map(|value| value.map(|value| bytes::Bytes::from_static(value.as_bytes())))
        .into();
    assert_eq!(read, expected);
    guest.delete_many(&["a", "nothing", "b"]).await.unwrap();
    assert_eq!(guest.list(None).await.unwrap().keys, [key("c")]);
    guest.set_many(&[]).await.unwrap();
    assert!(guest.get_many(&[]).await.unwrap().is_empty());
}

async fn the_last_of_two_entries_under_one_key_counts(provider: &dyn Provider) {
    let guest = Guest::new(provider, "app", "b");
    guest.set_many(&[("k", "first"), ("l", "x"), ("k", "last")]).await.unwrap();
    assert_eq!(guest.get("k").await.unwrap().as_deref(), Some("last"));
}

async fn namespaces_are_apart_and_shared_buckets_are_shared(provider: &dyn Provider) {
    let (one, other) = (Guest::new(provider, "one", "b"), Guest::new(provider, "other", "b"));
    one.set("k", "mine").await.unwrap();
    assert_eq!(other.get("k").await.unwrap(), None);
    other.delete("k").await.unwrap();
    other.set("k", "theirs").await.unwrap();
    assert_eq!(one.get("k").await.unwrap().as_deref(), Some("mine"));
    assert_eq!(Guest::new(provider, "one", "c").get("k").await.unwrap(), None, "buckets are apart too");

    let (one, other) = (Guest::new(provider, "one", "@team"), Guest::new(provider, "other", "@team"));
    one.set("k", "ours").await.unwrap();
    assert_eq!(other.get("k").await.unwrap().as_deref(), Some("ours"));
    assert_eq!(Guest::new(provider, "team", "team").get("k").await.unwrap(), None);
}

async fn a_provider_says_what_it_is(provider: &dyn Provider) {
    assert_eq!(provider.capability(), Capability::Kv);
    assert!(["memory", "redb"].contains(&provider.backend()));
}
