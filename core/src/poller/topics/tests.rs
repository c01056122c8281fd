extern crate alloc;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::{SUBSCRIPTIONS_MAX, SetupError};

const SOCKETS: usize = 64;
const SEED: u32 = 5;

fn table(capacity: usize) -> TopicTable<'static> {
    table_of(SEED, capacity)
}

fn table_of(seed: u32, capacity: usize) -> TopicTable<'static> {
    let storage = TopicStorage::new(
        Box::leak(Box::new_uninit_slice(capacity)),
        Box::leak(Box::new_uninit_slice(SOCKETS)),
    );
    TopicTable::new(storage, capacity, SOCKETS, seed).unwrap()
}

/// The token of a socket at a place, in its first generation.
fn socket(place: u32) -> Token {
    Token::from_bits(1 << 32 | u64::from(place))
}

/// Walks over the subscribers of a topic.
fn walk(table: &mut TopicTable<'_>, topic: u64) -> Vec<u32> {
    table.begin_walk(Topic(topic));
    core::iter::from_fn(|| table.next_in_walk()).map(Token::index).collect()
}

#[test]
fn subscribers_are_reached_in_the_order_in_which_they_have_subscribed() {
    let mut table = table(8);
    assert_eq!(walk(&mut table, 1), []);
    for place in [5, 3, 9, 3, 5] {
        assert_eq!(table.subscribe(Topic(1), socket(place)), Ok(()));
    }
    assert_eq!(table.subscribe(Topic(2), socket(3)), Ok(()));
    assert_eq!(
        (walk(&mut table, 1), walk(&mut table, 2), walk(&mut table, 3)),
        (vec![5, 3, 9], vec![3], vec![])
    );
    assert_eq!([1, 2, 3].map(|topic| table.members(Topic(topic))), [3, 1, 0]);
    assert_eq!(table.stats.subscriptions(), 4);
}

/// The numbers of topics may come from a client.
#[test]
fn topics_chosen_for_one_bucket_of_an_engine_are_spread_in_another() {
    let [mut known, mut attacked] = [1, 2].map(|seed| table_of(seed, 64));
    for place in 0..64 {
        assert_eq!(known.subscribe(Topic(place), socket(0)), Ok(()));
        assert_eq!(attacked.subscribe(Topic(place), socket(0)), Ok(()));
    }
    let chosen = (0..).map(Topic).filter(|topic| known.bucket_of(*topic) == 7).take(64);
    let mut buckets: Vec<u32> = chosen.map(|topic| attacked.bucket_of(topic)).collect();
    buckets.sort_unstable();
    buckets.dedup();
    assert!(buckets.len() > 20, "{buckets:?}");
}

#[test]
fn the_last_place_is_taken_and_the_next_one_refused() {
    let mut table = table(3);
    for place in 0..3 {
        assert_eq!(table.subscribe(Topic(place.into()), socket(place)), Ok(()));
    }
    assert_eq!(table.subscribe(Topic(0), socket(1)), Err(SubscribeError::Full));
    assert_eq!(table.subscribe(Topic(0), socket(0)), Ok(()), "it is subscribed");
    assert!(table.unsubscribe(Topic(2), socket(2)));
    assert_eq!(table.subscribe(Topic(0), socket(1)), Ok(()));
    assert_eq!(table.subscribe(Topic(0), socket(2)), Err(SubscribeError::Full));
    assert_eq!(walk(&mut table, 0), [0, 1]);
}

#[test]
fn a_socket_has_up_to_256_subscriptions() {
    let mut table = table(SUBSCRIPTIONS_MAX + 2);
    for topic in 0..SUBSCRIPTIONS_MAX {
        assert_eq!(table.subscribe(Topic(topic as u64), socket(0)), Ok(()));
    }
    assert_eq!(table.subscribe(Topic(1_000), socket(0)), Err(SubscribeError::SocketFull));
    assert_eq!(table.subscribe(Topic(7), socket(0)), Ok(()), "it is subscribed");
    assert_eq!(table.subscribe(Topic(1_000), socket(1)), Ok(()));
    assert_eq!(table.end(socket(0)), SUBSCRIPTIONS_MAX);
    assert_eq!((walk(&mut table, 7), walk(&mut table, 1_000)), (vec![], vec![1]));
}

