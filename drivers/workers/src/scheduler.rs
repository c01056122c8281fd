//! The scheduler: assigns sockets to workers.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::time::Duration;

use lightcone_core::Rejected;
use lightcone_core::sync::{Counter, GatePermit};

use crate::bridge::Bridge;
use crate::locks::{Condvar, Mutex, MutexGuard, PoisonError};
use crate::message::{Offloaded, OffloadedKind};
use crate::report::Report;

/// A socket whose callbacks are due, with the right to run them.
pub(crate) struct Job<M> {
    pub(crate) bridge: Arc<Bridge<M>>,
    pub(crate) pass: GatePermit,
}

/// Limits of the bridges.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BridgeLimits {
    /// Bytes of input that wait for a worker.
    pub(crate) input: usize,
    /// Messages that wait for a worker.
    pub(crate) messages: usize,
}

/// Counters of one worker.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) opened: Counter,
    pub(crate) closed: Counter,
    pub(crate) panics: Counter,
    /// Turns that it ran.
    pub(crate) turns: Counter,
    /// Sockets that were still open when the workers ended.
    pub(crate) aborted: Counter,
    /// Messages that arrived after their socket's last callback.
    pub(crate) lost: Counter,
}

/// The scheduler: the queue of jobs, the idle workers and the free shadow slots. Shared by pollers and
/// workers.
pub(crate) struct Scheduler<M> {
    state: Mutex<SchedulerState<M>>,
    /// One per worker; wakes it.
    condvars: Box<[Condvar]>,
    /// Notified when all shadow slots are free again, and when a worker has ended.
    changed: Condvar,
    limits: BridgeLimits,
    pub(crate) counts: Box<[Counts]>,
}

/// A socket that has taken a shadow slot and is open at its poller until this is dropped. Its slot remains taken until
/// its last callback has run.
pub(crate) struct OpenSocket<M>(pub(crate) Arc<Scheduler<M>>);

impl<M> Drop for OpenSocket<M> {
    fn drop(&mut self) {
        self.0.state().open -= 1;
    }
}

struct SchedulerState<M> {
    /// Sockets that wait for a worker. Each is queued at most once, since it has one permit.
    ready: VecDeque<Job<M>>,
    /// The job assigned to each worker while it was idle, until it wakes up and takes it.
    in_hand: Box<[Option<Job<M>>]>,
    /// Idle workers, in the order in which they became idle. The last one is preferred: its caches are warm.
    idle: Vec<usize>,
    /// Shadow slots without a socket.
    free: Vec<u32>,
    /// Sockets that have been admitted and not ended at their pollers.
    open: u32,
    /// The maximum of `open`.
    sockets: u32,
    /// Sockets whose poller's mailbox was full when a worker posted `Ready`, each at most once. Any worker
    /// that is free retries them.
    unnotified: Vec<Arc<Bridge<M>>>,
    /// The number of shadow slots, with or without a socket.
    places: usize,
    /// No more jobs are accepted.
    closed: bool,
    /// Workers that have not ended.
    running: usize,
    rejected: u64,
    lost_messages: u64,
}

/// Returns the number of shadow slots for this many sockets. There are as many again for sockets that have ended at
/// their pollers and whose last callback is due: a poller may at once accept another connection in place of each.
pub(crate) const fn places(sockets: u32) -> u32 {
    2 * sockets
}

/// What a worker does next.
pub(crate) enum Task<M> {
    Run(Job<M>),
    /// No job arrived: the refused notifications are due for a retry.
    Retry,
    /// The workers end, and these jobs will not be run.
    End(VecDeque<Job<M>>),
}

impl<M> Scheduler<M> {
    /// Creates the scheduler of this many workers, for this many sockets at a time.
    pub(crate) fn new(workers: usize, sockets: u32, limits: BridgeLimits) -> Self {
        let places = places(sockets);
        let state = SchedulerState {
            ready: VecDeque::new(),
            in_hand: (0..workers).map(|_| None).collect(),
            idle: Vec::with_capacity(workers),
            free: (0..places).rev().collect(),
            open: 0,
            sockets,
            unnotified: Vec::new(),
            places: places as usize,
            closed: false,
            running: workers,
            rejected: 0,
            lost_messages: 0,
        };
        Self {
            state: Mutex::new(state),
            condvars: (0..workers).map(|_| Condvar::new()).collect(),
            changed: Condvar::new(),
            limits,
            counts: (0..workers).map(|_| Counts::default()).collect(),
        }
    }

