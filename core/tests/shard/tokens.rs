//! A token reaches its own socket or none.

use crate::common::{self, Bench, PLAIN, nothing, on};
use lightcone_core::{Action, Config, ErrorKind, Event, Interest, ListenerId, PollerId, Token};

fn ended(bench: &mut Bench, token: Token) {
    assert_eq!(bench.tell(token, |conn| conn.failed(ErrorKind::ConnectionReset)), Action::Close);
}

/// Checks that a stale token has no effect, and that each look-up is counted.
fn is_gone(bench: &mut Bench, token: Token) {
    let (before, events) = (*bench.shard.stats(), bench.seen().len());
    assert!(bench.try_tell(token, |_| unreachable!()).is_none());
    assert!(bench.shard.connection(token).is_none());
    assert_eq!(bench.message(token, 3), Err(3));
    let (after, in_use) = (*bench.shard.stats(), bench.shard.in_use());
    assert_eq!(after.gone, before.gone + 3);
    bench.shard.release_slot(token);
    assert!(bench.shard.dial(&mut bench.handler, token, 1, &common::PEER).is_err());
    assert_eq!(bench.shard.in_use(), in_use);
    assert_eq!(bench.seen().len(), events);
}

#[test]
fn a_stale_token_never_reaches_the_next_socket() {
    let mut bench = Bench::new(&Config { sockets: 1, ..PLAIN }, nothing);
    let mut old = Vec::new();
    for _ in 0..50 {
        let token = bench.open();
        assert_eq!(token.index(), 0);
        for stale in &old {
            assert_ne!(*stale, token);
            is_gone(&mut bench, *stale);
        }
        ended(&mut bench, token);
        is_gone(&mut bench, token);
        old.push(token);
    }
}

#[test]
fn a_released_token_is_stale() {
    let mut bench = Bench::new(&Config { sockets: 1, ..PLAIN }, nothing);
    let reserved = bench.shard.reserve().unwrap();
    bench.shard.release_slot(reserved);
    is_gone(&mut bench, reserved);
    let token = bench.open();
    assert_eq!(token.index(), reserved.index());
    is_gone(&mut bench, reserved);
}

#[test]
fn another_poller_or_another_engine_means_nothing_here() {
    let salted = |poller, generation_seed| Config { poller: PollerId(poller), generation_seed, ..PLAIN };
    let mut benches: Vec<(Token, Bench)> = [(0, 0), (1, 0), (255, 0), (0, 0x5555_0000), (0, u32::MAX / 2)]
        .into_iter()
        .map(|(poller, generation_seed)| {
            let mut bench = Bench::new(&salted(poller, generation_seed), nothing);
            let token = bench.open();
            assert_eq!((token.poller(), token.generation()), (PollerId(poller), generation_seed));
            (token, bench)
        })
        .collect();
    let tokens: Vec<Token> = benches.iter().map(|(token, _)| *token).collect();
    for (own, bench) in &mut benches {
        for token in &tokens {
            if token == own {
                assert!(bench.shard.connection(*token).is_some());
            } else {
                is_gone(bench, *token);
            }
        }
    }
}

#[test]
fn generations_wrap() {
    let mut bench = Bench::new(&Config { sockets: 1, generation_seed: u32::MAX - 2, ..PLAIN }, nothing);
    let mut tokens = Vec::new();
    for expected in [u32::MAX - 2, u32::MAX - 1, u32::MAX, 0, 1] {
        let token = bench.open();
        assert_eq!(token.generation(), expected);
        for stale in &tokens {
            is_gone(&mut bench, *stale);
        }
        ended(&mut bench, token);
        tokens.push(token);
    }
}

#[test]
fn any_word_is_a_stale_token() {
    let mut bench = Bench::new(&Config { generation_seed: 77, ..PLAIN }, nothing);
    let token = bench.open();
    assert_eq!(Token::from_bits(token.to_bits()), token);
    for bits in [0, 1, u64::MAX, 1 << 32, 1 << 24, u64::from(Token::MAX_INDEX), token.to_bits() ^ 1 << 63] {
        is_gone(&mut bench, Token::from_bits(bits));
    }
    for bit in 0..64 {
        is_gone(&mut bench, Token::from_bits(token.to_bits() ^ 1 << bit));
    }
    assert!(bench.shard.connection(token).is_some());
}

