//! One worker's thread.

use alloc::sync::Arc;
use core::panic::AssertUnwindSafe;
use core::time::Duration;
use std::panic::catch_unwind;

use lightcone_core::{Config, Context, Handler, Instant, Rejected};
use lightcone_unix::clock::Clock;

use crate::crew::{Counts, Crew, Duty, Job};
use crate::lane::Lane;
use crate::locks::{Mutex, PoisonError, TryLockError, sleep};
use crate::message::{Kind, Offloaded};
use crate::outbox::WorkerOutbox;
use crate::stand_in::StandIn;

/// How often a poller with a full mailbox is tried again.
const RETRY: Duration = Duration::from_millis(1);
/// How often at most when the worker is about to end.
const LAST_RETRIES: usize = 500;

/// The stand-ins' places: each is locked by whoever has the pass of the socket in it.
pub(crate) type Places<'s, H> = [Mutex<StandIn<'s, H>>];

/// What one worker has to itself.
pub(crate) struct Worker<'a, H: Handler> {
    id: usize,
    crew: &'a Crew<H::Message>,
    counts: &'a Counts,
    config: &'a Config,
    handler: H,
    /// Where input is lent from.
    buffer: Vec<u8>,
    clock: Clock,
    now: Instant,
    unix_time: u64,
}

impl<'a, H: Handler> Worker<'a, H> {
    /// `None` if there is no such worker.
    pub(crate) fn new(id: usize, crew: &'a Crew<H::Message>, config: &'a Config, handler: H) -> Option<Self> {
        let counts = crew.counts.get(id)?;
        let buffer = vec![0; config.receive_size];
        let (clock, now) = (Clock::new(), Instant::from_millis(Clock::now_ms()));
        Some(Self { id, crew, counts, config, handler, buffer, clock, now, unix_time: 0 })
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
        self.crew.limits().input
    }

    pub(crate) const fn handler_mut(&mut self) -> &mut H {
        &mut self.handler
    }

    pub(crate) fn buffer_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// Returns what runs a callback of this socket: the handler, the buffer that input is lent from, and what contexts
    /// are made of.
    pub(crate) fn callback<'b>(
        &'b mut self,
        lane: &'b Lane<H::Message>,
    ) -> (&'b mut H, &'b mut [u8], Surroundings<'b, H::Message>) {
        let (now, unix_time) = (self.now, Some(self.unix_time));
        (&mut self.handler, &mut self.buffer, Surroundings { outbox: WorkerOutbox { lane }, now, unix_time })
    }

    /// Runs sockets until nobody works any more; then ends those that are left.
    pub(crate) fn work(&mut self, places: &Places<'_, H>) {
        let mut again = None;
        loop {
            match self.crew.next(self.id, again.take(), RETRY) {
                Duty::Run(job) => again = self.run(job, places),
                Duty::Retry => {}
                Duty::End => break,
            }
            self.tell_untold();
        }
        self.abort_all(places);
        for _ in 0..LAST_RETRIES {
            if !self.tell_untold() {
                return;
            }
            sleep(RETRY);
        }
    }

    /// Gives a socket one turn; the job back, if it wants another.
    fn run(&mut self, job: Job<H::Message>, places: &Places<'_, H>) -> Option<Job<H::Message>> {
        let Job { lane, mut pass } = job;
        let place = places.get(lane.place as usize)?;
        self.counts.turns.add(1);
        self.look_at_the_clock();
        pass.look(&lane.gate);
        let mut stand_in = place.lock().unwrap_or_else(PoisonError::into_inner);
        if lane.exchange().over {
            return None; // ended by another worker, as nobody works any more
        }
        let again = stand_in.turn(&lane, self);
        let over = stand_in.is_over();
        drop(stand_in);
        if over {
            self.crew.give_back(lane.place);
            return None; // the pass ends with the socket: nobody runs it again
        }
        if again {
            return Some(Job { lane, pass });
        }
        let pass = pass.leave(&lane.gate).err()?;
        Some(Job { lane, pass })
    }

    fn look_at_the_clock(&mut self) {
        let millis = Clock::now_ms();
        self.now = Instant::from_millis(millis);
        self.unix_time = self.clock.unix_seconds(millis);
    }

    /// Tells a socket's poller that there is something for it.
    pub(crate) fn tell(&self, lane: &Arc<Lane<H::Message>>) {
        // without its poller the socket has gone, too
        if let Err(Rejected::Full(_)) = lane.link.post(lane.token, Offloaded(Kind::Ready)) {
            self.crew.put_off(Arc::clone(lane));
        }
    }

    /// Tries again those whose poller had no room, each once; whether there are some.
    fn tell_untold(&self) -> bool {
        let untold = self.crew.take_untold();
        untold.iter().for_each(|lane| self.tell(lane));
        !untold.is_empty()
    }

    /// A message that its socket can't be told any more. What the program makes of it is its business.
    pub(crate) fn lose(&self, message: H::Message) {
        self.counts.lost.add(1);
        if catch_unwind(AssertUnwindSafe(|| drop(message))).is_err() {
            self.counts.panics.add(1);
        }
    }

    /// Ends all sockets but those that another worker has in hand, who does so itself.
    fn abort_all(&mut self, places: &Places<'_, H>) {
        self.look_at_the_clock();
        while let Some(Job { lane, .. }) = self.crew.take_leftover() {
            let Some(place) = places.get(lane.place as usize) else { continue };
            let mut stand_in = place.lock().unwrap_or_else(PoisonError::into_inner);
            let unknown = stand_in.is_over() && !lane.exchange().over;
            if unknown {
                stand_in.turn_away(&lane, self);
                drop(stand_in);
                self.crew.give_back(lane.place);
            }
        }
        for (place, number) in places.iter().zip(0..) {
            let mut stand_in = match place.try_lock() {
                Ok(stand_in) => stand_in,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => continue,
            };
            if !stand_in.is_over() {
                stand_in.abort(self);
                drop(stand_in);
                self.crew.give_back(number);
            }
        }
    }
}

/// What a callback is given beside its socket.
pub(crate) struct Surroundings<'b, M> {
    outbox: WorkerOutbox<'b, M>,
    now: Instant,
    unix_time: Option<u64>,
}

impl<'b, M> Surroundings<'b, M> {
    pub(crate) const fn lane(&self) -> &'b Lane<M> {
        self.outbox.lane
    }

    pub(crate) fn context(&mut self) -> Context<'_, M> {
        let poller = self.lane().token.poller();
        Context::new(self.now, self.unix_time, poller, &mut self.outbox)
    }
}