    /// Locks the state. Neither handler code nor anything that blocks runs under this lock.
    fn state(&self) -> MutexGuard<'_, SchedulerState<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) const fn limits(&self) -> BridgeLimits {
        self.limits
    }

    /// Takes a shadow slot for a new socket. Returns `None`, and counts the socket as turned away, if there are as many
    /// sockets as allowed, all slots are taken, or the workers have ended.
    pub(crate) fn take_place(&self) -> Option<u32> {
        let mut state = self.state();
        let refused = state.closed || state.open == state.sockets;
        let place = if refused { None } else { state.free.pop() };
        state.open += u32::from(place.is_some());
        state.rejected += u64::from(place.is_none());
        place
    }

    pub(crate) fn release_place(&self, place: u32) {
        let mut state = self.state();
        state.free.push(place);
        if state.free.len() == state.places {
            self.changed.notify_all();
        }
    }

    pub(crate) fn lost_message(&self) {
        self.state().lost_messages += 1;
    }

    /// Schedules a job: on worker `last` if it is idle, otherwise on the worker that became idle last,
    /// otherwise at the end of the queue.
    ///
    /// # Errors
    ///
    /// Returns the job if the scheduler is closed.
    pub(crate) fn schedule(&self, job: Job<M>, last: usize) -> Result<(), Job<M>> {
        let mut state = self.state();
        if state.closed {
            return Err(job);
        }
        let place = state.idle.iter().rposition(|worker| *worker == last);
        let place = place.or(state.idle.len().checked_sub(1));
        let Some(worker) = place.map(|place| state.idle.remove(place)) else {
            state.ready.push_back(job);
            return Ok(());
        };
        let Some(hand) = state.in_hand.get_mut(worker) else { unreachable!("worker {worker} is idle") };
        *hand = Some(job);
        // The chosen worker may have been the one whose wait ends in time for the next retry. Wake another
        // idle worker: it waits again, now with the retry interval as its limit.
        let waits = if state.unnotified.is_empty() { None } else { state.idle.last().copied() };
        drop(state);
        self.ring(waits); // that worker may have been the one to retry
        self.ring(Some(worker));
        Ok(())
    }

    fn ring(&self, worker: Option<usize>) {
        if let Some(bell) = worker.and_then(|worker| self.condvars.get(worker)) {
            bell.notify_one();
        }
    }

    /// Notifies a socket's poller that the bridge contains something for it. If its mailbox is full, queues
    /// the socket for a retry.
    pub(crate) fn notify(&self, bridge: &Arc<Bridge<M>>) {
        let posted = bridge.link.post(bridge.token, Offloaded(OffloadedKind::Ready));
        let Err(Rejected::Full(_)) = posted else {
            return; // if the poller has ended, so has the socket
        };
        let mut state = self.state();
        state.unnotified.push(Arc::clone(bridge));
        // An idle worker retries it: the calling worker may spend a long time in its next callback.
        let idle = state.idle.last().copied();
        drop(state);
        self.ring(idle);
    }

    /// Retries all refused notifications once. Returns whether there were any.
    pub(crate) fn notify_pending(&self) -> bool {
        let unnotified = core::mem::take(&mut self.state().unnotified);
        unnotified.iter().for_each(|bridge| self.notify(bridge));
        !unnotified.is_empty()
    }

    /// Returns what worker `me` does next, and waits for it if necessary. `again` is a job that is not
    /// finished; it goes to the end of the queue. `retry` limits the wait while notifications are to be
    /// retried.
    pub(crate) fn next(&self, me: usize, again: Option<Job<M>>, retry: Duration) -> Task<M> {
        let mut state = self.state();
        state.ready.extend(again);
        // Checked after `again` has been queued: that job must not be lost.
        if state.closed {
            return Task::End(core::mem::take(&mut state.ready));
        }
        if let Some(job) = state.ready.pop_front() {
            return Task::Run(job);
        }
        let Some(bell) = self.condvars.get(me) else { unreachable!("worker {me} has no condition variable") };
        state.idle.push(me);
        loop {
            let timed_out;
            let patience = (!state.unnotified.is_empty()).then_some(retry);
            (state, timed_out) = wait(bell, state, patience);
            // A job counts even after a timeout or a close: it was assigned to this worker, and no other
            // worker runs it.
            let job = state.in_hand.get_mut(me).and_then(Option::take);
            if job.is_none() && !state.closed && !timed_out {
                continue; // a spurious wake-up, or the time limit of the wait has changed
            }
            state.idle.retain(|worker| *worker != me);
            return match job {
                Some(job) => Task::Run(job),
                None if state.closed => Task::End(core::mem::take(&mut state.ready)),
                None => Task::Retry,
            };
        }
    }

    /// Closes the scheduler: it admits no sockets and accepts no jobs, and workers end when their callbacks
    /// return.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.condvars.iter().for_each(Condvar::notify_all);
    }

    /// Records that a worker has ended.
    pub(crate) fn ended(&self) {
        self.state().running -= 1;
        self.changed.notify_all();
    }

    /// Ends the workers, when no shadow slot is in use or after the grace time. Two waits, each notified by
    /// the event that it waits for: the first, for the slots, lasts at most `grace`; the second, for the
    /// workers, at most the larger of `grace` and `least`.
    pub(crate) fn end(&self, grace: Duration, least: Duration) -> Report {
        let in_use = |state: &mut SchedulerState<M>| state.free.len() < state.places;
        drop(self.changed.wait_timeout_while(self.state(), grace, in_use));
        self.close();
        let wait = self.changed.wait_timeout_while(self.state(), grace.max(least), |state| state.running > 0);
        let stuck = wait.unwrap_or_else(PoisonError::into_inner).0.running;
        Report { stuck, ..self.report() }
    }

    /// Returns the counts so far.
    pub(crate) fn report(&self) -> Report {
        let state = self.state();
        let sum = |count: fn(&Counts) -> &Counter| {
            self.counts.iter().map(|counts| count(counts).get() as u64).sum::<u64>()
        };
        Report {
            opened: sum(|counts| &counts.opened),
            closed: sum(|counts| &counts.closed),
            aborted: sum(|counts| &counts.aborted),
            turns: sum(|counts| &counts.turns),
            panics: sum(|counts| &counts.panics),
            rejected: state.rejected,
            lost_messages: state.lost_messages + sum(|counts| &counts.lost),
            unnotified: state.unnotified.len() as u64,
            unfinished: (state.places - state.free.len()) as u64,
            stuck: 0,
        }
    }
}

