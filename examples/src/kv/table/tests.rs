//! The table beside an oracle: a list of items in the order of recency, searched from one end to the other.

use super::*;

const LIMITS: Limits = Limits { memory: 3_000, value: 1_000 };
const HASHER: Hasher = Hasher::seeded(7);

/// What the oracle does wrong, to show that the comparison notices it in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Defect {
    None,
    EvictsNewest,
    EvictsHeld,
    ForgetsOverhead,
    GetIsNoUse,
    ExpiresLate,
    FlushesAtOnce,
    AppendSetsFlags,
    FreesHeld,
}

#[derive(Clone, Debug)]
struct Known {
    key: Vec<u8>,
    value: Vec<u8>,
    flags: u32,
    expires: u64,
    unique: u64,
}

impl Known {
    fn bytes(&self) -> usize {
        self.key.len() + self.value.len() + OVERHEAD
    }
}

/// The items from the one that was used least recently, and the memory that is taken.
struct Oracle {
    items: Vec<Known>,
    /// The versions of items that are held, with their sizes. Some may not be in the table any more.
    held: Vec<(u64, usize)>,
    /// The sizes of the drafts.
    drafts: usize,
    unique: u64,
    flush_at: u64,
    defect: Defect,
}

impl Oracle {
    fn new(defect: Defect) -> Self {
        Self { items: Vec::new(), held: Vec::new(), drafts: 0, unique: 1, flush_at: NEVER, defect }
    }

    fn is_held(&self, unique: u64) -> bool {
        self.held.iter().any(|(held, _)| *held == unique)
    }

    fn used(&self) -> usize {
        let mut gone: Vec<_> = self
            .held
            .iter()
            .filter(|(unique, _)| self.items.iter().all(|item| item.unique != *unique))
            .collect();
        gone.sort_unstable();
        gone.dedup();
        let gone: usize = gone.iter().map(|(_, bytes)| bytes).sum();
        let gone = if self.defect == Defect::FreesHeld { 0 } else { gone };
        self.items.iter().map(Known::bytes).sum::<usize>() + gone + self.drafts
    }

    fn flush_if_due(&mut self, now: u64) {
        if self.flush_at <= now || (self.defect == Defect::FlushesAtOnce && self.flush_at < NEVER) {
            self.flush_at = NEVER;
            // Flushed items take memory until they are found or evicted, as expired ones do.
            self.items.iter_mut().for_each(|item| item.expires = 0);
        }
    }

    fn find(&mut self, key: &[u8], now: u64) -> Option<usize> {
        self.flush_if_due(now);
        let at = self.items.iter().position(|item| item.key == key)?;
        let item = self.items.remove(at);
        let late = u64::from(self.defect == Defect::ExpiresLate);
        if item.expires.saturating_add(late) <= now {
            return None;
        }
        self.items.push(item);
        Some(self.items.len() - 1)
    }

    fn get(&mut self, key: &[u8], now: u64) -> Option<Known> {
        let before = self.items.clone();
        let found = self.find(key, now)?;
        let item = self.items[found].clone();
        if self.defect == Defect::GetIsNoUse {
            self.items = before;
        }
        Some(item)
    }

    fn make_room(&mut self, bytes: usize, now: u64) -> Result<(), Refusal> {
        let overhead = if self.defect == Defect::ForgetsOverhead { OVERHEAD } else { 0 };
        if bytes > LIMITS.memory {
            return Err(Refusal::TooLarge);
        }
        self.flush_if_due(now);
        while self.used() + bytes - overhead > LIMITS.memory {
            if self.items.iter().all(|item| self.is_held(item.unique)) {
                // Each of them is passed over several times, as they are fewer than that maximum.
                let passed = PASSED_OVER_MAX % self.items.len().max(1);
                self.items.rotate_left(passed);
                return Err(Refusal::Full);
            }
            if self.defect == Defect::EvictsNewest {
                self.items.pop();
                continue;
            }
            while self.is_held(self.items[0].unique) && self.defect != Defect::EvictsHeld {
                self.items.rotate_left(1);
            }
            self.items.remove(0);
        }
        Ok(())
    }

    fn put(&mut self, item: Known) {
        self.items.retain(|other| other.key != item.key);
        self.items.push(Known { unique: self.unique, ..item });
        self.unique += 1;
    }