#[test]
fn subscriptions_end_with_their_socket_and_not_by_a_stale_token() {
    let mut table = table(8);
    for topic in 1..=3 {
        assert_eq!(table.subscribe(Topic(topic), socket(4)), Ok(()));
        assert_eq!(table.subscribe(Topic(topic), socket(5)), Ok(()));
    }
    let stale = Token::from_bits(7 << 32 | 4);
    assert_eq!((table.end(stale), table.unsubscribe(Topic(1), stale)), (0, false));
    assert_eq!((table.end(socket(4)), table.end(socket(4))), (3, 0));
    // the next socket at the place inherits nothing
    assert_eq!(table.end(stale), 0);
    for topic in 1..=3 {
        assert_eq!(walk(&mut table, topic), [5]);
    }
    assert_eq!((table.stats.subscribed, table.stats.unsubscribed), (6, 3));
    assert!(!table.unsubscribe(Topic(1), socket(4)) && !table.unsubscribe(Topic(4), socket(5)));
    // a place that no socket has used
    assert_eq!((table.end(socket(60)), table.unsubscribe(Topic(1), socket(60))), (0, false));
}

/// Unsubscribes `gone` before the walk has reached `at` sockets, and returns those that it reaches.
fn walk_without(gone: u32, at: usize) -> Vec<u32> {
    let mut table = table(8);
    (0..4).for_each(|place| assert_eq!(table.subscribe(Topic(1), socket(place)), Ok(())));
    table.begin_walk(Topic(1));
    let mut reached: Vec<_> = (0..at).filter_map(|_| table.next_in_walk()).map(Token::index).collect();
    assert!(table.unsubscribe(Topic(1), socket(gone)));
    // those that subscribe meanwhile, also at the place that is free again, are not reached
    assert_eq!(table.subscribe(Topic(1), socket(gone)), Ok(()));
    assert_eq!(table.subscribe(Topic(1), socket(9)), Ok(()));
    reached.extend(core::iter::from_fn(|| table.next_in_walk()).map(Token::index));
    assert_eq!(table.next_in_walk(), None);
    reached
}

#[test]
fn a_walk_goes_on_when_any_of_its_subscriptions_ends() {
    for gone in 0..4 {
        for at in 0..=4 {
            let mut expected = vec![0, 1, 2, 3];
            if gone as usize >= at {
                expected.retain(|place| *place != gone);
            }
            assert_eq!(walk_without(gone, at), expected, "{gone} ends after {at}");
        }
    }
}

#[test]
fn a_walk_ends_when_all_of_its_subscriptions_end() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0], [0, 2, 1], [2, 0, 1]] {
        let mut table = table(8);
        (0..3).for_each(|place| assert_eq!(table.subscribe(Topic(1), socket(place)), Ok(())));
        table.begin_walk(Topic(1));
        for place in order {
            assert_eq!(table.end(socket(place)), 1);
            assert_eq!(table.subscribe(Topic(1), socket(place + 3)), Ok(()));
        }
        assert_eq!(table.next_in_walk(), None, "{order:?}");
    }
}

