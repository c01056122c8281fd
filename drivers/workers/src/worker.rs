//! The thread of one worker.

use alloc::sync::Arc;
use core::panic::AssertUnwindSafe;
use core::time::Duration;
use std::panic::catch_unwind;

use lightcone_core::{Config, Context, Handler, Instant, Rejected};
use lightcone_unix::clock::Clock;

use crate::bridge::Bridge;
use crate::locks::{Mutex, PoisonError, TryLockError, sleep};
use crate::message::{Offloaded, OffloadedKind};
use crate::outbox::WorkerOutbox;
use crate::scheduler::{Counts, Job, Scheduler, Task};
use crate::shadow::Shadow;

/// The interval at which a poller with a full mailbox is retried.
const RETRY: Duration = Duration::from_millis(1);
/// The maximum number of retries before the worker ends.
const LAST_RETRIES: usize = 500;

/// The shadow slots. The worker that holds a socket's permit locks its slot.
pub(crate) type Shadows<'s, H> = [Mutex<Shadow<'s, H>>];

/// The state of one worker.
pub(crate) struct Worker<'a, H: Handler> {
    id: usize,
    scheduler: &'a Scheduler<H::Message>,
    counts: &'a Counts,
    config: &'a Config,
    handler: H,
    /// The buffer that input is lent from.
    buffer: Vec<u8>,
    clock: Clock,
    now: Instant,
    unix_time: u64,
}

impl<'a, H: Handler> Worker<'a, H> {
    /// Creates worker `id`. Returns `None` if there is no such worker.
    pub(crate) fn new(
        id: usize,
        scheduler: &'a Scheduler<H::Message>,
        config: &'a Config,
        handler: H,
    ) -> Option<Self> {
        let counts = scheduler.counts.get(id)?;
        let buffer = vec![0; config.receive_size];
        let (clock, now) = (Clock::new(), Instant::from_millis(Clock::now_ms()));
        Some(Self { id, scheduler, counts, config, handler, buffer, clock, now, unix_time: 0 })
    }

    pub(crate) const fn id(&self) -> usize {
        self.id
    }

    pub(crate) const fn now(&self) -> Instant {
        self.now
    }