#[test]
fn what_was_due_for_the_old_socket_is_not_delivered_to_the_new_one() {
    let config = Config { sockets: 1, output_blocks: 2, ..PLAIN };
    let mut bench = Bench::new(
        &config,
        on(Event::Open, |socket| {
            if socket.data.id == 0 {
                socket.set_deadline(Some(lightcone_core::Instant::from_millis(100)));
                socket.send(&[9; 128]).unwrap();
                let _ = socket.send(&[9]);
                socket.pause();
            }
        }),
    );
    let old = bench.open();
    let _ = bench.tell(old, |conn| conn.would_block());
    let _ = bench.receive(old, b"left behind");
    bench.shard.connection(old).unwrap().defer();
    ended(&mut bench, old);
    bench.turn(0);
    bench.events();
    let new = bench.open();
    assert_eq!(bench.outputs(new), b"");
    assert_eq!(bench.room(new), 64);
    assert_eq!(bench.turn(1_000), []);
    assert_eq!(bench.shard.next_deadline(), None);
    assert_eq!(bench.events(), [Event::Open]);
}

#[test]
fn a_token_has_the_parts_it_was_made_from() {
    let mut bench = Bench::new(&Config { poller: PollerId(9), generation_seed: 4, ..PLAIN }, nothing);
    let (a, b) = (bench.open(), bench.open());
    assert_eq!((a.index(), b.index()), (0, 1));
    assert_eq!(format!("{a} {b:?}"), "9:0#4 Token(9:1#4)");
}

#[test]
fn an_impersonating_socket_shows_the_token_of_the_other() {
    let mut many = Bench::new(
        &Config { sockets: 8, poller: PollerId(3), generation_seed: 0xffff_fff0, ..PLAIN },
        nothing,
    );
    let mut one = Bench::new(&Config { sockets: 1, ..PLAIN }, nothing);
    let tokens: Vec<_> = (0..8).map(|_| many.open()).collect();
    for token in &tokens {
        one.shard.impersonate(*token);
        assert!(one.shard.only_connection().is_none());
        let admitted = one.admit().unwrap();
        assert_eq!(admitted, *token);
        assert_eq!(one.run_only(|_| {}), Action::Wait(Interest::READ));
        assert_eq!(one.shard.next_open(0), Some(*token));
        assert_eq!(one.shard.only_connection().map(|conn| conn.token()), Some(*token));
        for other in tokens.iter().filter(|other| *other != token) {
            is_gone(&mut one, *other);
        }
        assert_eq!(one.run_only(|conn| conn.failed(ErrorKind::ConnectionReset)), Action::Close);
        assert!(one.shard.only_connection().is_none());
        is_gone(&mut one, *token);
    }
    // A connect that fails is reported under that token as well.
    one.shard.impersonate(tokens[5]);
    assert_eq!(one.shard.reserve(), Some(tokens[5]));
    assert!(one.shard.dial(&mut one.handler, tokens[4], 1, &common::PEER).is_err());
    assert_eq!(one.shard.dial(&mut one.handler, tokens[5], 1, &common::PEER), Ok(()));
    assert_eq!(one.run_only(|conn| conn.failed(ErrorKind::ConnectionRefused)), Action::Close);
    one.shard.impersonate(tokens[5]);
    assert_eq!(one.shard.reserve(), Some(tokens[5]));
    one.shard.release_slot(tokens[5]);
    assert_eq!(one.shard.in_use(), 0);
    // A previous socket's engine may have been stopping; this one's is not.
    one.shard.stop();
    assert!(!one.shard.has_room());
    one.shard.impersonate(tokens[6]);
    assert_eq!(one.admit(), Ok(tokens[6]));
    // If there are several sockets, none is the only one.
    assert!(many.shard.only_connection().is_none());
}

#[test]
#[should_panic(expected = "impersonate() needs a shard of one slot, this one has 2")]
fn a_shard_of_two_cannot_impersonate() {
    let mut bench = Bench::new(&Config { sockets: 2, ..PLAIN }, nothing);
    let token = bench.open();
    ended(&mut bench, token);
    bench.shard.impersonate(token);
}

#[test]
#[should_panic(expected = "impersonate() while the slot is in use")]
fn a_socket_in_use_keeps_its_token() {
    let mut bench = Bench::new(&Config { sockets: 1, ..PLAIN }, nothing);
    let token = bench.open();
    bench.shard.impersonate(token);
}

#[test]
fn identities_print_as_their_numbers() {
    let token = Token::from_bits(9 << 32 | 3 << 24 | 77);
    assert_eq!(token.to_string(), "3:77#9");
    assert_eq!(format!("{:>3} {:>3}", token.poller(), ListenerId(255)), "  3 255");
}
