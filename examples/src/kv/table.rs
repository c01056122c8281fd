//! The table: items by key, with expiry, versions and a limit of its memory.
//!
//! A table belongs to one thread; [`Shards`](super::shards::Shards) divides keys among tables that threads share.
//!
//! - **Values in place.** [`Table::draft`] sets memory aside for a value before it arrives. The bytes are appended to
//!   the [`Draft`], which is outside of the table, and [`Table::store`] makes it an item without copying it. Items are
//!   immutable: a client to which one is sent holds a reference to it, so that the table is not needed meanwhile.
//! - **Memory.** Each draft and each item has a charge: the length of its key and its value, and [`OVERHEAD`]. It
//!   counts until the memory is free, so also for an item that was removed while it was being sent to a client. The
//!   charges never exceed [`Limits::memory`]. To make room for a new one, the items that were used least recently are
//!   evicted; those that a client holds are passed over, as their eviction would free nothing.
//! - **Expiry.** An item that has expired is removed when it is looked up or evicted. [`Table::flush`] marks all items
//!   up to the latest version as expired.

use core::hash::BuildHasher;
use core::mem::size_of;
use std::hash::{DefaultHasher, RandomState};

use super::sync::{Arc, AtomicUsize, Ordering};

/// The longest key in bytes.
pub const KEY_MAX: usize = 250;
/// The longest value in bytes, unless [`Limits`] has another.
pub const VALUE_MAX: usize = 1 << 20;
/// The maximum number of items in use that are passed over to evict another.
pub const PASSED_OVER_MAX: usize = 64;
/// The maximum number of items of one table.
const ENTRIES_MAX: usize = u32::MAX as usize - 1;
/// The expiry time of items that do not expire.
pub const NEVER: u64 = u64::MAX;
/// What an item occupies in addition to its key and its value: its entry, its share of the buckets, the item itself
/// with its two counts of references, and the headers and rounding of two allocations.
pub const OVERHEAD: usize =
    size_of::<Entry>() + 2 * size_of::<u32>() + size_of::<Item>() + 2 * size_of::<usize>() + 32;

/// The limits of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The maximum of what all items and drafts are charged.
    pub memory: usize,
    /// The longest value in bytes.
    pub value: usize,
}

/// A keyed hash function, so that a client cannot choose keys that collide.
#[derive(Clone, Copy, Debug)]
pub struct Hasher(u64);

impl Hasher {
    /// Creates a hash function from a seed, for tests.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// Creates a hash function from a random seed.
    #[must_use]
    pub fn random() -> Self {
        Self(RandomState::new().hash_one(0))
    }

    /// Returns the hash of a key.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "each half is meant")]
    pub fn hash(self, key: &[u8]) -> Hash {
        use core::hash::Hasher as _;
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher.write(key);
        let hash = hasher.finish();
        Hash { table: (hash >> 32) as u32, bucket: hash as u32 }
    }
}

/// The hash of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hash {
    /// Selects the table.
    pub(super) table: u32,
    /// Selects the bucket within it.
    bucket: u32,
}

/// How a handler reaches the table of a key: its own, or one that it locks meanwhile.
pub trait Store {
    /// Returns the hash of a key.
    fn hash(&self, key: &[u8]) -> Hash;

    /// Calls `work` with the table of the keys that have this hash.
    fn with<R>(&mut self, hash: Hash, work: impl FnOnce(&mut Table) -> R) -> R;

    /// Calls `work` with every table, one after another.
    fn each(&mut self, work: impl FnMut(&mut Table));

    /// Returns the limits of all tables together.
    fn limits(&self) -> Limits;
}

/// The sum of the charges of a table.
#[derive(Debug)]
struct Budget {
    used: AtomicUsize,
}

/// Memory that is set aside. It is returned when this is dropped.
#[derive(Debug)]
struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        // Clients drop items without the lock of the table.
        self.budget.used.fetch_sub(self.bytes, Ordering::Release);
    }
}

