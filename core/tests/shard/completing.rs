//! Tests a lone poller over a completion-based transport that records its calls.

use crate::common::{PEER, PLAIN};
use core::convert::Infallible;
use core::mem::MaybeUninit;
use lightcone_core::poller::{Alone, Connect, Poller, PollerStorage, Received, TopicStorage, Transport};
use lightcone_core::{
    Address, Config, Context, ErrorKind, Handler, Instant, Interest, ListenerId, Origin, Sent, Shard, Slot,
    Socket, Storage, TimerStorage, Token,
};

/// Counts ends of stream and refused connects, and consumes nothing.
#[derive(Default)]
struct Keeper {
    ended: usize,
    refused: usize,
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

    fn refused(&mut self, _: &mut Socket<'_, ()>, _: ErrorKind, _: &mut Context<'_, Infallible>) {
        self.refused += 1;
    }
}

/// A transport whose operations complete later. It records the calls.
#[derive(Default)]
struct Ring {
    watched: Vec<(Token, Interest)>,
    connects: usize,
}

impl Transport for Ring {
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

    fn connect(&mut self, _: Address) -> Result<Connect<()>, ErrorKind> {
        self.connects += 1;
        Ok(Connect::InProgress(()))
    }
}

type Lone<'s> = Poller<'s, Keeper, Ring, Alone, 1>;

/// Runs a test with a poller of two sockets, plus the one that is kept ready for a connect.
fn with_poller(input_blocks: usize, test: impl FnOnce(&mut Lone<'_>)) {
    let config = Config { sockets: 3, input_blocks, ..PLAIN };
    let mut slots: [MaybeUninit<Slot<()>>; 3] = [const { MaybeUninit::uninit() }; 3];
    let mut memory = vec![0; config.memory()];
    let storage = Storage { slots: &mut slots, memory: &mut memory };
    let shard = Shard::new(storage, &config, Instant::from_millis(0)).unwrap();
    let mut connections = [const { MaybeUninit::uninit() }; 3];
    let storage = PollerStorage {
        connections: &mut connections,
        listeners: &mut [],
        buffer: &mut [],
        timers: TimerStorage::none(),
        rooms: &mut [],
        topics: TopicStorage::none(),
    };
    let mut poller = Poller::new(shard, Keeper::default(), Ring::default(), Alone, storage).unwrap();
    poller.begin_turn(Instant::from_millis(1), None);
    test(&mut poller);
}

#[test]
fn an_end_that_finds_no_block_is_requested_again_when_one_returns() {
    with_poller(1, |poller| {
        for _ in 0..2 {
            poller.attach((), PEER, ListenerId(0)).unwrap();
            poller.turn();
        }
        let [(keeps, Interest::READ), (ends, Interest::READ)] = poller.transport().watched[..] else {
            panic!("both sockets must be read")
        };
        assert_eq!(poller.on_received(keeps, &mut [1; 10]), 10);
        // The only block is in use, so nothing can be received, and an end of stream must not overtake bytes.
        assert!(!poller.on_end_of_stream(ends));
        assert_eq!(poller.transport().watched.last(), Some(&(ends, Interest::NONE)));
        assert_eq!(poller.handler().ended, 0);
        poller.close_socket(keeps, true);
        poller.begin_turn(Instant::from_millis(2), None);
        poller.turn();
        assert_eq!(poller.transport().watched.last(), Some(&(ends, Interest::READ)));
        assert!(poller.on_end_of_stream(ends));
        assert_eq!(poller.handler().ended, 1);
    });
}

#[test]
fn a_connect_that_is_cancelled_before_it_begins_never_reaches_the_network() {
    for abort in [false, true] {
        with_poller(4, |poller| {
            let token = poller.connect(PEER, 0).unwrap();
            poller.close_socket(token, abort);
            poller.turn();
            assert_eq!((poller.transport().connects, poller.handler().refused), (0, 1));
            poller.begin_turn(Instant::from_millis(2), None);
            poller.connect(PEER, 0).unwrap();
            poller.turn();
            assert_eq!((poller.transport().connects, poller.handler().refused), (1, 1));
        });
    }
}
