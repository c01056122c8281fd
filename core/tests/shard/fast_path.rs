//! `FastPath::receive`, `Connection::receive` and `Connection::carry_out` behave like `received`, `run` and a driver's
//! own sends; they differ only in cost.
//!
//! A failure prints its seed; `WALK_SEED=n cargo test -p lightcone-core --test shard fast_path::` runs that seed alone.

#[path = "../common/two_ways.rs"]
mod two_ways;

use crate::common::{self, Bench, PLAIN, Random, lent, rounds};
use lightcone_core::{
    Action, Calls, Config, Context, ContextCalls, ErrorKind, Event, Instant, Interest, NoOutbox, PollerId,
    Sent, Settled,
};
use two_ways::{Broken, Numbers, compare};

const SEEDS: u64 = rounds(20_000);
const STEPS: usize = 150;

impl Numbers for Random {
    fn below(&mut self, n: usize) -> usize {
        Self::below(self, n)
    }

    fn position(&self) -> u64 {
        self.0
    }
}

/// The calls of a connection on which nothing is sent.
struct Nowhere(NoOutbox);

impl Calls for Nowhere {
    fn send(&mut self, _: &[u8]) -> Sent {
        panic!("nothing is queued")
    }

    fn shutdown_write(&mut self) -> Result<(), ErrorKind> {
        panic!("the connection stays")
    }
}

impl ContextCalls<u32> for Nowhere {
    fn context(&mut self) -> Context<'_, u32> {
        Context::new(Instant::from_millis(0), None, PollerId(0), &mut self.0)
    }
}

/// Returns the failing seeds, at most five, and the bytes sent by the others.
fn failing(broken: Broken) -> (Vec<u64>, u64) {
    let (mut failed, mut bytes) = (Vec::new(), 0);
    for seed in 0..SEEDS {
        match std::panic::catch_unwind(|| compare(Random::new(seed), STEPS, broken)) {
            Ok(out) => bytes += out,
            Err(_) => failed.push(seed),
        }
        if failed.len() >= 5 {
            break;
        }
    }
    (failed, bytes)
}

#[test]
fn both_ways_are_the_same() {
    if let Some(seed) = std::env::var("WALK_SEED").ok().and_then(|seed| seed.parse().ok()) {
        compare(Random::new(seed), STEPS, Broken::No);
        return;
    }
    let (failed, bytes) = failing(Broken::No);
    assert!(failed.is_empty(), "seeds {failed:?}; see WALK_SEED");
    assert!(bytes > SEEDS * 100, "the walks go nowhere: {bytes} bytes");
}

// Without an operating system, panics cannot be caught.
#[cfg(not(target_os = "none"))]
#[test]
fn a_broken_way_is_noticed() {
    for broken in [Broken::Deaf, Broken::Hasty] {
        assert!(!failing(broken).0.is_empty(), "{broken:?} is not detected");
    }
}

/// An event that was pulled but not settled comes before anything passed to the connection afterwards.
#[test]
fn bytes_come_after_an_event_that_was_pulled() {
    let mut bench = Bench::new(&PLAIN, |socket, event| {
        if event == Event::Receive && socket.bytes() != b"0" {
            assert_eq!(socket.bytes(), b"bcdef");
        }
        let there = socket.bytes().len();
        socket.consume(there);
    });
    let token = bench.open();
    assert_eq!(bench.receive(token, b"0"), Action::Wait(Interest::READ), "the first bytes are unusual");
    let mut calls = Nowhere(NoOutbox);
    let mut conn = bench.shard.connection(token).unwrap();
    conn.received(lent(b"abc"));
    let (event, mut socket) = conn.next_event::<u32>().unwrap();
    assert_eq!((event, socket.bytes()), (Event::Receive, &b"abc"[..]));
    socket.consume(1);
    let settled = conn.receive(lent(b"def"), &mut bench.handler, &mut calls);
    assert_eq!(settled, Settled::Waiting(Interest::READ));
}

/// `open` shows no bytes, even if some have arrived; they are delivered by `receive`.
#[test]
fn open_shows_no_bytes() {
    let mut bench = Bench::new(&PLAIN, |_, _| {});
    for pieces in [&[&b"abc"[..]][..], &[b"abc", b"def"]] {
        let token = bench.admit().unwrap();
        let mut conn = bench.shard.connection(token).unwrap();
        for piece in pieces {
            conn.received(lent(piece));
        }
        let _ = common::deliver(conn, &mut bench.handler, false, 0);
        let seen = bench.seen().iter().rev().take(2).rev();
        let seen: Vec<_> = seen.map(|seen| (seen.event, seen.unread)).collect();
        assert_eq!(seen, [(Event::Open, 0), (Event::Receive, pieces.concat().len())]);
    }
}

/// Bytes for which no block is free are rejected, as in `Connection::received`.
#[test]
#[should_panic(expected = "received 1 bytes with room for 0")]
fn bytes_without_room_are_refused() {
    let config = Config { input_blocks: 1, ..PLAIN };
    let mut bench = Bench::new(&config, |socket, event| {
        if event == Event::Receive && socket.bytes() == b"0" {
            socket.consume(1);
        }
    });
    let (one, other) = (bench.open(), bench.open());
    for token in [one, other] {
        assert_eq!(bench.receive(token, b"0"), Action::Wait(Interest::READ));
    }
    assert_eq!(bench.receive(one, b"kept"), Action::Wait(Interest::READ));
    let mut conn = bench.shard.connection(other).unwrap();
    let _ = conn.receive(lent(b"1"), &mut bench.handler, &mut Nowhere(NoOutbox));
}