/// A key with its value. Immutable, so that it can be sent while the table is used for other keys.
#[derive(Debug)]
pub struct Item {
    /// The key, then the value.
    data: Box<[u8]>,
    flags: u32,
    key: u8,
    /// Returned last, once the memory is free.
    charge: Charge,
}

impl Item {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.data.get(..usize::from(self.key)).unwrap_or_default()
    }

    /// Returns the value.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        self.data.get(usize::from(self.key)..).unwrap_or_default()
    }

    /// Returns how much of the table's memory it takes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.charge.bytes
    }

    /// Returns the flags that the client stored with the value.
    #[must_use]
    pub const fn flags(&self) -> u32 {
        self.flags
    }
}

/// An item whose value is arriving.
#[derive(Debug)]
pub struct Draft {
    /// The key, then what has arrived of the value. INVARIANT: the capacity is at least `length`.
    data: Vec<u8>,
    length: usize,
    hash: Hash,
    flags: u32,
    key: u8,
    expires: u64,
    charge: Charge,
}

impl Draft {
    /// Returns the hash of its key.
    #[must_use]
    pub const fn hash(&self) -> Hash {
        self.hash
    }

    /// Returns how many bytes of the value are missing.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.length - self.data.len()
    }

    /// Appends as much of `bytes` as is missing of the value. Returns how much that was.
    pub fn fill(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.get(..self.missing()).unwrap_or(bytes);
        self.data.extend_from_slice(taken);
        taken.len()
    }
}

/// An item that was found, and its version.
#[derive(Clone, Debug)]
pub struct Found {
    /// The item.
    pub item: Arc<Item>,
    /// The version: the number of the latest change of the item, which no other change has.
    pub unique: u64,
}

/// How a draft is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Always.
    Set,
    /// Unless there is an item with its key.
    Add,
    /// If there is an item with its key.
    Replace,
    /// After the value of the item with its key, whose flags and expiry stay.
    Append,
    /// Before the value of the item with its key, whose flags and expiry stay.
    Prepend,
    /// If the item with its key has this version.
    Cas(u64),
}

/// Why a draft was not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// There is an item, or none, contrary to the [`Mode`].
    NotStored,
    /// The item has another version.
    Exists,
    /// There is no item.
    NotFound,
    /// The value is longer than [`Limits::value`], or needs more than all of the memory.
    TooLarge,
    /// Other drafts and items in use take the memory.
    Full,
    /// The value is not a number.
    NotANumber,
}

/// A change of a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delta {
    /// Adds, modulo 2^64.
    Up(u64),
    /// Subtracts, but not below 0.
    Down(u64),
}

/// What a table counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "`Counts::NAMES` has the names of the protocol, which documents them")]
pub enum Count {
    Gets,
    Sets,
    Touches,
    GetHits,
    GetMisses,
    DeleteMisses,
    DeleteHits,
    IncrMisses,
    IncrHits,
    DecrMisses,
    DecrHits,
    CasMisses,
    CasHits,
    CasBadval,
    TouchHits,
    TouchMisses,
    Items,
    ItemsEver,
    Bytes,
    Evictions,
    Reclaimed,
}

/// The counts of a table.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts([u64; Self::NAMES.len()]);

impl Counts {
    /// The names of all counts, in the order of [`Count`].
    pub const NAMES: [&'static str; Count::Reclaimed as usize + 1] = [
        "cmd_get",
        "cmd_set",
        "cmd_touch",
        "get_hits",
        "get_misses",
        "delete_misses",
        "delete_hits",
        "incr_misses",
        "incr_hits",
        "decr_misses",
        "decr_hits",
        "cas_misses",
        "cas_hits",
        "cas_badval",
        "touch_hits",
        "touch_misses",
        "curr_items",
        "total_items",
        "bytes",
        "evictions",
        "reclaimed",
    ];

