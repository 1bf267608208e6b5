//! The end of a provider: every call gets its answer or is told that there is none, and what was answered is kept.

use std::sync::Arc;

use tokio::task::JoinSet;
use wasmatrix_executor_api::CapabilityErrorKind;
use wasmatrix_providers::{KvLimits, KvProvider, Provider};

use crate::guest::{Guest, InFile, on_every_backend};

fn limits() -> KvLimits {
    KvLimits::default()
}

on_every_backend! {
    after_a_shutdown_every_call_is_unavailable,
}

async fn after_a_shutdown_every_call_is_unavailable(provider: &dyn Provider) {
    let guest = Guest::new(provider, "app", "b");
    guest.set("k", "v").await.unwrap();
    provider.shutdown().await;
    assert_eq!(guest.get("k").await, Err(CapabilityErrorKind::Unavailable));
    assert_eq!(guest.set("k", "v").await, Err(CapabilityErrorKind::Unavailable));
    provider.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_in_flight_are_answered_and_the_answers_are_kept() {
    for round in 0..5 {
        let InFile { provider, dir } = InFile::new(KvLimits::default());
        let provider = Arc::new(provider);
        let mut tasks = JoinSet::new();
        for task in 0..40 {
            let provider = Arc::clone(&provider);
            tasks.spawn(async move {
                let guest = Guest::new(&*provider, "app", "b");
                let mut answered = Vec::new();
                for turn in 0.. {
                    let key = format!("{task}-{turn}");
                    if let Err(kind) = guest.set(&key, "v").await {
                        assert_eq!(kind, CapabilityErrorKind::Unavailable);
                        break;
                    }
                    let read = guest.get(&key).await;
                    assert!(matches!(read, Ok(Some(_)) | Err(CapabilityErrorKind::Unavailable)), "{read:?}");
                    answered.push(key);
                }
                answered
            });
        }
        // The first answers show that all are at work.
        let guest = Guest::new(&*provider, "app", "first");
        for turn in 0..round {
            guest.set(&turn.to_string(), "v").await.unwrap();
        }
        let (one, other) = tokio::join!(provider.shutdown(), provider.shutdown());
        assert_eq!((one, other), ((), ()));

        // The file is free at once, and everything that was answered is in it.
        let path = dir.path().join("kv.redb");
        let reopened = KvProvider::open(&path, KvLimits::default()).unwrap();
        let guest = Guest::new(&reopened, "app", "b");
        for key in tasks.join_all().await.into_iter().flatten() {
            assert_eq!(
                guest.get(&key).await.unwrap().as_deref(),
                Some("v"),
                "{key} was answered and is gone"
            );
        }
        reopened.shutdown().await;
    }
}

/// A guest that is stopped drops its call; the provider works on for the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_call_holds_nobody_up() {
    let store = InFile::new(KvLimits::default());
    let guest = Guest::new(&store.provider, "app", "b");
    for turn in 0..50 {
        let call = guest.set("k", turn.to_string());
        tokio::select! {
            biased;
            () = std::future::ready(()), if turn % 2 == 0 => {}
            answer = call => answer.unwrap(),
        }
        let mut call = Box::pin(guest.set("k", "dropped"));
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(call.as_mut().poll(context)));
        let _ = polled.await;
        drop(call);
    }
    assert_eq!(guest.set("k", "last").await, Ok(()));
    assert_eq!(guest.get("k").await.unwrap().as_deref(), Some("last"));
    store.provider.shutdown().await;
}
