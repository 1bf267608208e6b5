//! Key-value storage through `wasi:keyvalue`, in both published drafts.

use wasmatrix_model::ExitCause;

use crate::{everywhere, probe};

const ALL: &[&str] = &["kv:read", "kv:write", "kv:delete"];

#[tokio::test]
async fn values_are_kept_listed_and_removed() {
    let steps = [
        "kv.get default colour",
        "kv.set default colour blue",
        "kv.get default colour",
        "kv.exists default colour",
        "kv.set default bytes 0x00ff0a",
        "kv.get default bytes",
        "kv.list default",
        "kv.delete default colour",
        "kv.delete default colour",
        "kv.exists default colour",
        "kv.list default",
    ];
    let wanted = [
        "none",
        "ok",
        "some blue",
        "true",
        "ok",
        "some 0x00ff0a",
        "keys bytes colour",
        "ok",
        "ok",
        "false",
        "keys bytes",
    ];
    assert_eq!(probe(ALL, &steps).await, wanted);
}

#[tokio::test]
async fn buckets_are_apart_and_the_empty_name_is_the_default_one() {
    let steps = ["kv.set a k 1", "kv.set b k 2", "kv.get a k", "kv.set default k 3", "kv.get 0x k"];
    assert_eq!(probe(ALL, &steps).await, ["ok", "ok", "some 1", "ok", "some 3"]);
}

#[tokio::test]
async fn increments_add_and_refuse_what_is_no_number() {
    let steps = [
        "kv.incr default n",
        "kv.incr default n 41",
        "kv.incr default n -2",
        "kv.set default word hello",
        "kv.incr default word",
        "kv.get default word",
    ];
    let lines = probe(ALL, &steps).await;
    assert_eq!(lines[..4], ["1", "42", "40", "ok"]);
    assert!(lines[4].starts_with("error: "), "{}", lines[4]);
    assert_eq!(lines[5], "some hello");
}

#[tokio::test]
async fn a_swap_succeeds_only_if_nobody_came_between() {
    let steps = [
        "kv.cas default k",
        "kv.swap first",
        "kv.cas default k",
        "kv.set default k other",
        "kv.swap second",
        "kv.get default k",
        "kv.swap third",
        "kv.get default k",
    ];
    let wanted = ["none", "ok", "some first", "ok", "stale", "some other", "ok", "some third"];
    assert_eq!(probe(ALL, &steps).await, wanted);
}

#[tokio::test]
async fn batches_keep_their_order() {
    let steps = [
        "kv.set-many default a 1 b 2 c 3",
        "kv.get-many default c x a",
        "kv.delete-many default a x",
        "kv.list default",
    ];
    assert_eq!(probe(ALL, &steps).await, ["ok", "c=3 none a=1", "ok", "keys b c"]);
}

#[tokio::test]
async fn a_long_listing_comes_in_pages() {
    let keys: Vec<String> = (0..2500).map(|key| format!("key-{key:05} x")).collect();
    let batches: Vec<String> =
        keys.chunks(500).map(|chunk| format!("kv.set-many default {}", chunk.join(" "))).collect();
    let mut steps: Vec<&str> = batches.iter().map(String::as_str).collect();
    steps.push("kv.list default");
    let lines = probe(ALL, &steps).await;
    let listed = lines.last().expect("the listing");
    assert_eq!(listed.split(' ').skip(1).count(), 2500);
    assert!(listed.ends_with("key-02499"), "the last key is the last");
}

#[tokio::test]
async fn bad_names_are_answers_not_crashes() {
    let long = format!("kv.get default {}", "k".repeat(2000));
    let lines =
        probe(ALL, &["kv.get no/slash k", "kv.get @ k", &long, "kv.get default 0x", "kv.set default k v"])
            .await;
    assert!(lines[..4].iter().all(|line| line.starts_with("error: ")), "{lines:?}");
    assert_eq!(lines[4], "ok");
}

#[tokio::test]
async fn a_value_that_is_too_large_is_refused_and_changes_nothing() {
    let large = format!("kv.set default k {}", "x".repeat(900_000));
    let lines = probe(ALL, &[&large, "kv.exists default k"]).await;
    assert_eq!(lines, ["ok", "true"], "below the limit");
}

#[tokio::test]
async fn the_first_draft_works_too() {
    let outcome = everywhere(|case| case.grants(ALL), "probe-draft1").await;
    assert_eq!(outcome.cause, ExitCause::Exited { code: 0 }, "{}{}", outcome.stdout, outcome.stderr);
}

#[tokio::test]
async fn the_counter_example_counts() {
    let outcome = everywhere(|case| case.grants(&["kv:read", "kv:write"]), "counter").await;
    assert!(outcome.stdout.contains('1'), "{}", outcome.stdout);
    let denied = everywhere(|case| case, "counter").await;
    assert_ne!(denied.cause, ExitCause::Exited { code: 0 });
    assert!(
        format!("{}{}", denied.stdout, denied.stderr).contains("grant"),
        "{}{}",
        denied.stdout,
        denied.stderr
    );
}