    /// Returns a count.
    #[must_use]
    pub fn of(&self, count: Count) -> u64 {
        self.0.get(count as usize).copied().unwrap_or(0)
    }

    /// Returns the counts with their names.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Self::NAMES.into_iter().zip(self.0)
    }

    /// Adds the counts of another table.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }

    fn change(&mut self, count: Count, change: impl FnOnce(u64) -> u64) {
        if let Some(place) = self.0.get_mut(count as usize) {
            *place = change(*place);
        }
    }

    fn increase(&mut self, count: Count) {
        self.change(count, |count| count + 1);
    }
}

/// An item's place in the table. Other entries are referred to by their index plus one; 0 is none.
#[derive(Debug)]
struct Entry {
    /// `None` while the entry is free; `next` is then the next free one.
    item: Option<Arc<Item>>,
    unique: u64,
    expires: u64,
    hash: u32,
    /// The next entry of the same bucket.
    next: u32,
    /// The neighbours by recency.
    older: u32,
    newer: u32,
}

/// Items by key, for one thread.
#[derive(Debug)]
pub struct Table {
    limits: Limits,
    hasher: Hasher,
    budget: Arc<Budget>,
    /// Their number is a power of two.
    buckets: Vec<u32>,
    entries: Vec<Entry>,
    free: u32,
    oldest: u32,
    newest: u32,
    /// The version of the next change, and the distance to the one after it.
    unique: u64,
    stride: u64,
    /// Items with a version below this have been flushed.
    flushed: u64,
    /// When to flush.
    flush_at: u64,
    counts: Counts,
}

impl Table {
    /// Creates an empty table. `uniques` are the version of the first change, at least 1, and the distance from each to
    /// the next.
    #[must_use]
    pub fn new(limits: Limits, hasher: Hasher, uniques: (u64, u64)) -> Self {
        // Every item has a charge of more than the overhead, so there are never more entries than this. The
        // system provides the memory when it is first written to.
        let entries = (limits.memory / OVERHEAD).min(ENTRIES_MAX);
        Self {
            limits,
            hasher,
            budget: Arc::new(Budget { used: AtomicUsize::new(0) }),
            buckets: vec![0; entries.max(1).next_power_of_two()],
            entries: Vec::with_capacity(entries),
            free: 0,
            oldest: 0,
            newest: 0,
            unique: uniques.0,
            stride: uniques.1,
            flushed: 0,
            flush_at: NEVER,
            counts: Counts::default(),
        }
    }

    /// Returns the memory that all charges take, those of drafts and of removed items in use included.
    #[must_use]
    pub fn used(&self) -> usize {
        self.budget.used.load(Ordering::Acquire)
    }