    fn store(&mut self, item: Known, mode: Mode, now: u64) -> Result<(), Refusal> {
        let found = self.find(&item.key, now).map(|at| self.items[at].clone());
        match (mode, found) {
            (Mode::Add, Some(_)) | (Mode::Replace | Mode::Append | Mode::Prepend, None) => {
                Err(Refusal::NotStored)
            }
            (Mode::Cas(_), None) => Err(Refusal::NotFound),
            (Mode::Cas(unique), Some(old)) if unique != old.unique => Err(Refusal::Exists),
            (Mode::Append | Mode::Prepend, Some(old)) => {
                let parts =
                    if mode == Mode::Append { [&old.value, &item.value] } else { [&item.value, &old.value] };
                let value = parts.map(Vec::as_slice).concat();
                let flags = if self.defect == Defect::AppendSetsFlags { item.flags } else { old.flags };
                self.replace(&old, Known { value, flags, ..old.clone() }, now)
            }
            _ => {
                self.put(item);
                Ok(())
            }
        }
    }

    /// Replaces an item, which is held while there is made room for its successor.
    fn replace(&mut self, old: &Known, new: Known, now: u64) -> Result<(), Refusal> {
        if new.value.len() > LIMITS.value {
            return Err(Refusal::TooLarge);
        }
        self.held.push((old.unique, old.bytes()));
        let made = self.make_room(new.bytes(), now);
        self.held.pop();
        made?;
        self.put(new);
        Ok(())
    }

    fn change(&mut self, key: &[u8], delta: Delta, now: u64) -> Result<u64, Refusal> {
        let found = self.find(key, now).ok_or(Refusal::NotFound)?;
        let old = self.items[found].clone();
        let text = core::str::from_utf8(&old.value).map_err(|_| Refusal::NotANumber)?;
        let number: u64 = text.parse().map_err(|_| Refusal::NotANumber)?;
        let number = match delta {
            Delta::Up(by) => number.wrapping_add(by),
            Delta::Down(by) => number.saturating_sub(by),
        };
        let value = number.to_string().into_bytes();
        self.replace(&old, Known { value, ..old.clone() }, now)?;
        Ok(number)
    }
}

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed >> 33) as u32 % most
    }

    /// Returns a time of few values, so that times coincide.
    fn time(&mut self, steps: u32) -> u64 {
        100 * u64::from(self.below(steps))
    }

    fn key(&mut self) -> Vec<u8> {
        format!("key{}", self.below(24)).into_bytes()
    }

    fn value(&mut self) -> Vec<u8> {
        match self.below(4) {
            0 => self.below(200).to_string().into_bytes(),
            1 => vec![b'x'; self.below(600) as usize],
            _ => vec![b'y'; self.below(100) as usize],
        }
    }
}

/// A table and an oracle that get the same operations.
struct Pair {
    dice: Dice,
    table: Table,
    oracle: Oracle,
    now: u64,
    held: Vec<Arc<Item>>,
    drafts: Vec<(Draft, Known, Mode)>,
}

impl Pair {
    fn step(&mut self, about: &str) {
        let Self { dice, table, oracle, now, held, .. } = self;
        let key = dice.key();
        let hash = HASHER.hash(&key);
        match dice.below(16) {
            0 => *now += dice.time(4),
            1..=3 => self.get(&key, about),
            4 if !held.is_empty() && dice.below(3) == 0 => {
                let at = dice.below(8) as usize % held.len();
                held.remove(at);
                oracle.held.remove(at);
            }
            5 => {
                let expires = *now + dice.time(20);
                let found = table.touch(hash, &key, expires, *now).is_some();
                let expected = oracle.find(&key, *now);
                assert_eq!(found, expected.is_some(), "{about}: touch");
                if let Some(at) = expected {
                    oracle.items[at].expires = expires;
                }
            }
            6 if dice.below(3) == 0 => {
                let expected = oracle.find(&key, *now);
                assert_eq!(table.remove(hash, &key, *now), expected.is_some(), "{about}: remove");
                if expected.is_some() {
                    oracle.items.pop();
                }
            }
            7 | 8 => {
                let by = dice.below(150).into();
                let delta = if dice.below(2) == 0 { Delta::Up(by) } else { Delta::Down(by) };
                assert_eq!(
                    table.change(hash, &key, delta, *now),
                    oracle.change(&key, delta, *now),
                    "{about}"
                );
            }
            9 if dice.below(16) == 0 => {
                let at = *now + dice.time(4);
                table.flush(at, *now);
                oracle.flush_if_due(*now);
                oracle.flush_at = at;
                oracle.flush_if_due(*now);
            }
            10..=12 if !self.drafts.is_empty() => self.end_draft(about),
            _ if self.drafts.len() < 4 => self.begin_draft(key, about),
            _ => {}
        }
        assert_eq!(self.table.used(), self.oracle.used(), "{about}: memory");
        assert!(self.table.used() <= LIMITS.memory, "{about}: more than the limit");
        let items = self.oracle.items.len() as u64;
        assert_eq!(self.table.counts().of(Count::Items), items, "{about}: items");
    }

