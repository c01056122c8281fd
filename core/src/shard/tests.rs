//! Tests of what a turn costs.

use super::*;
use crate::{
    Action, Address, Context, Event, Interest, ListenerId, NoOutbox, PollerId, Socket, Timeouts, UnixId,
};
use core::mem::MaybeUninit;

struct Nothing;

impl Handler for Nothing {
    type Data = ();
    type Message = ();

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn event(&mut self, _: &mut Socket<'_, ()>, _: Event<()>, _: &mut Context<'_, ()>) {}
}

const TURNS: u64 = 2_000;

/// Returns how many slots are accessed in `TURNS` turns with `idle` idle sockets and one that receives.
/// Each turn also calls `also`.
fn looks_of_turns(idle: usize, also: impl Fn(&Shard<'_, ()>)) -> usize {
    const CONFIG: Config = Config {
        sockets: 41,
        block_size: 64,
        input_blocks: 1,
        output_blocks: 1,
        output_limit: 1,
        receive_size: 64,
        receive_blocks: 0,
        timeouts: Timeouts::DEFAULT,
        ..Config::DEVICE
    };
    let mut slots = [const { MaybeUninit::uninit() }; CONFIG.sockets];
    let mut memory = [0; CONFIG.memory()];
    let storage = Storage { slots: &mut slots, memory: &mut memory };
    let mut shard = Shard::new(storage, &CONFIG, Instant::from_millis(0)).unwrap();
    let mut outbox = NoOutbox;
    let mut cx = Context::new(Instant::from_millis(0), None, PollerId(0), &mut outbox);
    let origin = Origin::Accepted { listener: ListenerId(0) };
    let mut open = |shard: &mut Shard<'_, ()>| {
        let token = shard.admit(&mut Nothing, origin, &Address::Unix(UnixId(7))).unwrap();
        let next = shard.connection(token).unwrap().run(&mut Nothing, &mut cx);
        assert_eq!(next, Action::Wait(Interest::READ));
        token
    };
    for _ in 0..idle {
        open(&mut shard);
    }
    let token = open(&mut shard);
    let before = shard.slots.looks();
    for now in 1..=TURNS {
        shard.tick(Instant::from_millis(now));
        assert_eq!(shard.next_ready(), None);
        assert!(shard.next_deadline().is_some());
        let mut conn = shard.connection(token).unwrap();
        conn.received(&mut []);
        assert_eq!(conn.run(&mut Nothing, &mut cx), Action::Wait(Interest::READ));
        also(&shard);
    }
    shard.slots.looks() - before
}

#[test]
fn a_turn_does_not_walk_the_sockets() {
    let (few, many) = (looks_of_turns(2, |_| {}), looks_of_turns(40, |_| {}));
    assert_eq!(few, many, "slot accesses with 2 idle sockets, and with 40");
}

/// A walk over all sockets shows in the count: each turn accesses every idle socket once more.
#[test]
fn a_walk_over_the_sockets_is_counted() {
    let walk = |shard: &Shard<'_, ()>| {
        for from in 0..shard.slots.used() {
            assert!(shard.next_in_use(from as u32).is_some());
        }
    };
    let (few, many) = (looks_of_turns(2, walk), looks_of_turns(40, walk));
    assert!(many - few >= 38 * TURNS as usize, "{few} slot accesses with 2 idle sockets, {many} with 40");
}
