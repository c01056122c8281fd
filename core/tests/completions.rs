//! A poller over a transport that completes: what it is asked for, and when.
#![allow(clippy::unwrap_used, reason = "a failed test is the point")]

mod common;

use common::{PEER, PLAIN};
use core::convert::Infallible;
use core::mem::MaybeUninit;
use lightcone_core::poller::{Alone, Poller, PollerStorage, Received, Transport};
use lightcone_core::{
    Address, Config, Context, ErrorKind, Handler, Instant, Interest, ListenerId, Origin, Sent, Shard, Slot,
    Socket, Storage, Token,
};

/// Counts ends of streams, and consumes nothing.
struct Keeper {
    ended: usize,
}

impl Handler for Keeper {
    type Data = ();
    type Message = Infallible;

    fn admit(&mut self, _: Origin, _: &Address) -> Option<()> {
        Some(())
    }

    fn receive(&mut self, _: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {}

    fn peer_closed(&mut self, _: &mut Socket<'_, ()>, _: &mut Context<'_, Infallible>) {
        self.ended += 1;
    }
}

/// Records what it watches.
#[derive(Default)]
struct Ring {
    watched: Vec<(Token, Interest)>,
}

impl Transport for Ring {
    const CONNECTS: bool = false;
    type Unregistered = ();
    type Registered = u8;
    type Listener = Infallible;

    fn register(&mut self, (): (), token: Token, interest: Interest) -> Result<u8, ErrorKind> {
        self.watched.push((token, interest));
        Ok(0)
    }

    fn modify(&mut self, _: &mut u8, token: Token, _: Interest, new: Interest) -> Result<(), ErrorKind> {
        self.watched.push((token, new));
        Ok(())
    }

    fn receive(&mut self, _: &mut u8, _: Token, _: &mut [u8]) -> Received {
        Received::WouldBlock
    }

    fn send(&mut self, _: &mut u8, _: Token, _: &[u8]) -> Sent {
        Sent::InFlight
    }

    fn shutdown_write(&mut self, _: &mut u8, _: Token) -> Result<(), ErrorKind> {
        Ok(())
    }

    fn close(&mut self, _: u8, _: Token, _: Interest, _: bool) {}
}

#[test]
fn an_end_that_finds_no_block_is_asked_for_when_one_comes_back() {
    let config = Config { sockets: 2, input_blocks: 1, ..PLAIN };
    let mut slots: [MaybeUninit<Slot<()>>; 2] = [const { MaybeUninit::uninit() }; 2];
    let mut memory = vec![0; config.memory()];
    let storage = Storage { slots: &mut slots, memory: &mut memory };
    let shard = Shard::new(storage, &config, Instant::from_millis(0)).unwrap();
    let mut connections = [const { MaybeUninit::uninit() }; 2];
    let storage = PollerStorage { connections: &mut connections, listeners: &mut [], buffer: &mut [] };
    let alone: Alone = Alone::new();
    let mut poller: Poller<'_, _, _, _, 1> =
        Poller::new(shard, Keeper { ended: 0 }, Ring::default(), alone, storage).unwrap();
    for _ in 0..2 {
        poller.attach((), PEER, ListenerId(0)).unwrap();
        poller.turn();
    }
    let [(keeps, Interest::READ), (ends, Interest::READ)] = poller.transport().watched[..] else {
        panic!("both are to be read from")
    };
    assert_eq!(poller.on_received(keeps, &mut [1; 10]), 10);
    // the only block is in use, so that nothing is received: the end could come after bytes
    assert!(!poller.on_end_of_stream(ends));
    assert_eq!(poller.transport().watched.last(), Some(&(ends, Interest::NONE)));
    assert_eq!(poller.handler().ended, 0);
    poller.close_socket(keeps, true);
    poller.begin_turn(Instant::from_millis(1), None);
    poller.turn();
    assert_eq!(poller.transport().watched.last(), Some(&(ends, Interest::READ)));
    assert!(poller.on_end_of_stream(ends));
    assert_eq!(poller.handler().ended, 1);
}
