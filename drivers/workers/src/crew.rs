//! Who runs which socket's callbacks, and when.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::time::Duration;

use lightcone_core::sync::{Counter, Pass};

use crate::lane::Lane;
use crate::locks::{Condvar, Mutex, MutexGuard, PoisonError};
use crate::report::Report;

/// A socket whose callbacks are due, with the right to run them.
pub(crate) struct Job<M> {
    pub(crate) lane: Arc<Lane<M>>,
    pub(crate) pass: Pass,
}

/// What bounds the lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of input that wait for a worker.
    pub(crate) input: usize,
    /// Messages that wait for a worker.
    pub(crate) messages: usize,
}

/// What one worker counts.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) opened: Counter,
    pub(crate) closed: Counter,
    pub(crate) panics: Counter,
    /// Turns of sockets that it ran.
    pub(crate) turns: Counter,
    /// Sockets that were open when the workers ended.
    pub(crate) aborted: Counter,
    /// Messages that came too late.
    pub(crate) lost: Counter,
}

/// The workers' shared side: jobs, who is idle, and the places of stand-ins.
pub(crate) struct Crew<M> {
    state: Mutex<State<M>>,
    /// One for each worker.
    bells: Box<[Condvar]>,
    /// A place has come back, or the last worker has ended.
    changed: Condvar,
    limits: Limits,
    pub(crate) counts: Box<[Counts]>,
}

struct State<M> {
    /// Sockets that wait for any worker: each at most once, since it has one pass.
    ready: VecDeque<Job<M>>,
    /// What was given to a worker that was idle.
    hands: Box<[Option<Job<M>>]>,
    /// Who waits, the latest last: that one's caches are warm.
    idle: Vec<usize>,
    /// Places of stand-ins that nobody has.
    free: Vec<u32>,
    /// Sockets whose poller had no room in its mailbox for the message that says that they have something: each once.
    /// Whoever has time tries them again.
    untold: Vec<Arc<Lane<M>>>,
    places: usize,
    /// No jobs are taken any more.
    closed: bool,
    /// Workers that have not ended.
    running: usize,
    turned_away: u64,
    lost_messages: u64,
}

/// What a worker does next.
pub(crate) enum Duty<M> {
    Run(Job<M>),
    /// Nothing came: what was put off is due.
    Retry,
    End,
}

impl<M> Crew<M> {
    pub(crate) fn new(workers: usize, places: u32, limits: Limits) -> Self {
        let state = State {
            ready: VecDeque::new(),
            hands: (0..workers).map(|_| None).collect(),
            idle: Vec::with_capacity(workers),
            free: (0..places).rev().collect(),
            untold: Vec::new(),
            places: places as usize,
            closed: false,
            running: workers,
            turned_away: 0,
            lost_messages: 0,
        };
        Self {
            state: Mutex::new(state),
            bells: (0..workers).map(|_| Condvar::new()).collect(),
            changed: Condvar::new(),
            limits,
            counts: (0..workers).map(|_| Counts::default()).collect(),
        }
    }

    /// No code of the program runs under this lock, and none that waits.
    fn state(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) const fn limits(&self) -> Limits {
        self.limits
    }

    /// A place for the stand-in of a new socket; `None` and counted if all are taken, or nobody works any more.
    pub(crate) fn take_place(&self) -> Option<u32> {
        let mut state = self.state();
        let place = if state.closed { None } else { state.free.pop() };
        state.turned_away += u64::from(place.is_none());
        place
    }

    pub(crate) fn give_back(&self, place: u32) {
        let mut state = self.state();
        state.free.push(place);
        if state.free.len() == state.places {
            self.changed.notify_all();
        }
    }

    pub(crate) fn lost_message(&self) {
        self.state().lost_messages += 1;
    }

