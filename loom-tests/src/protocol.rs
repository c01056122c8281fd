//! The order of calls that a driver keeps, around the shipped parts: what the models run and the mutants break.

use loom::sync::{Arc, Notify};
use loom::thread::Thread;

use crate::sync::{Mailbox, Popped, PushError, Receiver, Slot, WakeFlag};

/// A mailbox whose capacity is chosen at run time, as on a host.
pub type Boxed<T> = Mailbox<T, Box<[Slot<T>]>>;

/// Makes a mailbox of `capacity` slots.
pub fn mailbox<T>(capacity: usize) -> Boxed<T> {
    let slots: Box<[Slot<T>]> = (0..capacity).map(|_| Slot::new()).collect();
    Mailbox::with_slots(slots).expect("a power of two")
}

/// What makes a blocked poller return: the eventfd of a model.
pub enum Waker {
    /// Returns from blocking only when woken.
    Exact(Thread),
    /// Returns from blocking without a reason as well, as a poller with a deadline does.
    Spurious(Notify),
}

impl Waker {
    /// The waker of the current thread.
    pub fn exact() -> Self {
        Self::Exact(loom::thread::current())
    }

    /// A waker for any one thread.
    pub fn spurious() -> Self {
        Self::Spurious(Notify::new())
    }

    fn wake(&self) {
        match self {
            Self::Exact(thread) => thread.unpark(),
            Self::Spurious(notify) => notify.notify(),
        }
    }

    fn block(&self) {
        match self {
            Self::Exact(_) => loom::thread::park(),
            Self::Spurious(notify) => notify.wait(),
        }
    }
}

/// The shared side of a poller.
pub struct Post<T> {
    /// Where its messages go.
    pub mailbox: Boxed<T>,
    flag: WakeFlag,
    waker: Waker,
    /// Statistics, which loom does not see.
    wakes: std::sync::atomic::AtomicUsize,
}

impl<T> Post<T> {
    /// The post of a poller that is woken by `waker`.
    pub fn new(capacity: usize, waker: Waker) -> Arc<Self> {
        Arc::new(Self { mailbox: mailbox(capacity), flag: WakeFlag::new(), waker, wakes: 0.into() })
    }

    /// Pushes `value` and sees to it that the poller looks at it.
    pub fn send(&self, value: T) -> Result<(), PushError<T>> {
        self.mailbox.push(value)?;
        self.notify();
        Ok(())
    }

    /// Closes the mailbox and sees to it that the poller looks at it.
    pub fn close(&self) {
        self.mailbox.close();
        self.notify();
    }

    /// How often the poller was woken.
    pub fn wakes(&self) -> usize {
        self.wakes.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn notify(&self) {
        if self.flag.notify() {
            self.wakes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.waker.wake();
        }
    }

    /// The poller's loop: drains, then sleeps, until `receive` has seen enough (`false`) or the mailbox is finished.
    /// How often it slept.
    pub fn poll(&self, mut receive: impl FnMut(T) -> bool) -> usize {
        let mut receiver = self.mailbox.receiver().expect("one poller");
        let mut sleeps = 0;
        while self.drain(&mut receiver, &mut receive) {
            if self.flag.try_sleep() {
                sleeps += 1;
                self.waker.block();
                self.flag.awake();
            }
        }
        sleeps
    }

    fn drain(&self, receiver: &mut Receiver<&Boxed<T>>, receive: &mut impl FnMut(T) -> bool) -> bool {
        loop {
            let more = match receiver.pop() {
                Popped::Item(value) => receive(value),
                Popped::Empty => return true,
                Popped::Finished => return false,
            };
            if !more {
                return false;
            }
        }
    }
}
