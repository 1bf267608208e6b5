//! Compiled code is kept, shared, and trusted only while it proves itself.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use wasmatrix_executor_api::Executor;
use wasmatrix_executor_wasmtime::{Config, WasmtimeExecutor};
use wasmatrix_model::ExitCause;

use crate::harness::{Job, config, module};

fn executor(dir: &Path) -> WasmtimeExecutor {
    Config { cache_dir: Some(dir.into()), ..config() }.build().unwrap()
}

fn entry(dir: &Path) -> PathBuf {
    let mut entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.find(|path| path.extension().is_some_and(|end| end == "cwasm")).expect("one was kept")
}

/// Which file it is: compiling again makes another.
fn identity(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[tokio::test]
async fn another_process_compiles_nothing_and_a_tampered_entry_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let job = Job::new(module(r#"(func (export "_start") (call $exit (i32.const 5)))"#));
    executor(dir.path()).prepare(&job.artifact).await.unwrap();
    let path = entry(dir.path());
    let (made, file) = (fs::read(&path).unwrap(), identity(&path));

    let second = executor(dir.path());
    assert_eq!(job.start(&second).await.unwrap().exited().await, ExitCause::Exited { code: 5 });
    assert_eq!(identity(&path), file, "it was loaded, not compiled");

    let mut tampered = made;
    let last = tampered.len() - 1;
    tampered[last] ^= 1;
    // A hard link holds on to the number of the file, so that a new one can't have it.
    fs::hard_link(&path, dir.path().join("old")).unwrap();
    fs::write(&path, &tampered).unwrap();
    let third = executor(dir.path());
    assert_eq!(job.start(&third).await.unwrap().exited().await, ExitCause::Exited { code: 5 });
    assert_ne!(identity(&path), file, "it was compiled again");
}

#[tokio::test]
async fn many_who_ask_at_once_share_the_work() {
    let executor = config().build().unwrap();
    let job = Job::new(module(r#"(func (export "_start"))"#));
    let all = futures::future::join_all((0..20).map(|_| executor.prepare(&job.artifact))).await;
    assert_eq!(all.iter().filter(|prepared| prepared.is_ok()).count(), 20);
}

#[tokio::test]
async fn a_cache_that_can_not_be_used_costs_only_time() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let job = Job::new(module(r#"(func (export "_start"))"#));
    let executor = executor(&file);
    assert_eq!(job.start(&executor).await.unwrap().exited().await, ExitCause::Exited { code: 0 });
}