    /// Has a worker run the socket: the one that ran it last if that is idle, else any that is, else the first that
    /// will be.
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
        if let Some(hand) = state.hands.get_mut(worker) {
            *hand = Some(job);
        }
        let waits = if state.untold.is_empty() { None } else { state.idle.last().copied() };
        drop(state);
        self.ring(waits); // that worker may have been the one who was to try again
        self.ring(Some(worker));
        Ok(())
    }

    fn ring(&self, worker: Option<usize>) {
        if let Some(bell) = worker.and_then(|worker| self.bells.get(worker)) {
            bell.notify_one();
        }
    }

    /// Somebody tries this socket's poller again: who has put it off, or who is idle, should that one have more to do.
    pub(crate) fn put_off(&self, lane: Arc<Lane<M>>) {
        let mut state = self.state();
        state.untold.push(lane);
        let idle = state.idle.last().copied();
        drop(state);
        self.ring(idle);
    }

    /// Those to try again.
    pub(crate) fn take_untold(&self) -> Vec<Arc<Lane<M>>> {
        core::mem::take(&mut self.state().untold)
    }

    /// What worker `me` does next; `again` is a job that it has not come to the end of, and which goes behind those
    /// that wait. `retry` is how long it waits while somebody is to be tried again.
    pub(crate) fn next(&self, me: usize, again: Option<Job<M>>, retry: Duration) -> Duty<M> {
        let mut state = self.state();
        state.ready.extend(again);
        if state.closed {
            return Duty::End;
        }
        if let Some(job) = state.ready.pop_front() {
            return Duty::Run(job);
        }
        let Some(bell) = self.bells.get(me) else { return Duty::End };
        state.idle.push(me);
        loop {
            let timed_out;
            let patience = (!state.untold.is_empty()).then_some(retry);
            (state, timed_out) = wait(bell, state, patience);
            let job = state.hands.get_mut(me).and_then(Option::take);
            if job.is_none() && !state.closed && !timed_out {
                continue; // woken for no reason, or to wait no longer than this
            }
            state.idle.retain(|worker| *worker != me);
            return match job {
                Some(job) => Duty::Run(job),
                None if state.closed => Duty::End,
                None => Duty::Retry,
            };
        }
    }

    /// From now on nobody is admitted and no job is taken; workers end when their callbacks return.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.bells.iter().for_each(Condvar::notify_all);
    }

    /// A job that nobody will run any more.
    pub(crate) fn take_leftover(&self) -> Option<Job<M>> {
        self.state().ready.pop_front()
    }

    /// A worker has ended.
    pub(crate) fn ended(&self) {
        self.state().running -= 1;
        self.changed.notify_all();
    }

    /// Waits until no socket has a stand-in, and no longer than that.
    pub(crate) fn wait_until_quiet(&self, at_most: Duration) {
        let wait =
            self.changed.wait_timeout_while(self.state(), at_most, |state| state.free.len() < state.places);
        drop(wait);
    }

    /// Waits until all workers have ended, and no longer than that; how many have not.
    pub(crate) fn wait_until_ended(&self, at_most: Duration) -> usize {
        let wait = self.changed.wait_timeout_while(self.state(), at_most, |state| state.running > 0);
        wait.unwrap_or_else(PoisonError::into_inner).0.running
    }

    /// What has been counted so far.
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
            turned_away: state.turned_away,
            lost_messages: state.lost_messages + sum(|counts| &counts.lost),
            untold: state.untold.len() as u64,
            unfinished: (state.places - state.free.len()) as u64,
            stuck: 0,
        }
    }
}

/// Waits for a bell, and no longer than that; whether that was too long.
fn wait<'a, M>(
    bell: &Condvar,
    state: MutexGuard<'a, State<M>>,
    patience: Option<Duration>,
) -> (MutexGuard<'a, State<M>>, bool) {
    let Some(patience) = patience else {
        return (bell.wait(state).unwrap_or_else(PoisonError::into_inner), false);
    };
    let (state, result) = bell.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner);
    (state, result.timed_out())
}
