//! Many callers at once: nothing is lost, nothing is seen by halves.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::task::JoinSet;
use wasmatrix_executor_api::Swapped;
use wasmatrix_providers::{KvLimits, KvProvider, Provider};

use crate::guest::{Guest, InFile};

const TASKS: i64 = 16;
const TURNS: i64 = 25;

async fn increments_add_up(provider: Arc<KvProvider>) {
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let provider = Arc::clone(&provider);
        tasks.spawn(async move {
            let guest = Guest::new(&*provider, "app", "b");
            for _ in 0..TURNS {
                guest.increment("n", 1).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let sum = (TASKS * TURNS).to_string();
    assert_eq!(Guest::new(&*provider, "app", "b").get("n").await.unwrap(), Some(sum));
}

async fn swaps_lose_no_update(provider: Arc<KvProvider>) {
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let provider = Arc::clone(&provider);
        tasks.spawn(async move {
            let guest = Guest::new(&*provider, "app", "b");
            let (mut done, mut stale) = (0, 0);
            while done < TURNS / 5 {
                let seen = guest.current("n").await.unwrap();
                let number: i64 = match &seen {
                    Some(entry) => std::str::from_utf8(&entry.value).unwrap().parse().unwrap(),
                    None => 0,
                };
                let expected = seen.map(|entry| entry.version);
                match guest.swap("n", expected, (number + 1).to_string()).await.unwrap() {
                    Swapped::Done => done += 1,
                    Swapped::Stale => stale += 1,
                }
            }
            stale
        });
    }
    let stale: i64 = tasks.join_all().await.into_iter().sum();
    let sum = (TASKS * (TURNS / 5)).to_string();
    assert_eq!(
        Guest::new(&*provider, "app", "b").get("n").await.unwrap(),
        Some(sum),
        "after {stale} stale swaps"
    );
}

async fn a_batch_is_seen_whole(provider: Arc<KvProvider>) {
    let written = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let (provider, written) = (Arc::clone(&provider), Arc::clone(&written));
        tasks.spawn(async move {
            let guest = Guest::new(&*provider, "app", "b");
            let mut last = Vec::new();
            while !written.load(Ordering::Relaxed) {
                let seen = guest.get_many(&["left", "right", "left"]).await.unwrap();
                assert!(seen[0] == seen[1] && seen[1] == seen[2], "seen by halves: {seen:?}");
                last = seen;
            }
            drop(last);
        });
    }
    let guest = Guest::new(&*provider, "app", "b");
    for turn in 0..4 * TURNS {
        let value = turn.to_string();
        if turn % 5 == 4 {
            guest.delete_many(&["left", "right"]).await.unwrap();
        } else {
            guest.set_many(&[("left", &value), ("right", &value)]).await.unwrap();
        }
    }
    written.store(true, Ordering::Relaxed);
    tasks.join_all().await;
}

/// Whoever was answered sees what was answered, at once and from anywhere.
async fn a_write_is_seen_once_it_is_answered(provider: Arc<KvProvider>) {
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let provider = Arc::clone(&provider);
        tasks.spawn(async move {
            let guest = Guest::new(&*provider, "app", "b");
            let key = format!("k{task}");
            for turn in 0..TURNS {
                guest.set(&key, turn.to_string()).await.unwrap();
                let provider = Arc::clone(&provider);
                let key = key.clone();
                let seen = tokio::spawn(async move { Guest::new(&*provider, "app", "b").get(&key).await });
                assert_eq!(seen.await.unwrap().unwrap(), Some(turn.to_string()));
            }
        });
    }
    tasks.join_all().await;
}

macro_rules! on_every_backend {
    ($($scenario:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $scenario() {
                super::$scenario(super::in_memory()).await;
            })+
        }
        mod redb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $scenario() {
                super::in_a_file(super::$scenario).await;
            })+
        }
    };
}

fn in_memory() -> Arc<KvProvider> {
    Arc::new(KvProvider::memory(KvLimits::default()))
}

async fn in_a_file<F: Future<Output = ()>>(scenario: impl FnOnce(Arc<KvProvider>) -> F) {
    let InFile { provider, dir } = InFile::new(KvLimits::default());
    let provider = Arc::new(provider);
    scenario(Arc::clone(&provider)).await;
    provider.shutdown().await;
    drop(dir);
}

on_every_backend! {
    increments_add_up,
    swaps_lose_no_update,
    a_batch_is_seen_whole,
    a_write_is_seen_once_it_is_answered,
}