/// Waits on a condition variable, for at most `patience` if there is one. Returns whether the wait timed out.
fn wait<'a, M>(
    bell: &Condvar,
    state: MutexGuard<'a, SchedulerState<M>>,
    patience: Option<Duration>,
) -> (MutexGuard<'a, SchedulerState<M>>, bool) {
    let Some(patience) = patience else {
        return (bell.wait(state).unwrap_or_else(PoisonError::into_inner), false);
    };
    let (state, result) = bell.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner);
    (state, result.timed_out())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::PollerLink;
    use core::iter::repeat_with;
    use lightcone_core::{Address, ListenerId, Origin, Token, UnixId};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;

    /// Upper bound for any wait of a test.
    const WAIT: Duration = Duration::from_secs(30);
    /// A wait of this length has missed its notification.
    const FOR_EVER: Duration = Duration::from_secs(3_600);

    struct NoLink;

    impl PollerLink<()> for NoLink {
        fn post(&self, _: Token, message: Offloaded<()>) -> Result<(), Rejected<Offloaded<()>>> {
            Err(Rejected::Gone(message))
        }

        fn broadcast(
            &self,
            message: Offloaded<()>,
            _: fn(&Offloaded<()>) -> Offloaded<()>,
        ) -> Result<(), Rejected<Offloaded<()>>> {
            Err(Rejected::Gone(message))
        }
    }

    fn job() -> Job<()> {
        let who = (Origin::Accepted { listener: ListenerId(0) }, Address::Unix(UnixId(0)));
        let bridge = Arc::new(Bridge::new(Token::from_bits(0), 0, who, None, Arc::new(NoLink)));
        let pass = bridge.gate.post().unwrap();
        Job { bridge, pass }
    }

    /// Starts workers that report which of them received a job, and do not run it.
    fn scheduler(workers: usize, sockets: u32) -> (Arc<Scheduler<()>>, Receiver<usize>) {
        let scheduler = Arc::new(Scheduler::new(workers, sockets, BridgeLimits { input: 1, messages: 1 }));
        let (notified, runs) = channel();
        for me in 0..workers {
            let (scheduler, notified) = (Arc::clone(&scheduler), notified.clone());
            thread::Builder::new().spawn(move || work(&scheduler, me, &notified)).unwrap();
        }
        (scheduler, runs)
    }

    fn work(scheduler: &Scheduler<()>, me: usize, notified: &Sender<usize>) {
        loop {
            match scheduler.next(me, None, FOR_EVER) {
                Task::Run(_) => notified.send(me).unwrap(),
                Task::Retry => {}
                Task::End(_) => return scheduler.ended(),
            }
        }
    }

    /// Waits until all workers are idle. Returns the one that became idle last.
    fn last_idle(scheduler: &Scheduler<()>, workers: usize) -> usize {
        let all = |_: &u128| {
            thread::sleep(Duration::from_millis(1));
            let state = scheduler.state();
            state.idle.last().copied().filter(|_| state.idle.len() == workers)
        };
        (0..WAIT.as_millis()).find_map(|n| all(&n)).expect("the workers become idle")
    }

    /// Ends the scheduler. Fails if one of its waits is not ended by a notification.
    fn end(scheduler: &Arc<Scheduler<()>>) -> Report {
        let (notified, report) = channel();
        let scheduler = Arc::clone(scheduler);
        thread::Builder::new().spawn(move || notified.send(scheduler.end(FOR_EVER, FOR_EVER))).unwrap();
        report.recv_timeout(WAIT).expect("the end is notified")
    }

    #[test]
    fn a_job_goes_to_the_worker_that_ran_it_last_if_that_is_idle() {
        let (scheduler, runs) = scheduler(4, 1);
        for last in [2, 0, 3, 1, 1, 0] {
            last_idle(&scheduler, 4);
            assert!(scheduler.schedule(job(), last).is_ok());
            assert_eq!(runs.recv_timeout(WAIT), Ok(last));
        }
        end(&scheduler);
    }

    #[test]
    fn a_job_that_never_ran_goes_to_the_worker_that_became_idle_last() {
        let (scheduler, runs) = scheduler(4, 1);
        for _ in 0..6 {
            let last = last_idle(&scheduler, 4);
            assert!(scheduler.schedule(job(), usize::MAX).is_ok());
            assert_eq!(runs.recv_timeout(WAIT), Ok(last));
        }
        end(&scheduler);
    }

    /// The order of the two does not matter: the release of the last slot and the wait for it, or the end of
    /// the last worker and the wait for that.
    #[test]
    fn an_end_takes_no_longer_than_what_it_waits_for() {
        for workers in [1, 3] {
            for places in [0, 1, 5] {
                let (scheduler, _runs) = scheduler(workers, 5);
                let taken: Vec<_> = repeat_with(|| scheduler.take_place().unwrap()).take(places).collect();
                let giver = Arc::clone(&scheduler);
                let give = move || taken.into_iter().for_each(|place| giver.release_place(place));
                thread::Builder::new().spawn(give).unwrap();
                let report = end(&scheduler);
                assert_eq!((report.unfinished, report.stuck), (0, 0));
            }
        }
    }
}