#[test]
fn memory_that_is_too_short_is_refused_by_name() {
    let build = |subscriptions: usize, sockets: usize| {
        let (mut entries, mut heads) = (Box::new_uninit_slice(subscriptions), Box::new_uninit_slice(sockets));
        TopicTable::new(TopicStorage::new(&mut entries, &mut heads), 4, 2, SEED)
            .map(|_| ())
            .map_err(SetupError::from)
    };
    assert_eq!((build(4, 2), build(5, 3)), (Ok(()), Ok(())));
    for (subscriptions, sockets, part) in
        [(3, 2, "TopicStorage::subscriptions"), (4, 1, "TopicStorage::sockets")]
    {
        let error = build(subscriptions, sockets).unwrap_err();
        assert!(alloc::format!("{error}").contains(part), "{error}");
    }
    assert!(!TopicTable::new(TopicStorage::none(), 0, 2, SEED).unwrap().is_supported());
}

/// Lists in which everything is looked for.
#[derive(Default)]
struct Lists(BTreeMap<u64, Vec<u32>>);

impl Lists {
    fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    fn of(&self, topic: u64) -> Vec<u32> {
        self.0.get(&topic).cloned().unwrap_or_default()
    }

    /// Removes a socket from the lists of these topics, and returns from how many.
    fn remove(&mut self, place: u32, which: impl Fn(u64) -> bool) -> usize {
        let before = self.count();
        for (_, list) in self.0.iter_mut().filter(|(topic, _)| which(**topic)) {
            list.retain(|other| *other != place);
        }
        before - self.count()
    }

    fn add(&mut self, topic: u64, place: u32, capacity: usize) -> Result<(), SubscribeError> {
        if self.of(topic).contains(&place) {
            return Ok(());
        }
        if self.count() == capacity {
            return Err(SubscribeError::Full);
        }
        self.0.entry(topic).or_default().push(place);
        Ok(())
    }
}

/// The table agrees with a simple model over random calls.
#[test]
fn random_calls_agree_with_a_simple_model() {
    for seed in 0..40_u32 {
        let mut random = crate::sync::mix(seed.into());
        let mut draw = |below: u32| {
            random = crate::sync::mix(random);
            u32::try_from(random % u64::from(below)).unwrap()
        };
        let capacity = [1, 2, 7, 64, 200][draw(5) as usize];
        let topics = [1, 3, 20, 400][draw(4) as usize];
        let (mut table, mut lists) = (table(capacity), Lists::default());
        for _ in 0..600 {
            let (topic, place) = (u64::from(draw(topics)), draw(64));
            match draw(8) {
                0 => assert_eq!(table.end(socket(place)), lists.remove(place, |_| true), "seed {seed}"),
                1 | 2 => {
                    let was_there = lists.remove(place, |other| other == topic) == 1;
                    assert_eq!(table.unsubscribe(Topic(topic), socket(place)), was_there, "seed {seed}");
                }
                _ => {
                    let expected = lists.add(topic, place, capacity);
                    assert_eq!(table.subscribe(Topic(topic), socket(place)), expected, "seed {seed}");
                }
            }
            assert_eq!(table.members(Topic(topic)), lists.of(topic).len());
            assert_eq!(walk(&mut table, topic), lists.of(topic), "seed {seed}");
        }
        for (topic, list) in &lists.0 {
            assert_eq!(walk(&mut table, *topic), *list, "seed {seed}");
        }
        assert_eq!(table.stats.subscriptions(), lists.count() as u64);
    }
}

/// Looking for a topic costs the same among a few and among many.
#[test]
fn the_cost_of_a_look_up_does_not_grow_with_the_topics() {
    let mut table = table(SOCKETS * SUBSCRIPTIONS_MAX);
    let all = (0..SUBSCRIPTIONS_MAX as u64 * SOCKETS as u64).zip((0..64).cycle());
    for (topic, place) in all.clone() {
        assert_eq!(table.subscribe(Topic(topic), socket(place)), Ok(()));
    }
    let before = table.entries.looks();
    for (topic, _) in all {
        assert_eq!(table.members(Topic(topic)), 1);
    }
    let looks = (table.entries.looks() - before) / (SOCKETS * SUBSCRIPTIONS_MAX);
    assert!(looks < 5, "{looks} for each topic");
}
