//! A table that pollers share: shards with a lock each.

use super::sync::{Arc, Mutex, PoisonError};
use super::table::{Hash, Hasher, Limits, Store, Table};

/// A share of the memory that makes another shard worthwhile. Large values must not crowd out everything else in their
/// shard, so it is several times [`VALUE_MAX`](super::table::VALUE_MAX).
const SHARD_BYTES: usize = 8 << 20;
/// The maximum number of shards.
const SHARDS_MAX: usize = 256;

/// A table whose keys are divided among shards by their hash. Each shard is a [`Table`] with a lock, a share of the
/// memory and a recency list of its own.
///
/// A lock is held for one operation on one key, never for a send or a receive, and never together with another one:
/// what a client is sent or uploads is outside of the table, in an [`Item`](super::table::Item) or a
/// [`Draft`](super::table::Draft). So a slow client delays no other one, and there is no order of locks to keep.
#[derive(Clone, Debug)]
pub struct Shards {
    /// As many as a power of two.
    tables: Arc<Vec<Mutex<Table>>>,
    hasher: Hasher,
    limits: Limits,
}

impl Shards {
    /// Creates a table of as many shards as suit its memory.
    #[must_use]
    pub fn new(limits: Limits, hasher: Hasher) -> Self {
        Self::with_shards((limits.memory / SHARD_BYTES).clamp(1, SHARDS_MAX), limits, hasher)
    }

    /// Creates a table of `shards` shards, rounded down to a power of two.
    #[must_use]
    pub fn with_shards(shards: usize, limits: Limits, hasher: Hasher) -> Self {
        let shards = 1 << shards.max(1).ilog2();
        let share = Limits { memory: limits.memory / shards, ..limits };
        // Uniques of different shards differ.
        let table = |first| Mutex::new(Table::new(share, hasher, (first, shards as u64)));
        Self { tables: Arc::new((1..=shards as u64).map(table).collect()), hasher, limits }
    }

    /// Returns the number of shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.tables.len()
    }
}

impl Store for Shards {
    fn hash(&self, key: &[u8]) -> Hash {
        self.hasher.hash(key)
    }

    fn with<R>(&mut self, hash: Hash, work: impl FnOnce(&mut Table) -> R) -> R {
        let at = hash.table as usize & (self.tables.len() - 1);
        let Some(table) = self.tables.get(at) else {
            unreachable!("the mask is the number of shards less one")
        };
        work(&mut table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn each(&mut self, mut work: impl FnMut(&mut Table)) {
        for table in self.tables.iter() {
            work(&mut table.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn limits(&self) -> Limits {
        self.limits
    }
}