    /// Returns the counts.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts;
        counts.change(Count::Bytes, |_| self.used() as u64);
        counts
    }

    /// Sets all counts but those of items to 0.
    pub fn reset_counts(&mut self) {
        let items = self.counts.of(Count::Items);
        self.counts = Counts::default();
        self.counts.change(Count::Items, |_| items);
    }

    /// Finds an item. It is now the one that was used most recently.
    pub fn get(&mut self, hash: Hash, key: &[u8], now: u64) -> Option<Found> {
        self.counts.increase(Count::Gets);
        let found = self.find(hash, key, now);
        self.counts.increase(if found == 0 { Count::GetMisses } else { Count::GetHits });
        self.found(found)
    }

    /// Finds an item as [`get`](Self::get) does, and sets when it expires.
    pub fn touch(&mut self, hash: Hash, key: &[u8], expires: u64, now: u64) -> Option<Found> {
        self.counts.increase(Count::Touches);
        let found = self.find(hash, key, now);
        self.counts.increase(if found == 0 { Count::TouchMisses } else { Count::TouchHits });
        self.entry(found)?.expires = expires;
        self.found(found)
    }

    /// Removes an item. Returns whether there was one.
    pub fn remove(&mut self, hash: Hash, key: &[u8], now: u64) -> bool {
        let found = self.find(hash, key, now);
        self.counts.increase(if found == 0 { Count::DeleteMisses } else { Count::DeleteHits });
        self.unlink(found);
        found != 0
    }

    /// Removes an item without counting that, for a failed `set` that was to replace it.
    pub fn forget(&mut self, hash: Hash, key: &[u8], now: u64) {
        let found = self.find(hash, key, now);
        self.unlink(found);
    }

    /// Sets memory aside for an item whose value has `length` bytes, and evicts others if that is necessary. The pair
    /// is its flags and the time at which it expires.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooLarge`], also if the key is too long, and [`Refusal::Full`].
    pub fn draft(
        &mut self,
        hash: Hash,
        key: &[u8],
        (flags, expires): (u32, u64),
        length: usize,
        now: u64,
    ) -> Result<Draft, Refusal> {
        let Some(key_length) = u8::try_from(key.len()).ok().filter(|_| key.len() <= KEY_MAX) else {
            return Err(Refusal::TooLarge);
        };
        if length > self.limits.value {
            return Err(Refusal::TooLarge);
        }
        let bytes = key.len() + length + OVERHEAD;
        if bytes > self.limits.memory {
            return Err(Refusal::TooLarge);
        }
        self.flush_if_due(now);
        while self.used() + bytes > self.limits.memory {
            if !self.evict(now) {
                return Err(Refusal::Full);
            }
        }
        // Only this thread increases the charges, so they have at most decreased since.
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        let charge = Charge { budget: Arc::clone(&self.budget), bytes };
        let mut data = Vec::with_capacity(key.len() + length);
        data.extend_from_slice(key);
        Ok(Draft { length: data.len() + length, data, hash, flags, key: key_length, expires, charge })
    }

    /// Stores a draft whose value has arrived.
    ///
    /// # Errors
    ///
    /// Any but [`Refusal::NotANumber`].
    pub fn store(&mut self, draft: Draft, mode: Mode, now: u64) -> Result<(), Refusal> {
        debug_assert_eq!(draft.missing(), 0, "a draft is stored when its value has arrived");
        self.counts.increase(Count::Sets);
        let key = draft.data.get(..usize::from(draft.key)).unwrap_or_default();
        let found = self.find(draft.hash, key, now);
        match (mode, self.entry(found).map(|entry| entry.unique)) {
            (Mode::Add, Some(_)) | (Mode::Replace | Mode::Append | Mode::Prepend, None) => {
                return Err(Refusal::NotStored);
            }
            (Mode::Cas(_), None) => {
                self.counts.increase(Count::CasMisses);
                return Err(Refusal::NotFound);
            }
            (Mode::Cas(unique), Some(other)) if unique != other => {
                self.counts.increase(Count::CasBadval);
                return Err(Refusal::Exists);
            }
            (Mode::Cas(_), _) => self.counts.increase(Count::CasHits),
            (Mode::Append | Mode::Prepend, Some(_)) => {
                let joined = self.join(found, &draft, mode == Mode::Append, now)?;
                self.put(found, joined);
                return Ok(());
            }
            _ => {}
        }
        self.put(found, draft);
        Ok(())
    }

    /// Changes a number. Returns the new one.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFound`], [`Refusal::NotANumber`], [`Refusal::TooLarge`] and [`Refusal::Full`].
    pub fn change(&mut self, hash: Hash, key: &[u8], delta: Delta, now: u64) -> Result<u64, Refusal> {
        let (hits, misses) = match delta {
            Delta::Up(_) => (Count::IncrHits, Count::IncrMisses),
            Delta::Down(_) => (Count::DecrHits, Count::DecrMisses),
        };
        let found = self.find(hash, key, now);
        let (item, expires) = match self.entry(found) {
            Some(Entry { item: Some(item), expires, .. }) => (Arc::clone(item), *expires),
            _ => {
                self.counts.increase(misses);
                return Err(Refusal::NotFound);
            }
        };
        let number = super::protocol::number(item.value()).ok_or(Refusal::NotANumber)?;
        let number = match delta {
            Delta::Up(by) => number.wrapping_add(by),
            Delta::Down(by) => number.saturating_sub(by),
        };
        // The item is held here, so it is not evicted for its successor.
        let mut digits = [0; 20];
        let digits = super::protocol::decimal(number, &mut digits);
        let mut draft = self.draft(hash, key, (item.flags, expires), digits.len(), now)?;
        draft.fill(digits);
        self.counts.increase(hits);
        self.put(found, draft);
        Ok(number)
    }

    /// Lets all items that are in the table at `at` expire.
    pub fn flush(&mut self, at: u64, now: u64) {
        self.flush_if_due(now);
        self.flush_at = at;
        self.flush_if_due(now);
    }

    /// Removes all items, which takes time for each of them.
    pub fn clear(&mut self) {
        while self.oldest != 0 {
            self.unlink(self.oldest);
        }
    }

    fn flush_if_due(&mut self, now: u64) {
        if self.flush_at <= now {
            (self.flushed, self.flush_at) = (self.unique, NEVER);
        }
    }

    /// Returns the draft of an item with the value of a draft after or before its own.
    fn join(&mut self, found: u32, draft: &Draft, append: bool, now: u64) -> Result<Draft, Refusal> {
        let Some(Entry { item: Some(item), expires, .. }) = self.entry(found) else {
            return Err(Refusal::NotStored);
        };
        // The item is held here, so it is not evicted for its successor.
        let (item, expires) = (Arc::clone(item), *expires);
        let addition = draft.data.get(usize::from(draft.key)..).unwrap_or_default();
        let length = item.value().len() + addition.len();
        let mut joined = self.draft(draft.hash, item.key(), (item.flags, expires), length, now)?;
        let parts = if append { [item.value(), addition] } else { [addition, item.value()] };
        for part in parts {
            joined.fill(part);
        }
        Ok(joined)
    }

    /// Makes a draft the item of an entry, or of a new one if `found` is 0.
    fn put(&mut self, found: u32, draft: Draft) {
        let Draft { data, hash, flags, key, expires, charge, .. } = draft;
        let item = Some(Arc::new(Item { data: data.into_boxed_slice(), flags, key, charge }));
        let unique = self.unique;
        self.unique += self.stride;
        self.counts.increase(Count::ItemsEver);
        if let Some(entry) = self.entry(found) {
            (entry.item, entry.unique, entry.expires) = (item, unique, expires);
            // Items that were passed over meanwhile have become newer than it.
            self.use_now(found);
            return;
        }
        let at = self.free;
        let entry = Entry { item, unique, expires, hash: hash.bucket, next: 0, older: 0, newer: 0 };
        let at = if let Some(place) = self.entry(at) {
            let next = core::mem::replace(place, entry).next;
            self.free = next;
            at
        } else {
            self.entries.push(entry);
            u32::try_from(self.entries.len()).unwrap_or_else(|_| unreachable!("`ENTRIES_MAX` is less"))
        };
        self.counts.increase(Count::Items);
        let bucket = self.bucket(hash.bucket);
        let next = core::mem::replace(bucket, at);
        if let Some(entry) = self.entry(at) {
            entry.next = next;
        }
        self.make_newest(at);
    }

    /// Evicts the item that was used least recently and is not in use. Returns whether there is one.
    fn evict(&mut self, now: u64) -> bool {
        for _ in 0..PASSED_OVER_MAX {
            let (oldest, flushed) = (self.oldest, self.flushed);
            let Some(entry) = self.entry(oldest) else { return false };
            // References are added only with access to the table, so an item without another one cannot get one now.
            if entry.item.as_ref().is_some_and(|item| Arc::strong_count(item) > 1) {
                self.use_now(oldest);
                continue;
            }
            let is_dead = entry.expires <= now || entry.unique < flushed;
            self.counts.increase(if is_dead { Count::Reclaimed } else { Count::Evictions });
            self.unlink(oldest);
            return true;
        }
        false
    }

    /// Finds an entry, 0 if there is none, and makes it the newest. Removes it if it has expired.
    fn find(&mut self, hash: Hash, key: &[u8], now: u64) -> u32 {
        self.flush_if_due(now);
        let (hash, flushed) = (hash.bucket, self.flushed);
        let is_it =
            |entry: &Entry| entry.hash == hash && entry.item.as_ref().is_some_and(|item| item.key() == key);
        let mut at = *self.bucket(hash);
        while let Some(entry) = self.entry(at)
            && !is_it(entry)
        {
            at = entry.next;
        }
        let Some(entry) = self.entry(at) else { return 0 };
        if entry.expires <= now || entry.unique < flushed {
            self.counts.increase(Count::Reclaimed);
            self.unlink(at);
            return 0;
        }
        self.use_now(at);
        at
    }

    fn found(&mut self, at: u32) -> Option<Found> {
        let entry = self.entry(at)?;
        Some(Found { item: Arc::clone(entry.item.as_ref()?), unique: entry.unique })
    }

    fn entry(&mut self, at: u32) -> Option<&mut Entry> {
        self.entries.get_mut((at as usize).wrapping_sub(1))
    }

    fn bucket(&mut self, hash: u32) -> &mut u32 {
        let at = hash as usize & (self.buckets.len() - 1);
        self.buckets.get_mut(at).unwrap_or_else(|| unreachable!("the mask is the number of buckets less one"))
    }

    /// Removes an entry, unless it is 0.
    fn unlink(&mut self, at: u32) {
        let free = self.free;
        let Some(entry) = self.entry(at) else { return };
        let (hash, next) = (entry.hash, entry.next);
        let item = entry.item.take();
        entry.next = free;
        self.free = at;
        // The link to it: of its bucket, or of the entry before it.
        let mut before = *self.bucket(hash);
        if before == at {
            *self.bucket(hash) = next;
        } else {
            while let Some(entry) = self.entry(before)
                && entry.next != at
            {
                before = entry.next;
            }
            if let Some(entry) = self.entry(before) {
                entry.next = next;
            }
        }
        self.detach(at);
        self.counts.change(Count::Items, |items| items - 1);
        drop(item);
    }

    /// Makes an entry the newest.
    fn use_now(&mut self, at: u32) {
        if self.newest != at {
            self.detach(at);
            self.make_newest(at);
        }
    }

    /// Removes an entry from the order of recency.
    fn detach(&mut self, at: u32) {
        let Some(entry) = self.entry(at) else { return };
        let (older, newer) = (entry.older, entry.newer);
        match self.entry(older) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
        match self.entry(newer) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
    }

    /// Adds an entry to the order of recency.
    fn make_newest(&mut self, at: u32) {
        let newest = core::mem::replace(&mut self.newest, at);
        if let Some(entry) = self.entry(at) {
            (entry.older, entry.newer) = (newest, 0);
        }
        match self.entry(newest) {
            Some(entry) => entry.newer = at,
            None => self.oldest = at,
        }
    }
}

impl Store for Table {
    fn hash(&self, key: &[u8]) -> Hash {
        self.hasher.hash(key)
    }

    fn with<R>(&mut self, _: Hash, work: impl FnOnce(&mut Self) -> R) -> R {
        work(self)
    }

    fn each(&mut self, mut work: impl FnMut(&mut Self)) {
        work(self);
    }

    fn limits(&self) -> Limits {
        self.limits
    }
}

#[cfg(test)]
mod tests;
