//! The mailbox alone: order, capacity, close, and exclusive access to slots.

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::sync::Arc;
use loom::thread::{self, JoinHandle};
use loom_tests::protocol::{Boxed, mailbox};
use loom_tests::sync::{Mailbox, MailboxSlot, PushError, Receiver, TryRecv};
use loom_tests::{Racy, Seen, check, check_all, unordered_hand_over};

#[test]
#[should_panic(expected = "Causality violation")]
fn self_check() {
    unordered_hand_over();
}

type Values = Arc<Boxed<u32>>;

/// Pushes `values` and returns the accepted ones. A refused push must return the same value.
fn push(mailbox: &Boxed<u32>, values: &[u32]) -> Vec<u32> {
    let accepted = |value: &u32| match mailbox.push(*value) {
        Ok(()) => true,
        Err(refused) => {
            assert_eq!(refused.into_inner(), *value);
            false
        }
    };
    values.iter().copied().filter(accepted).collect()
}

fn producer(mailbox: &Values, values: &'static [u32]) -> JoinHandle<Vec<u32>> {
    let mailbox = Arc::clone(mailbox);
    thread::spawn(move || push(&mailbox, values))
}

/// The receiver, with the values received so far.
struct Consumer {
    receiver: Receiver<Values>,
    popped: Vec<u32>,
    finished: bool,
}

impl Consumer {
    fn new(mailbox: &Values) -> Self {
        let receiver = Receiver::new(Arc::clone(mailbox)).expect("the first");
        Self { receiver, popped: Vec::new(), finished: false }
    }

    /// Drains once on a separate thread.
    fn start(mailbox: &Values) -> JoinHandle<Self> {
        let mut consumer = Self::new(mailbox);
        thread::spawn(move || {
            consumer.drain();
            consumer
        })
    }

    /// Pops all available values.
    fn drain(&mut self) {
        loop {
            match self.receiver.pop() {
                TryRecv::Item(value) => {
                    assert!(!self.finished, "something came after the end");
                    self.popped.push(value);
                }
                TryRecv::Empty => {
                    assert!(!self.finished, "the end was not final");
                    return;
                }
                TryRecv::Finished => {
                    self.finished = true;
                    return;
                }
            }
        }
    }

    /// Returns the values of one producer, which share their tens digit.
    fn of_producer(&self, tens: u32) -> Vec<u32> {
        self.popped.iter().copied().filter(|value| value / 10 == tens).collect()
    }
}

/// Two producers and a consumer at once, then a drain: accepted values arrive once and in the order of their producer.
fn three_messages(capacity: usize, seen: &Seen) {
    let mailbox = Arc::new(mailbox(capacity));
    let (consumer, two) = (Consumer::start(&mailbox), producer(&mailbox, &[20]));
    let one = push(&mailbox, &[10, 11]);
    let mut consumer = consumer.join().expect("no panic");
    let early = consumer.popped.len();
    let two = two.join().expect("no panic");
    consumer.drain();
    let accepted = one.len() + two.len();
    seen.note("popped while pushing", early > 0);
    seen.note("popped later", early < accepted);
    seen.note("refused", accepted < 3);
    seen.note("a slot used again", accepted > capacity);
    assert!(accepted > 0, "an empty mailbox refused all");
    assert_eq!(consumer.popped.len(), accepted);
    assert_eq!((consumer.of_producer(1), consumer.of_producer(2)), (one, two));
}

const THREE_MESSAGES: [&str; 4] = ["popped while pushing", "popped later", "refused", "a slot used again"];

/// Three messages through two slots: the first slot serves the next lap as well.
#[test]
fn order_of_each_producer_and_wrap() {
    check("mailbox::order_of_each_producer_and_wrap", &THREE_MESSAGES, |seen| three_messages(2, seen));
}

/// A single slot, which each lap may be used by another producer.
#[test]
fn one_slot_for_two_producers() {
    check("mailbox::one_slot_for_two_producers", &THREE_MESSAGES, |seen| three_messages(1, seen));
}

