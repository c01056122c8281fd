//! Tests of building a poller and inspecting it from outside.

use crate::bench::{BATCH, Lone, SMALL, at, checker, group, mate, shard, uninit};
use crate::net::{Net, Peer, local_address};
use core::mem::MaybeUninit;
use lightcone_core::balance::{Balancer, Policy};
use lightcone_core::poller::{Alone, Member, Membership, Poller, PollerHandle, PollerStorage, TopicStorage};
use lightcone_core::sync::{Load, MailboxSlot};
use lightcone_core::{Config, PollerId, SetupError, TimerStorage, Token};
use std::cell::RefCell;
use std::rc::Rc;

fn build(connections: usize, timers: usize, rooms: usize) -> Result<(), SetupError> {
    let connections: Vec<MaybeUninit<_>> = (0..connections).map(|_| MaybeUninit::uninit()).collect();
    let storage = PollerStorage {
        connections: connections.leak(),
        listeners: &mut [],
        buffer: &mut [],
        timers: TimerStorage::new(Box::leak(Box::default()), uninit(timers)),
        rooms: uninit(rooms),
        topics: TopicStorage::new(uninit(SMALL.subscriptions), uninit(SMALL.sockets)),
    };
    Poller::<'_, _, Net, _, BATCH>::new(shard(&SMALL), checker(), Net::default(), Alone, storage).map(|_| ())
}

#[test]
fn storage_that_is_too_short_is_refused_with_both_lengths() {
    let error = build(SMALL.sockets - 1, SMALL.timers, SMALL.room_requests).unwrap_err();
    let SetupError::Storage(short) = error else { panic!("{error}") };
    assert_eq!((short.part, short.length, short.needed), ("PollerStorage::connections", 7, 8));
    let text = error.to_string();
    assert!(text.contains("length of 7") && text.contains("8 is needed"), "{text}");
    assert!(build(SMALL.sockets, SMALL.timers, SMALL.room_requests).is_ok());
    assert!(build(SMALL.sockets + 1, SMALL.timers + 1, SMALL.room_requests + 1).is_ok());
    let SetupError::Storage(short) = build(SMALL.sockets, 3, SMALL.room_requests).unwrap_err() else {
        panic!("3 slots for 4 timers")
    };
    assert_eq!((short.part, short.length, short.needed), ("TimerStorage::slots", 3, 4));
    let SetupError::Storage(short) = build(SMALL.sockets, SMALL.timers, 3).unwrap_err() else {
        panic!("3 entries for 4 requests")
    };
    assert_eq!((short.part, short.length, short.needed), ("PollerStorage::rooms", 3, 4));
}

#[test]
fn a_place_in_a_group_is_taken_once() {
    let group = group(2, 4, 4, 4);
    let balancer = || Balancer::new(Policy::RoundRobin, 2).ok();
    let first = Member::new(group, PollerId(1), balancer());
    assert!(first.is_some());
    assert!(Member::new(group, PollerId(1), balancer()).is_none());
    assert!(Member::new(group, PollerId(2), balancer()).is_none());
    assert!(Member::new(group, PollerId(0), None).is_some());
    assert_eq!(group.pollers().len(), 2);
    assert!(group.poller(PollerId(2)).is_none());
}

#[test]
fn a_place_is_finished_when_it_is_closed_and_both_mailboxes_are_empty() {
    let group = group(1, 4, 4, 4);
    let mut member = Member::new(group, PollerId(0), None).unwrap();
    group.post(Token::from_bits(0), crate::bench::Note::new(1), None).unwrap();
    assert!(!member.is_finished());
    member.close();
    assert!(member.next_command().is_none());
    assert!(!member.is_finished() && member.has_envelope());
    assert!(member.next_envelope().is_some());
    assert!(!member.is_finished());
    assert!(member.next_envelope().is_none());
    assert!(member.is_finished());
}

#[test]
fn mailboxes_have_a_power_of_two_of_places() {
    type Handle = PollerHandle<crate::bench::Note, crate::bench::Parts>;
    let handle = |commands: usize, messages: usize| {
        let waker: Rc<dyn Fn()> = Rc::new(|| {});
        Handle::new(
            (0..commands).map(|_| MailboxSlot::new()).collect(),
            (0..messages).map(|_| MailboxSlot::new()).collect(),
            Rc::new(Load::new()),
            waker,
        )
    };
    assert!(handle(4, 8).is_some());
    assert!(handle(3, 8).is_none());
    assert!(handle(4, 6).is_none());
}

#[test]
fn the_local_address_of_a_stale_token_is_none() {
    let mut bench = Lone::new(&SMALL);
    let first = bench.attach();
    let stale = first.token();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&seen);
    bench.react(move |socket, event, cx| {
        if let lightcone_core::Event::Message(_) = event {
            let other = Token::from_bits(socket.token().to_bits() ^ (1 << 24));
            sink.borrow_mut().extend([cx.local_address(socket.token()), cx.local_address(stale)]);
            assert_eq!(cx.local_address(other), None, "a socket of another poller");
        }
        if let lightcone_core::Event::PeerClosed = event {
            socket.close();
        }
    });
    bench.poller.post(stale, crate::bench::Note::new(1)).unwrap();
    bench.turn();
    let own = Some(local_address(stale));
    assert_eq!(seen.take(), [own, own]);
    first.ends();
    bench.turn();
    assert!(bench.poller.connection_mut(stale).is_none());
    // The slot is reused.
    let second = bench.attach();
    assert_eq!(second.token().index(), stale.index());
    bench.poller.post(second.token(), crate::bench::Note::new(1)).unwrap();
    bench.turn();
    assert_eq!(seen.take(), [own, None]);
    assert!(bench.poller.connection_mut(stale).is_none());
    assert!(bench.poller.connection_mut(second.token()).is_some());
    let of_another = Token::from_bits(second.token().to_bits() ^ (1 << 24));
    assert!(bench.poller.connection_mut(of_another).is_none());
    bench.stop(0);
}

#[test]
fn a_callback_sees_the_time_of_its_turn() {
    let mut bench = Lone::new(&SMALL);
    let wire = bench.attach();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&seen);
    bench.react(move |socket, _, cx| {
        assert_eq!(cx.now(), socket.now());
        sink.borrow_mut().push((cx.now(), cx.unix_time()));
    });
    bench.poller.begin_turn(at(7), Some(1_000));
    bench.poller.post(wire.token(), crate::bench::Note::new(1)).unwrap();
    bench.poller.turn();
    assert_eq!(seen.take(), [(at(7), Some(1_000))]);
    bench.now = 7;
    bench.react(|socket, event, _| crate::bench::usual(socket, &event));
    bench.stop(0);
}

#[test]
fn a_footprint_counts_what_is_lent() {
    type P = Poller<'static, crate::bench::Checker, Net, Alone, BATCH>;
    let of = |config: &Config, listeners, buffer| P::footprint(config, listeners, buffer);
    let one = of(&SMALL, 1, 100);
    assert_eq!(of(&SMALL, 1, 101).poller_storage, one.poller_storage + 1);
    assert_eq!(one.poller + one.shard, size_of::<P>());
    assert!(of(&SMALL, 2, 100).poller_storage > one.poller_storage);
    assert!(of(&Config { sockets: 9, ..SMALL }, 1, 100).poller_storage > one.poller_storage);
}

#[test]
fn every_place_of_the_debug_output_is_short() {
    let bench = mate(group(1, 4, 4, 4), 0, &SMALL, None);
    assert!(format!("{:?}", bench.poller).contains("Poller"));
    assert!(format!("{:?}", bench.poller.membership()).contains("Member"));
}