    fn get(&mut self, key: &[u8], about: &str) {
        let found = self.table.get(HASHER.hash(key), key, self.now);
        let expected = self.oracle.get(key, self.now);
        assert_eq!(found.is_some(), expected.is_some(), "{about}: get");
        let (Some(found), Some(known)) = (found, expected) else { return };
        assert_eq!(found.item.value(), known.value, "{about}");
        assert_eq!((found.item.flags(), found.unique), (known.flags, known.unique), "{about}");
        assert_eq!(found.item.bytes(), known.bytes(), "{about}");
        if self.dice.below(3) > 0 && self.held.len() < 8 {
            self.oracle.held.push((known.unique, known.bytes()));
            self.held.push(found.item);
        }
    }

    fn begin_draft(&mut self, key: Vec<u8>, about: &str) {
        let Self { dice, table, oracle, now, .. } = self;
        let (value, flags) = (dice.value(), dice.below(9));
        let expires = if dice.below(3) == 0 { *now + dice.time(20) } else { NEVER };
        let known = oracle.items.iter().find(|item| item.key == key).map_or(0, |item| item.unique);
        let mode = match dice.below(8) {
            0 => Mode::Add,
            1 => Mode::Replace,
            2 => Mode::Append,
            3 => Mode::Prepend,
            4 => Mode::Cas(known),
            5 => Mode::Cas(dice.below(50).into()),
            _ => Mode::Set,
        };
        let known = Known { key, value, flags, expires, unique: 0 };
        let hash = HASHER.hash(&known.key);
        let draft = table.draft(hash, &known.key, (flags, expires), known.value.len(), *now);
        let expected = oracle.make_room(known.bytes(), *now);
        assert_eq!(draft.as_ref().map(|_| ()).map_err(|refusal| *refusal), expected, "{about}: draft");
        if let Ok(draft) = draft {
            oracle.drafts += known.bytes();
            self.drafts.push((draft, known, mode));
        }
    }

    /// Stores the oldest draft, or drops it, as for a client that was cut off.
    fn end_draft(&mut self, about: &str) {
        let (mut draft, known, mode) = self.drafts.remove(0);
        let bytes = known.bytes();
        if self.dice.below(4) == 0 {
            self.oracle.drafts -= bytes;
            return;
        }
        draft.fill(&known.value);
        // What is appended counts until the joined item has been stored.
        let joined = if matches!(mode, Mode::Append | Mode::Prepend) { bytes } else { 0 };
        self.oracle.drafts -= bytes - joined;
        let expected = self.oracle.store(known, mode, self.now);
        assert_eq!(self.table.store(draft, mode, self.now), expected, "{about}: {mode:?}");
        self.oracle.drafts -= joined;
    }
}

/// Runs random operations on the table and on the oracle. Panics if they differ.
fn compare(seed: u64, defect: Defect) {
    let table = Table::new(LIMITS, HASHER, (1, 1));
    let (oracle, dice) = (Oracle::new(defect), Dice(seed));
    let mut pair = Pair { dice, table, oracle, now: 1_000, held: Vec::new(), drafts: Vec::new() };
    for step in 0..400 {
        pair.step(&format!("seed {seed}, step {step}"));
    }
    let Pair { mut table, held, drafts, now, .. } = pair;
    drop((held, drafts));
    table.flush(now, now);
    for key in 0..24 {
        let key = format!("key{key}").into_bytes();
        assert!(table.get(HASHER.hash(&key), &key, now).is_none());
    }
    assert_eq!(
        (table.used(), table.counts().of(Count::Items)),
        (0, 0),
        "seed {seed}: something is left over"
    );
}

#[test]
fn the_table_does_what_the_oracle_does() {
    for seed in 0..1_000 {
        compare(seed, Defect::None);
    }
}

