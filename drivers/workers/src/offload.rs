//! The poller's side: a handler that passes every event to the workers.

use alloc::sync::Arc;
use core::fmt;

use lightcone_core::{Address, Context, Event, Handler, Origin, Socket};

use crate::bridge::Bridge;
use crate::message::{Offloaded, PollerLink};
use crate::scheduler::{Job, OpenSocket, Scheduler};

/// A poller's handler whose callbacks run on workers. See [`Workers`](crate::Workers).
///
/// It never waits for a worker: its own callbacks only copy bytes and schedule the socket.
pub struct Offload<M> {
    scheduler: Arc<Scheduler<M>>,
    link: Arc<dyn PollerLink<M>>,
}

impl<M> fmt::Debug for Offload<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offload").finish_non_exhaustive()
    }
}

impl<M> Offload<M> {
    pub(crate) fn new(scheduler: Arc<Scheduler<M>>, link: Arc<dyn PollerLink<M>>) -> Self {
        Self { scheduler, link }
    }
}

/// The user data of a poller's socket: its link to the workers. The socket counts as open until it is dropped.
pub struct Ticket<M> {
    open: OpenSocket<M>,
    kept: Kept<M>,
}

/// A reserved shadow slot until the socket opens, then the bridge.
enum Kept<M> {
    Place {
        place: u32,
        origin: Origin,
        peer: Address,
    },
    Bridge {
        bridge: Arc<Bridge<M>>,
        /// Bytes that were queued at the poller's socket and have not been added to the bridge's `sent`.
        unreported: usize,
    },
}

impl<M> Drop for Ticket<M> {
    fn drop(&mut self) {
        if let Kept::Place { place, .. } = self.kept {
            self.open.0.release_place(place); // the socket has not opened
        }
    }
}

impl<M> fmt::Debug for Ticket<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}

impl<M> Handler for Offload<M> {
    type Data = Ticket<M>;
    type Message = Offloaded<M>;

    /// Reserves a shadow slot. The program's `admit` runs on a worker, before `open`.
    fn admit(&mut self, origin: Origin, peer: &Address) -> Option<Ticket<M>> {
        let place = self.scheduler.take_place()?;
        let kept = Kept::Place { place, origin, peer: *peer };
        Some(Ticket { open: OpenSocket(Arc::clone(&self.scheduler)), kept })
    }

    fn event(
        &mut self,
        socket: &mut Socket<'_, Ticket<M>>,
        event: Event<Offloaded<M>>,
        cx: &mut Context<'_, Offloaded<M>>,
    ) {
        // The first event, `open`, `refused` or `close`, turns the reserved slot into a bridge.
        let opens = matches!(socket.data.kept, Kept::Place { .. });
        if let Kept::Place { place, origin, peer } = socket.data.kept {
            let token = socket.stream.token();
            let local = cx.local_address(token);
            let bridge = Bridge::new(token, place, (origin, peer), local, Arc::clone(&self.link));
            socket.data.kept = Kept::Bridge { bridge: Arc::new(bridge), unreported: 0 };
        }
        let Socket { stream, data: Ticket { kept: Kept::Bridge { bridge, unreported }, .. } } = socket else {
            unreachable!("the first event has made the bridge")
        };
        let limits = self.scheduler.limits();
        let mut exchange = bridge.exchange();
        let mut rejected = None;
        let mut news = exchange.note(event, limits.messages, &mut rejected);
        exchange.stopping |= stream.is_stopping();
        news |= exchange.take_input(stream, limits.input);
        // Computed before `sent` is added to `news`: output that was sent wakes a worker, but is no work for
        // a callback. Neither is `open` counted, as declaring the socket idle again would cost a
        // notification.
        exchange.active |= news && !opens;
        news |= exchange.give(stream, unreported);
        stream.set_active(exchange.active);
        let (over, worker) = (exchange.over, exchange.worker);
        drop(exchange);
        if rejected.is_some() {
            self.scheduler.lost_message();
        }
        // Only after the lock is released, as the scheduled worker takes it at once. A post made while a
        // worker runs the socket is not lost: that worker reads the bridge again before it releases the permit.
        if news
            && !over
            && let Some(pass) = bridge.gate.post()
            && self.scheduler.schedule(Job { bridge: Arc::clone(bridge), pass }, worker).is_err()
        {
            stream.abort(); // there are no workers any more
            if opens {
                self.scheduler.release_place(bridge.place); // it was never bound
            }
        }
        // Last, because dropping the program's message may panic.
        drop(rejected);
    }
}
