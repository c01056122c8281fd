//! A table that pollers share: shards with a lock each.

use super::sync::{Arc, Mutex, PoisonError};
use super::table::{Hash, Hasher, Limits, Store, Table};

/// The minimum memory of a shard, if there are several.
const SHARD_BYTES: usize = 8 << 20;
/// How many of the longest values fit into a shard at least, if there are several: large values must not crowd out
/// everything else in their shard.
const SHARD_VALUES: usize = 8;
/// The maximum number of shards.
const SHARDS_MAX: usize = 256;

/// A table whose keys are divided among shards by their hash. Each shard is a [`Table`] with a lock, a share of the
/// memory and a recency list of its own.
///
/// A lock is held for one operation on one key, never for a send or a receive, and never together with another one:
/// what a client is sent or uploads is outside of the table, in an [`Item`](super::table::Item) or a
/// [`Draft`](super::table::Draft). So a slow client delays no other one, and there is no order of locks to keep. The
/// longest operations are those for a value of the maximum length: appending to one copies it, and making room for one
/// may evict all the small items in whose place it comes.
#[derive(Clone, Debug)]
pub struct Shards {
    /// Their number is a power of two.
    tables: Arc<Vec<Mutex<Table>>>,
    hasher: Hasher,
    limits: Limits,
}

impl Shards {
    /// Creates a table of as many shards as suit its memory.
    #[must_use]
    pub fn new(limits: Limits, hasher: Hasher) -> Self {
        let share = SHARD_BYTES.max(limits.value.saturating_mul(SHARD_VALUES));
        Self::with_shards((limits.memory / share).clamp(1, SHARDS_MAX), limits, hasher)
    }

    /// Creates a table of `shards` shards, rounded down to a power of two.
    #[must_use]
    pub fn with_shards(shards: usize, limits: Limits, hasher: Hasher) -> Self {
        let shards = 1 << shards.max(1).ilog2();
        let share = Limits { memory: limits.memory / shards, ..limits };
        // So that the versions of different shards differ.
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

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: usize = 1 << 20;

    #[test]
    fn a_shard_has_room_for_several_of_the_longest_values() {
        for (memory, value, shards) in [
            (MEBIBYTE, MEBIBYTE, 1),
            (16 * MEBIBYTE - 1, MEBIBYTE, 1),
            (16 * MEBIBYTE, MEBIBYTE, 2),
            (16 * MEBIBYTE, MEBIBYTE + 1, 1),
            (64 * MEBIBYTE, MEBIBYTE, 8),
            (64 * MEBIBYTE, usize::MAX, 1),
        ] {
            let table = Shards::new(Limits { memory, value }, Hasher::seeded(1));
            assert_eq!(table.shards(), shards, "{memory} bytes, values of {value}");
        }
    }

    #[test]
    fn shards_share_the_keys_and_the_memory_and_no_version() {
        let limits = Limits { memory: 80_000, value: 100 };
        let mut table = Shards::with_shards(4, limits, Hasher::seeded(1));
        let mut uniques = std::collections::HashSet::new();
        for number in 0..2_000_u32 {
            let key = number.to_be_bytes();
            let hash = table.hash(&key);
            table.with(hash, |table| {
                let mut draft = table.draft(hash, &key, (0, u64::MAX), 1, 0).unwrap();
                draft.fill(b"x");
                table.store(draft, super::super::table::Mode::Set, 0).unwrap();
                let found = table.get(hash, &key, 0).unwrap();
                assert!(uniques.insert(found.unique), "two items have the same version");
            });
        }
        let mut used = Vec::new();
        table.each(|table| used.push(table.used()));
        // Each shard is full, but for less than an item.
        assert!(used.iter().all(|used| (19_800..=20_000).contains(used)), "{used:?}");
    }
}