    pub(crate) const fn counts(&self) -> &'a Counts {
        self.counts
    }

    pub(crate) const fn config(&self) -> &'a Config {
        self.config
    }

    pub(crate) const fn input_max(&self) -> usize {
        self.scheduler.limits().input
    }

    pub(crate) const fn handler_mut(&mut self) -> &mut H {
        &mut self.handler
    }

    pub(crate) fn buffer_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// Returns what a callback of this socket needs: the handler, the buffer that input is lent from, and
    /// what its context is made of.
    pub(crate) fn callback<'b>(
        &'b mut self,
        bridge: &'b Bridge<H::Message>,
    ) -> (&'b mut H, &'b mut [u8], Surroundings<'b, H::Message>) {
        let (now, unix_time) = (self.now, Some(self.unix_time));
        (
            &mut self.handler,
            &mut self.buffer,
            Surroundings { outbox: WorkerOutbox { bridge }, now, unix_time },
        )
    }

    /// Runs sockets until the scheduler is closed, then aborts the remaining ones.
    pub(crate) fn work(&mut self, places: &Shadows<'_, H>) {
        let mut again = None;
        loop {
            match self.scheduler.next(self.id, again.take(), RETRY) {
                Task::Run(job) => again = self.run(job, places),
                Task::Retry => {}
                Task::End => break,
            }
            self.notify_pending();
        }
        self.abort_all(places);
        for _ in 0..LAST_RETRIES {
            if !self.notify_pending() {
                return;
            }
            sleep(RETRY);
        }
    }

    /// Runs one turn of a socket. Returns the job if the socket needs another turn.
    fn run(&mut self, job: Job<H::Message>, places: &Shadows<'_, H>) -> Option<Job<H::Message>> {
        let Job { bridge, mut pass } = job;
        let place = places.get(bridge.place as usize)?;
        self.counts.turns.add(1);
        self.refresh_clock();
        // Before the bridge is read: a post that comes after this makes `try_release` fail, and the socket
        // runs again.
        pass.begin(&bridge.gate);
        // Never contended while the workers run, since the permit already excludes other workers. The mutex
        // makes that visible to the compiler.
        let mut shadow = place.lock().unwrap_or_else(PoisonError::into_inner);
        if bridge.exchange().over {
            return None; // aborted by another worker at the end
        }
        let again = shadow.turn(&bridge, self);
        let over = shadow.is_over();
        drop(shadow);
        if over {
            self.scheduler.release_place(bridge.place);
            return None; // the permit is dropped, so the socket is never scheduled again
        }
        if again {
            return Some(Job { bridge, pass });
        }
        let pass = pass.try_release(&bridge.gate).err()?;
        Some(Job { bridge, pass })
    }

    fn refresh_clock(&mut self) {
        let millis = Clock::now_ms();
        self.now = Instant::from_millis(millis);
        self.unix_time = self.clock.unix_seconds(millis);
    }

    /// Notifies a socket's poller that the bridge contains something for it. If its mailbox is full, a retry
    /// is queued.
    pub(crate) fn notify(&self, bridge: &Arc<Bridge<H::Message>>) {
        // if the poller has ended, so has the socket
        if let Err(Rejected::Full(_)) = bridge.link.post(bridge.token, Offloaded(OffloadedKind::Ready)) {
            self.scheduler.defer(Arc::clone(bridge));
        }
    }

    /// Retries all refused notifications once. Returns whether there were any.
    fn notify_pending(&self) -> bool {
        let unnotified = self.scheduler.take_unnotified();
        unnotified.iter().for_each(|bridge| self.notify(bridge));
        !unnotified.is_empty()
    }

    /// Drops and counts a message that can no longer be delivered. Its destructor may panic.
    pub(crate) fn drop_message(&self, message: H::Message) {
        self.counts.lost.add(1);
        if catch_unwind(AssertUnwindSafe(|| drop(message))).is_err() {
            self.counts.panics.add(1);
        }
    }

    /// Aborts all sockets except those that other workers are running; each of these aborts the rest when its
    /// callback returns.
    fn abort_all(&mut self, places: &Shadows<'_, H>) {
        self.refresh_clock();
        // A queued socket that has not had its first turn is in no shadow slot yet, so the loop below would
        // miss it.
        while let Some(Job { bridge, .. }) = self.scheduler.take_leftover() {
            let Some(place) = places.get(bridge.place as usize) else { continue };
            let mut shadow = place.lock().unwrap_or_else(PoisonError::into_inner);
            let unknown = shadow.is_over() && !bridge.exchange().over;
            if unknown {
                shadow.turn_away(&bridge, self);
                drop(shadow);
                self.scheduler.release_place(bridge.place);
            }
        }
        for (place, number) in places.iter().zip(0..) {
            let mut shadow = match place.try_lock() {
                Ok(shadow) => shadow,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                // the worker that holds it gets here later and aborts the socket then
                Err(TryLockError::WouldBlock) => continue,
            };
            if !shadow.is_over() {
                shadow.abort(self);
                drop(shadow);
                self.scheduler.release_place(number);
            }
        }
    }
}

/// What a callback receives besides its socket.
pub(crate) struct Surroundings<'b, M> {
    outbox: WorkerOutbox<'b, M>,
    now: Instant,
    unix_time: Option<u64>,
}

impl<'b, M> Surroundings<'b, M> {
    pub(crate) const fn bridge(&self) -> &'b Bridge<M> {
        self.outbox.bridge
    }

    pub(crate) fn context(&mut self) -> Context<'_, M> {
        let poller = self.bridge().token.poller();
        Context::new(self.now, self.unix_time, poller, &mut self.outbox)
    }
}