/// As many slots as messages: no push returns `Full`, however old a tail it has seen.
#[test]
fn room_is_not_refused() {
    check("mailbox::room_is_not_refused", &["the other was first", "this was first"], |seen| {
        let mailbox = Arc::new(mailbox(2));
        let two = producer(&mailbox, &[20]);
        let accepted = push(&mailbox, &[10]).len() + two.join().expect("no panic").len();
        assert_eq!(accepted, 2);
        let mut consumer = Consumer::new(&mailbox);
        consumer.drain();
        seen.note("the other was first", consumer.popped == [20, 10]);
        seen.note("this was first", consumer.popped == [10, 20]);
    });
}

/// Like above, with two pushes by one producer: the slot that it finds may be in any state of the first lap.
#[test]
fn three_slots_for_three_messages() {
    check("mailbox::three_slots_for_three_messages", &["between"], |seen| {
        let mailbox = Arc::new(mailbox(4));
        let two = producer(&mailbox, &[20]);
        let accepted = push(&mailbox, &[10, 11]).len() + two.join().expect("no panic").len();
        assert_eq!(accepted, 3);
        let mut consumer = Consumer::new(&mailbox);
        consumer.drain();
        seen.note("between", consumer.popped == [10, 20, 11]);
    });
}

/// More messages than slots and no consumer: the excess is refused, and each refusal returns the value.
#[test]
fn full_returns_the_value() {
    check("mailbox::full_returns_the_value", &["the other was first", "this was first"], |seen| {
        let mailbox = Arc::new(mailbox(1));
        let two = producer(&mailbox, &[20]);
        let accepted = [push(&mailbox, &[10]), two.join().expect("no panic")].concat();
        assert_eq!(accepted.len(), 1);
        let mut consumer = Consumer::new(&mailbox);
        consumer.drain();
        assert_eq!(consumer.popped, accepted);
        assert_eq!(mailbox.push(30), Ok(()));
        assert_eq!(mailbox.push(40), Err(PushError::Full(40)));
        seen.note("the other was first", accepted == [20]);
        seen.note("this was first", accepted == [10]);
    });
}

/// A close concurrent with a producer, the closer's own push and a receiver: each push is delivered or refused, and
/// `Finished` is final.
#[test]
fn close_delivers_or_refuses() {
    let outcomes = ["end seen at once", "end not seen at once", "closed first", "pushed first"];
    check("mailbox::close_delivers_or_refuses", &outcomes, |seen| {
        let mailbox = Arc::new(mailbox(2));
        let (consumer, two) = (Consumer::start(&mailbox), producer(&mailbox, &[20]));
        let one = push(&mailbox, &[10]);
        mailbox.close();
        let mut consumer = consumer.join().expect("no panic");
        seen.note("end seen at once", consumer.finished);
        seen.note("end not seen at once", !consumer.finished);
        let two = two.join().expect("no panic");
        seen.note("closed first", two.is_empty());
        seen.note("pushed first", !two.is_empty());
        consumer.drain();
        assert!(consumer.finished);
        assert_eq!((consumer.of_producer(1), consumer.of_producer(2)), (one, two));
    });
}

/// Two pushes and a close by another thread: the close takes effect at one point, so the first push is not refused
/// alone.
#[test]
fn close_cuts_once() {
    check_all("mailbox::close_cuts_once", &["before", "between", "after"], |seen| {
        let mailbox = Arc::new(mailbox(2));
        let closer = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || mailbox.close()
        });
        let accepted = push(&mailbox, &[10, 11]);
        assert!(closer.join().expect("no panic"));
        seen.note("before", accepted.is_empty());
        seen.note("between", accepted == [10]);
        seen.note("after", accepted == [10, 11]);
        let mut consumer = Consumer::new(&mailbox);
        consumer.drain();
        assert!(consumer.finished);
        assert_eq!(consumer.popped, accepted);
    });
}

