//! The open database, which the writer and the readers share, and a wall around it.
//!
//! redb answers most damage to its file with an error, but some of it with a panic, even while the database is being
//! let go. A store that is damaged is a loss to those who use it, and must not become one to the rest of the node.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use redb::Database;

use crate::kv::table::Fault;

#[derive(Clone)]
pub(super) struct SharedDatabase(Option<Arc<Database>>);

impl SharedDatabase {
    pub(super) fn new(database: Database) -> Self {
        Self(Some(Arc::new(database)))
    }

    pub(super) fn get(&self) -> &Database {
        self.0.as_ref().expect("only drop takes it")
    }
}

impl Drop for SharedDatabase {
    fn drop(&mut self) {
        let database = self.0.take();
        // Whatever it was doing, the file is as its last commit left it.
        let _ = contain(move || drop(database));
    }
}

/// Does something with a database. A panic becomes a fault. What was going on is broken off; redb then refuses or
/// repeats its panic, and never takes its state for sound.
pub(super) fn contain<T>(work: impl FnOnce() -> T) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Fault { cause: format!("redb panicked: {message}; the file may be damaged") }
    })
}
