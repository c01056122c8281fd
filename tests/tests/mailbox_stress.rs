//! Real threads on the mailbox, the wake flag and the load counters: with the memory orderings of the machine and the
//! optimiser, and with many more messages than the models can handle.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

extern crate alloc;

use alloc::sync::Arc;
use std::thread;

use lightcone_core::sync::{Load, Mailbox, MailboxSlot, PushError, Receiver, Reservation, TryRecv, WakeFlag};

const PRODUCERS: [u32; 3] = [0, 1, 2];
const MESSAGES: u32 = if cfg!(miri) { 50 } else { 100_000 };

type Boxed<T> = Mailbox<T, Box<[MailboxSlot<T>]>>;
type BoxedReceiver<T> = Receiver<Arc<Boxed<T>>>;

/// Producer and number, on the heap, so that a lost, duplicated or torn message is detected.
type Message = Box<(u32, u32)>;

fn mailbox<T>(capacity: usize) -> (Arc<Boxed<T>>, BoxedReceiver<T>) {
    let slots: Box<[MailboxSlot<T>]> = (0..capacity).map(|_| MailboxSlot::new()).collect();
    let mailbox = Arc::new(Mailbox::with_slots(slots).expect("a power of two"));
    (Arc::clone(&mailbox), Receiver::new(mailbox).expect("the first"))
}

/// Pushes until there is room (unlike a poller), and calls `after` after each attempt.
fn insist(mailbox: &Boxed<Message>, mut message: Message, after: impl Fn()) {
    while let Err(refused) = mailbox.push(message) {
        assert!(matches!(refused, PushError::Full(_)));
        message = refused.into_inner();
        after();
        thread::yield_now();
    }
    after();
}

/// Pushes until the mailbox is closed. Returns how many messages were accepted.
fn push_until_closed(mailbox: &Boxed<Message>, producer: u32) -> u32 {
    let mut accepted = 0;
    loop {
        match mailbox.push(Box::new((producer, accepted))) {
            Ok(()) => accepted += 1,
            Err(PushError::Full(_)) => thread::yield_now(),
            Err(PushError::Closed(_)) => return accepted,
        }
    }
}

/// Pops until the mailbox is finished, and calls `idle` while it is empty.
fn drain<T>(receiver: &mut BoxedReceiver<T>, mut item: impl FnMut(T), idle: impl Fn()) {
    loop {
        match receiver.pop() {
            TryRecv::Item(value) => item(value),
            TryRecv::Empty => idle(),
            TryRecv::Finished => return,
        }
    }
}

/// The number of messages received in order from each producer.
#[derive(Default)]
struct Arrived([u32; PRODUCERS.len()]);

impl Arrived {
    fn check(&mut self, message: &Message) {
        let (producer, number) = **message;
        let next = &mut self.0[producer as usize];
        assert_eq!(number, *next, "out of order from producer {producer}");
        *next += 1;
    }
}

/// Runs the producers, then closes the mailbox. Receives on the current thread.
fn run(capacity: usize, messages: u32, wake: impl Fn() + Sync, idle: impl Fn()) {
    let (mailbox, mut receiver) = mailbox(capacity);
    let mut arrived = Arrived::default();
    thread::scope(|scope| {
        let (mailbox, wake) = (&mailbox, &wake);
        let producers = PRODUCERS.map(|producer| {
            scope.spawn(move || {
                (0..messages).for_each(|number| insist(mailbox, Box::new((producer, number)), wake));
            })
        });
        scope.spawn(move || {
            producers.into_iter().for_each(|producer| producer.join().expect("no panic"));
            mailbox.close();
            wake();
        });
        drain(&mut receiver, |message| arrived.check(&message), idle);
    });
    assert_eq!(arrived.0, [messages; PRODUCERS.len()]);
}

#[test]
fn every_message_arrives_once_and_in_its_producers_order() {
    for capacity in [1, 2, 64] {
        run(capacity, MESSAGES, || (), thread::yield_now);
    }
}

/// The receiver really sleeps, so a lost wake-up would hang the test.
#[test]
fn a_sleeping_receiver_is_always_woken() {
    let flag = WakeFlag::new();
    let sleeper = thread::current();
    let wake = || {
        if flag.notify() {
            sleeper.unpark();
        }
    };
    let idle = || {
        if flag.try_sleep() {
            thread::park();
            flag.awake();
        }
    };
    run(4, MESSAGES / 4, wake, idle);
}

#[test]
fn a_close_in_the_middle_loses_nothing_and_doubles_nothing() {
    for round in 0..if cfg!(miri) { 5 } else { 300 } {
        let (mailbox, mut receiver) = mailbox(4);
        let mut arrived = Arrived::default();
        let accepted = thread::scope(|scope| {
            let mailbox = &mailbox;
            let producers =
                PRODUCERS.map(|producer| scope.spawn(move || push_until_closed(mailbox, producer)));
            scope.spawn(move || {
                (0..round % 17).for_each(|_| thread::yield_now());
                assert!(mailbox.close());
            });
            drain(&mut receiver, |message| arrived.check(&message), thread::yield_now);
            producers.map(|producer| producer.join().expect("no panic"))
        });
        assert_eq!(accepted, arrived.0);
    }
}

/// Repeatedly reserves and sends; a refused reservation is released.
fn accept(load: &Arc<Load>, max: u32, mailbox: &Boxed<Reservation<Arc<Load>>>) {
    for _ in 0..MESSAGES / 4 {
        if let Some(reservation) = Reservation::try_acquire(Arc::clone(load), max) {
            drop(mailbox.push(reservation));
        }
        assert!(load.get() <= max);
    }
}

fn keep(owned: &mut Reservation<Arc<Load>>, count: u32) {
    while owned.count() > count {
        assert!(owned.release());
    }
}

#[test]
fn the_load_keeps_its_limit_and_ends_at_zero() {
    let load = Arc::new(Load::new());
    let (mailbox, mut receiver) = mailbox(2);
    let mut owned = Reservation::none(Arc::clone(&load));
    thread::scope(|scope| {
        let (load, mailbox) = (&load, &mailbox);
        let acceptors = PRODUCERS.map(|_| scope.spawn(|| accept(load, 5, mailbox)));
        scope.spawn(|| {
            acceptors.into_iter().for_each(|acceptor| acceptor.join().expect("no panic"));
            mailbox.close();
        });
        let mut adopted = 0_u32;
        let adopt = |reservation| {
            owned.merge(reservation);
            adopted += 1;
            keep(&mut owned, adopted % 5);
        };
        drain(&mut receiver, adopt, thread::yield_now);
        assert!(adopted > 0);
    });
    assert_eq!(load.get(), owned.count());
    drop(owned);
    assert_eq!(load.get(), 0);
}