#[test]
fn the_comparison_notices_each_defect() {
    for defect in [
        Defect::EvictsNewest,
        Defect::EvictsHeld,
        Defect::ForgetsOverhead,
        Defect::GetIsNoUse,
        Defect::ExpiresLate,
        Defect::FlushesAtOnce,
        Defect::AppendSetsFlags,
        Defect::FreesHeld,
    ] {
        let noticed = (0..1_000).any(|seed| std::panic::catch_unwind(|| compare(seed, defect)).is_err());
        assert!(noticed, "{defect:?}");
    }
}

fn set(table: &mut Table, key: &[u8], length: usize) -> Result<(), Refusal> {
    let mut draft = table.draft(HASHER.hash(key), key, (0, NEVER), length, 0)?;
    draft.fill(&vec![b'v'; length]);
    table.store(draft, Mode::Set, 0)
}

fn has(table: &mut Table, key: &[u8]) -> bool {
    table.get(HASHER.hash(key), key, 0).is_some()
}

#[test]
fn memory_is_used_up_to_the_limit_and_not_beyond() {
    // Two items fit exactly; with a byte more, the older one is evicted.
    let room = 2 * (OVERHEAD + 1 + 100);
    let limits = Limits { memory: room, value: 1_000 };
    let mut table = Table::new(limits, HASHER, (1, 1));
    set(&mut table, b"a", 100).unwrap();
    set(&mut table, b"b", 100).unwrap();
    assert_eq!((table.used(), has(&mut table, b"a"), has(&mut table, b"b")), (room, true, true));
    let mut table = Table::new(limits, HASHER, (1, 1));
    set(&mut table, b"a", 100).unwrap();
    set(&mut table, b"b", 101).unwrap();
    assert_eq!((has(&mut table, b"a"), has(&mut table, b"b")), (false, true));
    assert_eq!(table.counts().of(Count::Evictions), 1);
}

#[test]
fn values_and_keys_are_refused_from_a_byte_beyond_their_limits() {
    let mut table = Table::new(Limits { memory: 10_000, value: 100 }, HASHER, (1, 1));
    assert_eq!(set(&mut table, b"a", 100), Ok(()));
    assert_eq!(set(&mut table, b"a", 101), Err(Refusal::TooLarge));
    assert_eq!(set(&mut table, &[b'k'; KEY_MAX], 1), Ok(()));
    assert_eq!(set(&mut table, &[b'k'; KEY_MAX + 1], 1), Err(Refusal::TooLarge));
    // A value within its limit that needs more than all of the memory.
    let mut table = Table::new(Limits { memory: OVERHEAD + 51, value: 100 }, HASHER, (1, 1));
    assert_eq!(set(&mut table, b"a", 50), Ok(()));
    assert_eq!(set(&mut table, b"a", 51), Err(Refusal::TooLarge));
}

#[test]
fn items_in_use_are_passed_over_up_to_a_maximum() {
    for (held, evicts) in [(PASSED_OVER_MAX - 1, true), (PASSED_OVER_MAX, false)] {
        let count = PASSED_OVER_MAX + 1;
        let limits = Limits { memory: count * (OVERHEAD + 2), value: 10 };
        let mut table = Table::new(limits, HASHER, (1, 1));
        let key = |at: usize| [u8::try_from(at).unwrap()];
        for at in 0..count {
            set(&mut table, &key(at), 1).unwrap();
        }
        let in_use: Vec<_> =
            (0..count).map(|at| table.get(HASHER.hash(&key(at)), &key(at), 0)).take(held).collect();
        for at in held..count {
            assert!(has(&mut table, &key(at)));
        }
        assert!(in_use.iter().all(Option::is_some));
        let stored = set(&mut table, b"new", 0);
        // `new` is a byte longer than the room that one item leaves, so two have to go.
        let expected = if evicts { Ok(()) } else { Err(Refusal::Full) };
        assert_eq!(stored, expected, "{held} in use");
    }
}

#[test]
fn the_table_never_grows_beyond_its_first_allocation() {
    let limits = Limits { memory: 20_000, value: 10 };
    let mut table = Table::new(limits, HASHER, (1, 1));
    let capacity = table.entries.capacity();
    for number in 0..2_000_u32 {
        set(&mut table, &number.to_be_bytes(), 0).unwrap();
    }
    assert_eq!(table.entries.capacity(), capacity);
    assert_eq!(table.counts().of(Count::Items), 20_000 / (OVERHEAD as u64 + 4));
}
