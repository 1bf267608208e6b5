//! How much may be stored, and asked for at once.

/// Limits of key-value storage, the same for every instance. What is stored counts as its bucket's name, its key, its
/// value and [`KvLimits::ENTRY_OVERHEAD_BYTES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvLimits {
    /// One value, in bytes.
    pub value_bytes_max: usize,
    /// All buckets of one instance together, or one shared bucket, in bytes.
    pub namespace_bytes_max: u64,
    /// Everything together, in bytes. The file of a store is larger by its free pages.
    pub store_bytes_max: u64,
    /// Keys in one page of a listing.
    pub page_keys_max: usize,
    /// Keys or entries in one batch.
    pub batch_entries_max: usize,
    /// All values of one batch together, given or answered, in bytes.
    pub batch_bytes_max: usize,
}

impl KvLimits {
    /// What an entry counts beside its name and value: about what it takes in memory and on disk. Without it, empty
    /// values under short keys would be all but free.
    pub const ENTRY_OVERHEAD_BYTES: u64 = 64;
}

impl Default for KvLimits {
    fn default() -> Self {
        Self {
            value_bytes_max: 1 << 20,
            namespace_bytes_max: 64 << 20,
            store_bytes_max: 1 << 30,
            page_keys_max: 1000,
            batch_entries_max: 1000,
            batch_bytes_max: 4 << 20,
        }
    }
}
