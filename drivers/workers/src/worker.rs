//! The thread of one worker.

use alloc::collections::VecDeque;
use core::panic::AssertUnwindSafe;
use core::time::Duration;
use std::panic::catch_unwind;

use lightcone_core::{Config, Handler, Instant};
use lightcone_unix::clock::Clock;

use crate::locks::{Mutex, PoisonError, TryLockError, sleep};
use crate::scheduler::{Counts, Job, Scheduler, Task};
use crate::shadow::Shadow;

/// The interval at which a poller with a full mailbox is retried.
const RETRY: Duration = Duration::from_millis(1);
/// The maximum number of retries before the worker ends.
const LAST_RETRIES: usize = 500;

/// The shadow slots. The worker that holds a socket's permit locks its slot.
pub(crate) type Shadows<'s, H> = [Mutex<Shadow<'s, H>>];

/// The state of one worker. Most of it is used by the shadows whose callbacks the worker runs.
pub(crate) struct Worker<'a, H: Handler> {
    pub(crate) id: usize,
    pub(crate) scheduler: &'a Scheduler<H::Message>,
    pub(crate) counts: &'a Counts,
    pub(crate) config: &'a Config,
    pub(crate) handler: H,
    /// The buffer that input is lent from.
    pub(crate) buffer: Vec<u8>,
    clock: Clock,
    /// When the turn of the current socket began.
    pub(crate) now: Instant,
    pub(crate) unix_time: u64,
}

impl<'a, H: Handler> Worker<'a, H> {
    /// Creates worker `id`, one of those of the scheduler.
    pub(crate) fn new(
        id: usize,
        scheduler: &'a Scheduler<H::Message>,
        config: &'a Config,
        handler: H,
    ) -> Self {
        let Some(counts) = scheduler.counts.get(id) else { unreachable!("the scheduler has no worker {id}") };
        let buffer = vec![0; config.receive_size];
        let (clock, now) = (Clock::new(), Instant::from_millis(Clock::now_ms()));
        Self { id, scheduler, counts, config, handler, buffer, clock, now, unix_time: 0 }
    }

    /// Runs sockets until the scheduler is closed, then aborts the remaining ones.
    pub(crate) fn work(&mut self, places: &Shadows<'_, H>) {
        let mut again = None;
        let leftover = loop {
            match self.scheduler.next(self.id, again.take(), RETRY) {
                Task::Run(job) => again = self.run(job, places),
                Task::Retry => {}
                Task::End(leftover) => break leftover,
            }
            self.scheduler.notify_pending();
        };
        self.abort_all(leftover, places);
        for _ in 0..LAST_RETRIES {
            if !self.scheduler.notify_pending() {
                return;
            }
            sleep(RETRY);
        }
    }

    /// Runs one turn of a socket. Returns the job if the socket needs another turn.
    fn run(&mut self, job: Job<H::Message>, places: &Shadows<'_, H>) -> Option<Job<H::Message>> {
        let Job { bridge, mut pass } = job;
        let Some(place) = places.get(bridge.place as usize) else { unreachable!("a place of the scheduler") };
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

    /// Drops and counts a message that can no longer be delivered. Its destructor may panic.
    pub(crate) fn drop_message(&self, message: H::Message) {
        self.counts.lost.add(1);
        if catch_unwind(AssertUnwindSafe(|| drop(message))).is_err() {
            self.counts.panics.add(1);
        }
    }

    /// Aborts all sockets except those that other workers are running; each of these aborts the rest when its
    /// callback returns.
    fn abort_all(&mut self, leftover: VecDeque<Job<H::Message>>, places: &Shadows<'_, H>) {
        self.refresh_clock();
        // A queued socket that has not had its first turn is in no shadow slot yet, so the loop below would
        // miss it.
        for Job { bridge, .. } in leftover {
            let Some(place) = places.get(bridge.place as usize) else {
                unreachable!("a place of the scheduler")
            };
            let mut shadow = place.lock().unwrap_or_else(PoisonError::into_inner);
            let unknown = shadow.is_over() && !bridge.exchange().over;
            if unknown {
                shadow.abort(&bridge, self);
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
            if let Some(bridge) = shadow.bridge.clone() {
                shadow.abort(&bridge, self);
                drop(shadow);
                self.scheduler.release_place(number);
            }
        }
    }
}
