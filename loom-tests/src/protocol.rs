//! One poller's mailbox, wake flag and sleep, without the sockets: for models small enough to be explored far.

use core::time::Duration;
use std::sync::atomic::{AtomicUsize, Ordering};

use lightcone_core::{ListenerId, PollerId, Rejected, Token};
use loom::sync::Arc;

use crate::balance::{Balancer, Policy};
use crate::check::Racy;
use crate::hub::{Control, Hub, Inbox, Mail, Remote};
use crate::sync::{Mailbox, Popped, Slot};
use crate::waker::Waker;

/// A mailbox whose capacity is chosen at run time, as on a host.
pub type Boxed<T> = Mailbox<T, Box<[Slot<T>]>>;

/// Makes a mailbox of `capacity` slots.
pub fn mailbox<T>(capacity: usize) -> Boxed<T> {
    let slots: Box<[Slot<T>]> = (0..capacity).map(|_| Slot::new()).collect();
    Mailbox::with_slots(slots).expect("a power of two")
}

/// How a poller sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sleep {
    /// Until it is woken.
    Exact,
    /// At times it wakes for no reason.
    Spurious,
}

/// The shared side of a poller, with a hub of its own.
pub struct Post<T> {
    hub: Hub<T>,
    waker: std::sync::Arc<Waker>,
    /// Statistics, which loom does not see.
    wakes: std::sync::Arc<AtomicUsize>,
}

impl<T> Post<T> {
    /// The post of a poller.
    pub fn new(capacity: usize, sleep: Sleep) -> Arc<Self> {
        let waker = std::sync::Arc::new(match sleep {
            Sleep::Exact => Waker::exact(),
            Sleep::Spurious => Waker::spurious(),
        });
        let wakes = std::sync::Arc::new(AtomicUsize::new(0));
        let wake = {
            let (waker, wakes) = (std::sync::Arc::clone(&waker), std::sync::Arc::clone(&wakes));
            move || {
                wakes.fetch_add(1, Ordering::Relaxed);
                waker.wake();
            }
        };
        let balancer = Balancer::new(Policy::RoundRobin, 1).expect("one poller");
        let hub = Hub::new(Box::new([Remote::new(1, capacity, Box::new(wake))]), 1, balancer);
        Arc::new(Self { hub, waker, wakes })
    }

    fn remote(&self) -> &Remote<T> {
        self.hub.remote(PollerId(0)).expect("one poller")
    }

    /// Sends `value` to the poller.
    pub fn send(&self, value: T) -> Result<(), Rejected<T>> {
        self.hub.post(Token::from_bits(0), value, None)
    }

    /// Sends what concerns a socket to its owner, who alone may touch its data.
    pub fn send_about(&self, data: &Racy, value: T) -> Result<(), Rejected<T>> {
        let _ = data;
        self.send(value)
    }

    /// Gives the poller an order for which there is one place. Whether it was free.
    pub fn order(&self) -> bool {
        self.remote().tell(Control::Unlisten { id: ListenerId(0) }).is_ok()
    }

    /// Orders the poller to stop.
    pub fn order_to_stop(&self) {
        self.remote().tell_to_stop(Duration::from_secs(1));
    }

    /// The poller's loop over orders: until it is told to stop.
    pub fn obey(&self) {
        self.waker.is_for_me();
        let mut inbox = self.remote().control.receiver().expect("one poller");
        loop {
            while let Some((order, stop)) = self.remote().next_order(&mut inbox) {
                if stop.is_some() || matches!(order, Control::Stop { .. }) {
                    return;
                }
            }
            self.remote().sleep(None, |timeout| {
                if timeout.is_none() {
                    self.waker.block();
                }
            });
        }
    }

    /// Closes the mailbox and sees to it that the poller looks at it.
    pub fn close(&self) {
        self.remote().mail.close();
        self.remote().notify();
    }

    /// How often the poller was woken.
    pub fn wakes(&self) -> usize {
        self.wakes.load(Ordering::Relaxed)
    }

    /// The poller's loop: drains, then sleeps, until `receive` has seen enough (`false`) or the mailbox is finished.
    /// How often it slept.
    pub fn poll(&self, mut receive: impl FnMut(T) -> bool) -> usize {
        self.waker.is_for_me();
        let mut inbox = self.remote().mail.receiver().expect("one poller");
        let mut sleeps = 0;
        while drain(&mut inbox, &mut receive) {
            self.remote().sleep(None, |timeout| {
                if timeout.is_none() {
                    sleeps += 1;
                    self.waker.block();
                }
            });
        }
        sleeps
    }
}

fn drain<T>(inbox: &mut Inbox<'_, Mail<T>>, receive: &mut impl FnMut(T) -> bool) -> bool {
    loop {
        let more = match inbox.pop() {
            Popped::Item(Mail::Post(_, value) | Mail::Broadcast(value, _)) => receive(value),
            Popped::Empty => return true,
            Popped::Finished => return false,
        };
        if !more {
            return false;
        }
    }
}
