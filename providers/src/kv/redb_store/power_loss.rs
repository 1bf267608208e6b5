//! A disk that loses its power: what was not synced is there in part, or not at all. A kill can't show that, because
//! the operating system outlives it and writes everything out.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex},
};

use proptest::prelude::*;
use redb::StorageBackend;
use wasmatrix_executor_api::KvReply;
use wasmatrix_model::Key;

use super::{RedbStore, open::make_tables};
use crate::{
    Namespace,
    kv::{
        KvLimits, Store as _,
        operation::{Read, Write},
        table::Bucket,
    },
};

#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    /// What a read sees.
    bytes: Vec<u8>,
    /// What is there for certain.
    synced: Vec<u8>,
    /// Writes since then: where, and what.
    unsynced: Vec<(usize, Vec<u8>)>,
    /// Changes and syncs until the power goes. `None`: it stays.
    changes_left: Option<u32>,
}

impl Platter {
    fn change(&mut self) -> io::Result<()> {
        match &mut self.changes_left {
            None => Ok(()),
            Some(0) => Err(io::Error::other("no power")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

impl Disk {
    /// The same disk with power again: of the unsynced writes, those that `kept` says are there.
    fn powered_again(&self, mut kept: impl FnMut() -> bool) -> Self {
        let platter = self.0.lock().unwrap();
        let mut bytes = platter.synced.clone();
        bytes.resize(platter.bytes.len().max(bytes.len()), 0);
        for (offset, data) in &platter.unsynced {
            if kept() && offset + data.len() <= bytes.len() {
                bytes[*offset..offset + data.len()].copy_from_slice(data);
            }
        }
        Self(Arc::new(Mutex::new(Platter { synced: bytes.clone(), bytes, ..Platter::default() })))
    }

    fn store(&self) -> RedbStore {
        let database = redb::Builder::new().create_with_backend(self.clone()).unwrap();
        make_tables(&database).unwrap();
        RedbStore::over(database, Path::new("a disk without power"), KvLimits::default()).unwrap()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.0.lock().unwrap();
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let end = offset.checked_add(out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(platter.bytes.get(offset..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.change()?;
        platter.bytes.resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.change()?;
        platter.synced = platter.bytes.clone();
        platter.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.change()?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        platter.bytes[offset..offset + data.len()].copy_from_slice(data);
        platter.unsynced.push((offset, data.to_vec()));
        Ok(())
    }
}

fn bucket() -> Bucket {
    Bucket::of(&Namespace::of(&"app".parse().unwrap()), "b".parse().unwrap())
}

/// Writes a key of its own over and over until the power goes. The number that was answered last.
async fn write_until_dark(store: &RedbStore, key: Key) -> Option<u32> {
    let mut answered = None;
    for number in 0_u32.. {
        let value = format!("{number}:{}", "x".repeat(number as usize % 3000)).into();
        let write = Write::Put(BTreeMap::from([(key.clone(), value)]));
        if store.write(bucket(), write).await.is_err() {
            break;
        }
        answered = Some(number);
    }
    answered
}

async fn case(changes_until_dark: u32, luck: Vec<bool>) -> Result<(), TestCaseError> {
    let disk = Disk::default();
    let store = disk.store();
    disk.0.lock().unwrap().changes_left = Some(changes_until_dark);
    let key = |name: &str| name.parse::<Key>().unwrap();
    let keys = [key("one"), key("two"), key("three")];
    let [one, two, three] = &keys;
    let answered = tokio::join!(
        write_until_dark(&store, one.clone()),
        write_until_dark(&store, two.clone()),
        write_until_dark(&store, three.clone()),
    );
    store.shutdown().await;

    let mut luck = luck.into_iter().cycle();
    let store = disk.powered_again(|| luck.next().unwrap_or(true)).store();
    for (key, answered) in keys.iter().zip([answered.0, answered.1, answered.2]) {
        let reply = store.read(bucket(), Read::Get(key.clone())).await;
        let Ok(KvReply::Value(value)) = reply else { panic!("{reply:?}") };
        let found: Option<u32> = value.map(|value| {
            let text = String::from_utf8(value.to_vec()).unwrap();
            let (number, rest) = text.split_once(':').unwrap();
            let number = number.parse().unwrap();
            assert_eq!(rest.len(), number as usize % 3000, "a torn value");
            number
        });
        // The last write may have been on the disk when the power went, before it could be answered.
        let next = answered.map_or(0, |answered| answered + 1);
        prop_assert!(
            found == answered || found == Some(next),
            "{key}: {found:?} is there, {answered:?} was answered"
        );
    }
    store.shutdown().await;
    Ok(())
}

proptest! {
    #[test]
    fn what_was_answered_survives_a_loss_of_power(
        changes_until_dark in 0_u32..250,
        luck in proptest::collection::vec(any::<bool>(), 1..40),
    ) {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(case(changes_until_dark, luck))?;
    }
}
