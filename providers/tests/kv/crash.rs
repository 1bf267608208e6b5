//! Killed in the middle of its work, a store still holds every write that was answered, whole.
//!
//! The test starts this very binary again as a child, which writes and says so, and kills it with SIGKILL.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    sync::Arc,
};

use tokio::task::JoinSet;
use wasmatrix_executor_api::Version;
use wasmatrix_providers::{KvLimits, KvProvider, Provider};

use crate::guest::{Guest, InFile};

const PATH: &str = "WASMATRIX_TEST_KV_PATH";
const ROUND: &str = "WASMATRIX_TEST_KV_ROUND";
const ROUNDS: usize = 6;
const TASKS: usize = 8;

/// Of many sizes, so that some take pages of their own.
fn value(name: &str) -> String {
    let length = name.bytes().fold(0_usize, |sum, byte| sum * 31 + usize::from(byte)) % 20_000;
    format!("{name}:{}", "x".repeat(length))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "the child of the test below, which kills it"]
async fn child() {
    let (Ok(path), Ok(round)) = (std::env::var(PATH), std::env::var(ROUND)) else { return };
    let provider = Arc::new(KvProvider::open(path, KvLimits::default()).unwrap());
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (provider, round) = (Arc::clone(&provider), round.clone());
        tasks.spawn(async move {
            let single = Guest::new(&*provider, "app", "single");
            let pair = Guest::new(&*provider, "app", "pair");
            for turn in 0.. {
                let name = format!("{round}-{task}-{turn}");
                single.set(&name, value(&name)).await.unwrap();
                single.increment("sum", 1).await.unwrap();
                pair.set_many(&[(&format!("left-{task}"), &name), (&format!("right-{task}"), &name)])
                    .await
                    .unwrap();
                // One write call for the line, so that lines of several tasks do not mix.
                std::io::stdout().write_all(format!("\nanswered {name}\n").as_bytes()).unwrap();
                std::io::stdout().flush().unwrap();
            }
        });
    }
    tasks.join_all().await;
}

/// Starts the child and kills it after so many answers. What it said was answered, those in the pipe included.
fn answers_of_a_killed_child(path: &std::path::Path, round: usize, answers_min: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--ignored", "--nocapture"])
        .env(PATH, path)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let (mut answered, mut killed, mut line) = (Vec::new(), false, String::new());
    while lines.read_line(&mut line).unwrap() > 0 {
        // A line without its end was cut by the kill.
        if let Some(name) = line.strip_prefix("answered ").and_then(|rest| rest.strip_suffix('\n')) {
            answered.push(name.to_owned());
        }
        line.clear();
        if answered.len() >= answers_min && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    let status = child.wait().unwrap();
    assert!(killed && !status.success(), "the child ended by itself: {status}");
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kv.redb");
    let (mut all, mut last_version) = (BTreeSet::new(), Version(0));
    for round in 0..ROUNDS {
        all.extend(answers_of_a_killed_child(&path, round, 20 + 17 * round));

        let store = KvProvider::open(&path, KvLimits::default()).unwrap();
        let (single, pair) = (Guest::new(&store, "app", "single"), Guest::new(&store, "app", "pair"));
        for name in &all {
            assert_eq!(single.get(name).await.unwrap(), Some(value(name)), "{name} was answered and is gone");
        }
        let sum: usize = single.get("sum").await.unwrap().unwrap().parse().unwrap();
        assert!(sum >= all.len(), "{} increments were answered, {sum} are there", all.len());
        for task in 0..TASKS {
            let left = pair.get(&format!("left-{task}")).await.unwrap();
            assert_eq!(left, pair.get(&format!("right-{task}")).await.unwrap(), "a batch by halves");
        }
        single.set("mark", "x").await.unwrap();
        let version = single.current("mark").await.unwrap().unwrap().version;
        assert!(version > last_version && version.0 as usize > all.len(), "a version came again");
        last_version = version;
        store.shutdown().await;
    }
    the_bytes_add_up(InFile { provider: KvProvider::open(&path, KvLimits::default()).unwrap(), dir }).await;
}

/// The count of bytes is right after all these crashes: when everything is removed, it is zero.
async fn the_bytes_add_up(store: InFile) {
    for bucket in ["single", "pair"] {
        let guest = Guest::new(&store.provider, "app", bucket);
        loop {
            let page = guest.list(None).await.unwrap();
            let keys: Vec<&str> = page.keys.iter().map(|key| key.as_str()).collect();
            guest.delete_many(&keys).await.unwrap();
            if !page.more {
                break;
            }
        }
    }
    let one_entry = KvLimits::ENTRY_OVERHEAD_BYTES + 2;
    let exact =
        KvLimits { namespace_bytes_max: one_entry, store_bytes_max: one_entry, ..KvLimits::default() };
    let store = store.reopened(exact).await;
    let guest = Guest::new(&store.provider, "app", "b");
    assert_eq!(guest.set("k", "").await, Ok(()), "bytes were counted that are not there");
    assert!(guest.set("l", "").await.is_err());
    store.provider.shutdown().await;
}