/// A receiver of the end sees what the closer wrote before.
#[test]
fn the_end_publishes() {
    check_all("mailbox::the_end_publishes", &["end seen", "end not seen"], |seen| {
        let mailbox = Arc::new(mailbox::<()>(1));
        let last = Arc::new(Racy::new());
        let closer = thread::spawn({
            let (mailbox, last) = (Arc::clone(&mailbox), Arc::clone(&last));
            move || {
                last.touch();
                mailbox.close();
            }
        });
        let finished = matches!(mailbox.receiver().expect("the first").pop(), TryRecv::Finished);
        if finished {
            last.touch();
        }
        seen.note("end seen", finished);
        seen.note("end not seen", !finished);
        closer.join().expect("no panic");
    });
}

/// Only one of two threads becomes the receiver.
#[test]
fn one_receiver() {
    check_all("mailbox::one_receiver", &["this", "the other"], |seen| {
        let mailbox = Arc::new(mailbox::<u32>(1));
        let other = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || mailbox.receiver().is_some()
        });
        let (this, other) = (mailbox.receiver().is_some(), other.join().expect("no panic"));
        assert!(this != other);
        seen.note("this", this);
        seen.note("the other", other);
    });
}

/// Values that are not popped are dropped with the mailbox, on any thread: loom reports an `Arc` that leaks.
#[test]
fn drop_leaks_nothing() {
    check("mailbox::drop_leaks_nothing", &["popped", "left"], |seen| {
        let mailbox = Arc::new(mailbox(2));
        let consumer = thread::spawn({
            let mut receiver = Receiver::new(Arc::clone(&mailbox)).expect("the first");
            move || receiver.pop().item().is_some()
        });
        let producer = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || drop(mailbox.push(Arc::new(())))
        });
        drop(mailbox.push(Arc::new(())));
        drop(mailbox);
        let popped = consumer.join().expect("no panic");
        producer.join().expect("no panic");
        seen.note("popped", popped);
        seen.note("left", !popped);
    });
}

/// A storage that incorrectly lends the same slots to two mailboxes.
struct Shared(Arc<Vec<MailboxSlot<u32>>>);

impl AsRef<[MailboxSlot<u32>]> for Shared {
    fn as_ref(&self) -> &[MailboxSlot<u32>] {
        &self.0
    }
}

fn two_over_one_slot() -> [Arc<Mailbox<u32, Shared>>; 2] {
    let slots = Arc::new(vec![MailboxSlot::new()]);
    [(); 2].map(|()| Arc::new(Mailbox::with_slots(Shared(Arc::clone(&slots))).expect("a power of two")))
}

/// Even with shared slots, producers never overwrite each other: one of them is refused, or panics.
#[test]
fn shared_slots_are_written_by_one() {
    check("mailbox::shared_slots_are_written_by_one", &["refused", "panicked"], |seen| {
        let [one, two] = two_over_one_slot();
        let attempt = |mailbox: Arc<Mailbox<u32, Shared>>| catch_unwind(AssertUnwindSafe(|| mailbox.push(1)));
        let other = thread::spawn(move || attempt(two));
        let pushes = [attempt(one), other.join().expect("caught")];
        assert_eq!(pushes.iter().filter(|push| matches!(push, Ok(Ok(())))).count(), 1);
        seen.note("refused", pushes.iter().any(|push| matches!(push, Ok(Err(_)))));
        seen.note("panicked", pushes.iter().any(Result::is_err));
    });
}

/// Even with shared slots, a value is never taken twice.
#[test]
fn shared_slots_are_read_by_one() {
    check("mailbox::shared_slots_are_read_by_one", &["this", "the other"], |seen| {
        let [one, two] = two_over_one_slot();
        assert_eq!(one.push(1), Ok(()));
        let other = thread::spawn(move || two.receiver().expect("the first").pop().item());
        let this = one.receiver().expect("the first").pop().item();
        let other = other.join().expect("no panic");
        assert_eq!(this.xor(other), Some(1));
        seen.note("this", this.is_some());
        seen.note("the other", other.is_some());
    });
}
