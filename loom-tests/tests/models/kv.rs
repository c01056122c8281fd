//! The table that the pollers of the example `kv` share: one lock for each shard, and a count of the memory that readers
//! change without it.

use loom::thread;
use loom_tests::kv::shards::Shards;
use loom_tests::kv::table::{Delta, Found, Hasher, Limits, Mode, NEVER, OVERHEAD, Refusal, Store, Table};
use loom_tests::{check, unordered_hand_over};

/// Room for this many items, each with a key and a value of one byte.
const fn room_for(items: usize) -> Limits {
    Limits { memory: items * (OVERHEAD + 2), value: 20 }
}

fn shared(limits: Limits) -> Shards {
    Shards::with_shards(1, limits, Hasher::seeded(1))
}

/// Sets memory aside and stores, with the lock free in between, as for a value that arrives.
fn set(table: &mut Shards, key: &[u8], value: &[u8], mode: Mode) -> Result<(), Refusal> {
    let hash = table.hash(key);
    let mut draft = table.with(hash, |table| within(table).draft(hash, key, (0, NEVER), value.len(), 0))?;
    draft.fill(value);
    table.with(hash, |table| within(table).store(draft, mode, 0))
}

fn get(table: &mut Shards, key: &[u8]) -> Option<Found> {
    let hash = table.hash(key);
    table.with(hash, |table| within(table).get(hash, key, 0))
}

/// Checks the limit.
fn within(table: &mut Table) -> &mut Table {
    assert!(table.used() <= 3 * (OVERHEAD + 2), "more memory than the limit");
    table
}

/// Checks that nothing is taken by an empty table.
fn ends_empty(table: &mut Shards) {
    table.each(|table| {
        table.clear();
        assert_eq!(table.used(), 0, "memory is taken by nothing");
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn self_check() {
    unordered_hand_over();
}

/// Two threads increase a number: none of the two is lost, and each gets a result of its own.
#[test]
fn increments_add_up() {
    check("kv::increments_add_up", &["this first", "that first"], |seen| {
        let mut table = shared(room_for(3));
        set(&mut table, b"n", b"0", Mode::Set).expect("there is room");
        let increase = |mut table: Shards| {
            let hash = table.hash(b"n");
            table.with(hash, |table| table.change(hash, b"n", Delta::Up(1), 0))
        };
        let other = thread::spawn({
            let table = table.clone();
            move || increase(table)
        });
        let mine = increase(table.clone());
        let others = other.join().expect("no panic");
        assert!((mine, others) == (Ok(1), Ok(2)) || (mine, others) == (Ok(2), Ok(1)), "{mine:?}, {others:?}");
        seen.note("this first", mine == Ok(1));
        seen.note("that first", mine == Ok(2));
        ends_empty(&mut table);
    });
}

/// Two threads store over the version that both have seen: one of them does.
#[test]
fn a_version_is_stored_over_once() {
    check("kv::a_version_is_stored_over_once", &["this", "that"], |seen| {
        let mut table = shared(room_for(3));
        set(&mut table, b"a", b"0", Mode::Set).expect("there is room");
        let unique = get(&mut table, b"a").expect("it was stored").unique;
        let other = thread::spawn({
            let mut table = table.clone();
            move || set(&mut table, b"a", b"2", Mode::Cas(unique))
        });
        let mine = set(&mut table, b"a", b"1", Mode::Cas(unique));
        let others = other.join().expect("no panic");
        let value = get(&mut table, b"a").expect("it was stored").item.value().to_vec();
        if mine.is_ok() {
            assert_eq!((others, value), (Err(Refusal::Exists), b"1".to_vec()));
        } else {
            assert_eq!((mine, others, value), (Err(Refusal::Exists), Ok(()), b"2".to_vec()));
        }
        seen.note("this", mine.is_ok());
        seen.note("that", others.is_ok());
        ends_empty(&mut table);
    });
}

/// A reader returns the memory of an item that was replaced meanwhile, without the lock, while a writer takes memory.
#[test]
fn the_memory_that_readers_return_is_counted_once() {
    let outcomes = ["the old value", "the new value", "no room"];
    check("kv::the_memory_that_readers_return_is_counted_once", &outcomes, |seen| {
        let mut table = shared(room_for(3));
        set(&mut table, b"a", b"1", Mode::Set).expect("there is room");
        let reader = thread::spawn({
            let mut table = table.clone();
            move || {
                let found = get(&mut table, b"a")?;
                let value = found.item.value().to_vec();
                drop(found); // without the lock
                Some(value)
            }
        });
        let replaced = set(&mut table, b"a", b"2", Mode::Set);
        let stored = [set(&mut table, b"b", b"3", Mode::Set), set(&mut table, b"c", b"4", Mode::Set)];
        let read = reader.join().expect("no panic");
        assert_eq!(replaced, Ok(()));
        assert!(read.is_none() || read == Some(b"1".to_vec()) || read == Some(b"2".to_vec()), "{read:?}");
        seen.note("the old value", read == Some(b"1".to_vec()));
        seen.note("the new value", read == Some(b"2".to_vec()));
        seen.note("no room", stored.contains(&Err(Refusal::Full)) || get(&mut table, b"a").is_none());
        ends_empty(&mut table);
    });
}

/// The same, with a reader that has had the item from the beginning, so that it returns the memory at any point of what
/// the writer does.
#[test]
fn memory_is_taken_while_other_memory_is_returned() {
    check("kv::memory_is_taken_while_other_memory_is_returned", &["before the end", "at the end"], |seen| {
        let mut table = shared(room_for(3));
        set(&mut table, b"a", b"1", Mode::Set).expect("there is room");
        let found = get(&mut table, b"a").expect("it was stored");
        let reader = thread::spawn(move || {
            assert_eq!(found.item.value(), b"1");
            drop(found);
        });
        assert_eq!(set(&mut table, b"a", b"2", Mode::Set), Ok(()));
        assert_eq!(set(&mut table, b"b", b"3", Mode::Set), Ok(()));
        let mut used = 0;
        table.each(|table| used = table.used());
        reader.join().expect("no panic");
        seen.note("before the end", used == 2 * (OVERHEAD + 2));
        seen.note("at the end", used == 3 * (OVERHEAD + 2));
        ends_empty(&mut table);
    });
}

/// While a reader holds the only item, a writer finds no room: to evict it would free nothing. Afterwards there is room.
#[test]
fn an_item_in_use_is_not_evicted() {
    check("kv::an_item_in_use_is_not_evicted", &["in use", "read in time", "evicted"], |seen| {
        let mut table = shared(room_for(1));
        set(&mut table, b"a", b"1", Mode::Set).expect("there is room");
        let reader = thread::spawn({
            let mut table = table.clone();
            move || {
                let found = get(&mut table, b"a")?;
                // It is in the table for as long as it is in use: no other thread removes it.
                let again = get(&mut table, b"a").expect("an item in use was evicted");
                Some([found.item.value().to_vec(), again.item.value().to_vec()])
            }
        });
        let stored = set(&mut table, b"b", b"2", Mode::Set);
        let read = reader.join().expect("no panic");
        assert!(read.is_none() || read == Some([b"1".to_vec(), b"1".to_vec()]));
        assert!(stored == Ok(()) || (stored == Err(Refusal::Full) && read.is_some()), "{stored:?}");
        seen.note("in use", stored.is_err());
        seen.note("read in time", stored.is_ok() && read.is_some());
        seen.note("evicted", read.is_none());
        assert_eq!(set(&mut table, b"c", b"3", Mode::Set), Ok(()));
        ends_empty(&mut table);
    });
}
