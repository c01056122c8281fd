//! The mailboxes, wake flag and sleep of one poller, without sockets: for models that are small enough to explore
//! deeply.

use core::time::Duration;
use std::sync::atomic::{AtomicUsize, Ordering};

use lightcone_core::{ListenerId, PollerId, Rejected, Token};
use lightcone_model::shipped::{InMemory, Waker};
use loom::sync::Arc;
use loom::thread::yield_now;

use crate::Racy;
use crate::poller::{Command, Envelope, Group, Member, Membership as _, PollerHandle};
use crate::sync::{Load, Mailbox, MailboxSlot};

/// A mailbox with a capacity that is chosen at run time, as on a host.
pub type Boxed<T> = Mailbox<T, Box<[MailboxSlot<T>]>>;

/// Creates a mailbox of `capacity` slots.
pub fn mailbox<T>(capacity: usize) -> Boxed<T> {
    Mailbox::with_slots(slots(capacity)).expect("a power of two")
}

fn slots<T>(capacity: usize) -> Box<[MailboxSlot<T>]> {
    (0..capacity).map(|_| MailboxSlot::new()).collect()
}

/// How a poller sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sleep {
    /// Until it is woken.
    Exact,
    /// With spurious wake-ups.
    Spurious,
}

/// The shared side of a poller, which is alone in its group.
pub struct Post<T> {
    pollers: [PollerHandle<T, InMemory>; 1],
    waker: std::sync::Arc<Waker>,
    /// The number of wake-ups, a statistic that loom does not see.
    wakes: std::sync::Arc<AtomicUsize>,
    commands: AtomicUsize,
}

impl<T> Post<T> {
    /// Creates the shared side of a poller, with room for one command.
    pub fn new(capacity: usize, sleep: Sleep) -> Arc<Self> {
        let waker = std::sync::Arc::new(match sleep {
            Sleep::Exact => Waker::exact(),
            Sleep::Spurious => Waker::spurious(),
        });
        let wakes = std::sync::Arc::new(AtomicUsize::new(0));
        let wake: Box<dyn Fn() + Send + Sync> = {
            let (waker, wakes) = (std::sync::Arc::clone(&waker), std::sync::Arc::clone(&wakes));
            Box::new(move || {
                wakes.fetch_add(1, Ordering::Relaxed);
                waker.wake();
            })
        };
        let load = std::sync::Arc::new(Load::new());
        let handle = PollerHandle::new(slots(1), slots(capacity), load, wake).expect("powers of two");
        Arc::new(Self { pollers: [handle], waker, wakes, commands: AtomicUsize::new(0) })
    }

    fn group(&self) -> Group<'_, T, InMemory> {
        Group::new(&self.pollers, 1)
    }

    fn handle(&self) -> &PollerHandle<T, InMemory> {
        &self.pollers[0]
    }

    /// Sends `value` to the poller.
    pub fn send(&self, value: T) -> Result<(), Rejected<T>> {
        self.group().post(Token::from_bits(0), value, None)
    }

    /// Sends a message about a socket to its owner, the only thread that may touch its data.
    pub fn send_about(&self, data: &Racy, value: T) -> Result<(), Rejected<T>> {
        let _ = data;
        self.send(value)
    }

    /// Sends a command to the poller, which has room for one. Returns whether there was room.
    pub fn command(&self) -> bool {
        self.handle().send_command(Command::CloseListener { id: ListenerId(0) }).is_ok()
    }

    /// Stops the poller, as soon as there is room for the command or the poller takes another one.
    pub fn stop(&self) {
        self.handle().stop(Duration::from_secs(1));
    }

    /// Returns the number of commands that have arrived, without stops.
    pub fn commands(&self) -> usize {
        self.commands.load(Ordering::Relaxed)
    }

    /// Returns how often the poller was woken.
    pub fn wakes(&self) -> usize {
        self.wakes.load(Ordering::Relaxed)
    }

    /// Runs the poller's loop: drains, then sleeps, until `receive` returns `false`, or the poller is stopped and
    /// nothing more can arrive. Returns how often it slept.
    pub fn poll(&self, mut receive: impl FnMut(T) -> bool) -> usize {
        self.waker.is_for_me();
        let mut member = Member::new(self.group(), PollerId(0), None).expect("one poller");
        let (mut sleeps, mut stopped) = (0, false);
        loop {
            while let Some(command) = member.next_command() {
                let is_stop = matches!(command, Command::Stop { .. });
                stopped |= is_stop;
                self.commands.fetch_add(usize::from(!is_stop), Ordering::Relaxed);
            }
            if stopped {
                member.close();
            }
            if !drain(&mut member, &mut receive) || member.is_finished() {
                return sleeps;
            }
            if stopped {
                yield_now(); // another thread's push is in progress
                continue;
            }
            sleeps += self.sleep();
        }
    }

    /// Sleeps, unless something was pushed. Returns the number of sleeps, 0 or 1.
    fn sleep(&self) -> usize {
        self.handle().sleep(None, |timeout| {
            let sleeps = timeout.is_none();
            sleeps.then(|| self.waker.block());
            usize::from(sleeps)
        })
    }
}

/// Receives all queued messages. Returns `false` if `receive` did.
fn drain<T>(member: &mut Member<'_, T, InMemory>, receive: &mut impl FnMut(T) -> bool) -> bool {
    while let Some(value) = member.next_envelope().map(Envelope::into_message) {
        if !receive(value) {
            return false;
        }
    }
    true
}
