//! A file that can't be opened: the error names it and says what to do. One that is damaged hurts nobody else.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use redb::{Database, TableDefinition};
use wasmatrix_providers::{KvLimits, KvProvider, OpenError, Provider};

use crate::guest::{Guest, InFile};

fn refusal(path: &Path) -> OpenError {
    let error = KvProvider::open(path, KvLimits::default()).unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error} does not name the file");
    error
}

#[tokio::test]
async fn a_file_is_used_by_one_at_a_time() {
    let InFile { provider, dir } = InFile::new(KvLimits::default());
    let path = dir.path().join("kv.redb");
    assert!(matches!(refusal(&path), OpenError::InUse { .. }));
    provider.shutdown().await;
    assert!(KvProvider::open(&path, KvLimits::default()).is_ok());
}

#[test]
fn what_is_no_regular_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(refusal(dir.path()), OpenError::Directory { .. }));
    assert!(matches!(refusal(Path::new("/dev/null")), OpenError::NotAStore { .. }));
}

#[test]
fn a_path_that_leads_nowhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(refusal(&dir.path().join("missing/kv.redb")), OpenError::Inaccessible { .. }));
    fs::write(dir.path().join("file"), "x").unwrap();
    assert!(matches!(refusal(&dir.path().join("file/kv.redb")), OpenError::Inaccessible { .. }));
}

#[test]
fn what_is_no_store_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    for content in [b"remember the milk".to_vec(), vec![0; 4096], vec![0xa5; 100_000], b"redb".to_vec()] {
        fs::write(&path, &content).unwrap();
        assert!(matches!(refusal(&path), OpenError::NotAStore { .. }), "{}", refusal(&path));
        assert!(fs::read(&path).unwrap() == content, "the file was changed");
    }
}

#[test]
fn the_database_of_another_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other.redb");
    let write = |table: TableDefinition<'static, &'static str, u64>, format| {
        let database = Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(table).unwrap().insert("format", format).unwrap();
        transaction.commit().unwrap();
    };
    write(TableDefinition::new("songs"), 1);
    assert!(matches!(refusal(&path), OpenError::NotAStore { .. }));
    write(TableDefinition::new("counters"), 2);
    assert!(matches!(refusal(&path), OpenError::Format { found: 2, .. }));
}

#[test]
fn a_store_is_for_its_owner_alone() {
    let InFile { provider: _provider, dir } = InFile::new(KvLimits::default());
    let mode = fs::metadata(dir.path().join("kv.redb")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// However a file was damaged, the process lives on: it is refused, or its calls are answered, well or with an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_brings_nobody_down() {
    let InFile { provider, dir } = InFile::new(KvLimits::default());
    let path = dir.path().join("kv.redb");
    let guest = Guest::new(&provider, "app", "b");
    for number in 0..20 {
        guest.set(&format!("key-{number}"), "x".repeat(500 * number)).await.unwrap();
    }
    provider.shutdown().await;
    let sound = fs::read(&path).unwrap();

    let (mut refused, mut opened) = (0, 0);
    for round in 0..60 {
        let mut damaged = sound.clone();
        // Whole pages, the header among them; then single bytes; then a file cut short.
        match round % 3 {
            0 => damaged.chunks_mut(4096).skip(round / 3).step_by(7).for_each(|page| page.fill(0x5a)),
            1 => damaged.iter_mut().skip(round * 13).step_by(997).for_each(|byte| *byte ^= 0x10),
            _ => damaged.truncate(sound.len() * (round + 1) / 64),
        }
        fs::write(&path, damaged).unwrap();
        match KvProvider::open(&path, KvLimits::default()) {
            Ok(provider) => {
                opened += 1;
                let guest = Guest::new(&provider, "app", "b");
                for number in 0..20 {
                    let _ = guest.get_many(&[&format!("key-{number}")]).await;
                }
                let _ = guest.set("key-1", "y").await;
                let _ = guest.delete("key-2").await;
                let _ = guest.list(None).await;
                provider.shutdown().await;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0, "{opened} of 60 opened");
}
