//! The simulated network, its clock, and the order of its events.

use core::net::SocketAddr;
use std::collections::VecDeque;
use std::rc::Rc;

use lightcone_core::ErrorKind;

use crate::agenda::{Agenda, Scheduled};
use crate::end::End;
use crate::fault::{Fault, Faults};
use crate::peer::Peer;
use crate::tape::{Decider, Source, Track};
use crate::trace::{Did, Trace};

mod connections;
mod notices;
mod streams;

/// The completion of an operation that a completion driver requested.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) end: u32,
    pub(crate) uid: u32,
    pub(crate) key: u64,
    pub(crate) done: Done,
}

#[derive(Debug)]
pub(crate) enum Done {
    Received(Vec<u8>),
    Ended,
    Sent(usize),
    SendFailed(ErrorKind),
    Connected,
    /// A receive or a connect has failed.
    Failed(ErrorKind),
    /// A receive was cancelled by a close.
    CalledOff,
}

/// A poller as the network sees it.
#[derive(Debug, Default)]
pub(crate) struct Side {
    pub(crate) completes: bool,
    pub(crate) ready: VecDeque<u32>,
    pub(crate) completions: VecDeque<Completion>,
    pub(crate) asleep: bool,
    pub(crate) turns: u32,
    /// When it is to take its next turn, in µs. `late` is measured from here.
    pub(crate) asked: u64,
    /// Its deadline in µs, and the time of its pending `Scheduled::Timer`.
    pub(crate) deadline: Option<u64>,
    pub(crate) timer: Option<u64>,
    pub(crate) over: bool,
}

/// The parameters of a run's network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wires {
    /// In µs.
    pub(crate) latency: u32,
    pub(crate) jitter: u32,
    pub(crate) window: usize,
    /// The size of the send buffer of a poller's socket, in addition to the window; 0 for none.
    pub(crate) send_buffer: usize,
    /// The maximum number of events and completions of one wait.
    pub(crate) wait_capacity: usize,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) decider: Decider,
    pub(crate) faults: Faults,
    pub(crate) healed: bool,
    pub(crate) trace: Rc<Trace>,
    pub(crate) agenda: Agenda,
    pub(crate) wires: Wires,
    ends: Vec<End>,
    free: Vec<u32>,
    pub(crate) open: usize,
    uids: u32,
    pub(crate) sides: Vec<Side>,
    pub(crate) peers: Vec<Peer>,
    /// The number of peers whose scripts are still running.
    pub(crate) running: usize,
    listeners: Vec<(SocketAddr, u32)>,
    ports: u32,
    /// The buffer that peers receive into and send from.
    pub(crate) buffer: Vec<u8>,
}

/// The sizes of a wait's buffer of events. Half of all runs have the first, which holds all.
const WAIT_CAPACITIES: [usize; 8] = [1_024, 1_024, 1_024, 1_024, 1, 2, 5, 20];

/// The sizes of the system's send buffer. Half of all runs have none.
const SEND_BUFFERS: [usize; 8] = [0, 0, 0, 0, 20_000, 1 << 20, 3_000, 300];

impl World {
    pub(crate) fn new(source: Source, keep: bool, calm: bool) -> Self {
        let mut decider = Decider::new(source);
        let faults = if calm { Faults::NONE } else { Faults::draw(&mut decider) };
        let wires = if calm {
            Wires {
                latency: 50,
                jitter: 0,
                window: 64 * 1_024,
                send_buffer: 0,
                wait_capacity: WAIT_CAPACITIES[0],
            }
        } else {
            let latency =
                [50, 0, 1, 200, 1_000, 5_000, 20_000, 100_000][decider.draw(Track::Setup, 8) as usize];
            let jitter = [0, 0, 10, 1_000][decider.draw(Track::Setup, 4) as usize];
            let window =
                [65_536, 65_536, 16_384, 4_096, 1_460, 300, 60, 7][decider.draw(Track::Setup, 8) as usize];
            // At least a kilobyte per second: otherwise large bodies take longer than a run may.
            let latency = u32::try_from(window * 1_000).map_or(latency, |most| latency.min(most));
            let capacity = decider.draw(Track::System, WAIT_CAPACITIES.len() as u32);
            let wait_capacity = WAIT_CAPACITIES[capacity as usize];
            let send_buffer = SEND_BUFFERS[decider.draw(Track::System, SEND_BUFFERS.len() as u32) as usize];
            Wires { latency, jitter, window, send_buffer, wait_capacity }
        };
        // core keeps the low 32 bits of the milliseconds, so some runs start shortly before they wrap
        let start = match if calm { 0 } else { decider.draw(Track::Setup, 4) } {
            0 => 1_000_000,
            1 => ((1_u64 << 32) - 5_000) * 1_000,
            2 => ((1_u64 << 31) - 5_000) * 1_000,
            _ => 0,
        };
        let trace = Rc::new(Trace::new(keep));
        trace.set_now(start);
        Self {
            now: start,
            decider,
            faults,
            healed: false,
            trace,
            agenda: Agenda::default(),
            wires,
            ends: Vec::new(),
            free: Vec::new(),
            open: 0,
            uids: 0,
            sides: Vec::new(),
            peers: Vec::new(),
            running: 0,
            listeners: Vec::new(),
            ports: 0,
            buffer: Vec::new(),
        }
    }

    #[inline]
    pub(crate) fn occurs(&mut self, track: Track, fault: Fault) -> bool {
        self.faults.occurs(&mut self.decider, track, fault)
    }

    /// Returns how many of `most` bytes a call transfers.
    fn cut(&mut self, fault: Fault, most: usize) -> usize {
        if most < 2 || !self.occurs(Track::Calls, fault) {
            return most;
        }
        match self.decider.draw(Track::Calls, 4) {
            0..=2 => 1,
            _ => 1 + self.decider.draw(Track::Calls, most as u32 - 1) as usize,
        }
    }

    /// Draws the order of simultaneous events.
    #[inline]
    fn pick(&mut self) -> u8 {
        if self.healed { 0 } else { self.decider.draw(Track::Order, 4) as u8 }
    }

    #[inline]
    pub(crate) fn add(&mut self, at: u64, due: Scheduled) {
        let picked = self.pick();
        self.agenda.add(at, picked, due);
    }

    pub(crate) fn heal(&mut self) {
        if self.healed {
            return;
        }
        self.trace.note(Did::Heal, 0, 0);
        self.healed = true;
        self.faults.heal();
        // Closed windows reopen and waiting peers continue at once: after the healing, nothing depends on a
        // fault.
        for place in 0..self.ends.len() as u32 {
            if self.ends[place as usize].closed_until > self.now {
                self.ends[place as usize].closed_until = self.now;
                let other = self.ends[place as usize].other;
                self.touch_other(other);
            }
        }
        for peer in 0..self.peers.len() as u32 {
            self.wake_peer(peer, self.now);
        }
    }

    // --- ends ----------------------------------------------------------------------------------------------------

    #[inline]
    pub(crate) fn end(&self, end: u32) -> &End {
        &self.ends[end as usize]
    }

    #[inline]
    pub(crate) fn end_mut(&mut self, end: u32) -> &mut End {
        &mut self.ends[end as usize]
    }

    // --- calls ---------------------------------------------------------------------------------------------------

    // --- readiness and completions ---------------------------------------------------------------------------------

    // --- wake-ups and timers ----------------------------------------------------------------------------

    /// Wakes a sleeping poller for a turn.
    pub(crate) fn wake_poller(&mut self, poller: u32) {
        let side = &mut self.sides[poller as usize];
        if !side.asleep || side.over {
            return;
        }
        side.asleep = false;
        side.asked = side.asked.min(self.now);
        // The turn count makes this wake-up void if the poller takes a turn earlier.
        let since = side.turns;
        self.trace.note(Did::Wake, poller.into(), 0);
        let at = self.now + self.wake_delay();
        self.add(at, Scheduled::Turn { poller, since });
    }

    /// Puts a poller to sleep until this time.
    pub(crate) fn sleep(&mut self, poller: u32, deadline: Option<u64>) {
        let side = &mut self.sides[poller as usize];
        side.asleep = true;
        side.deadline = deadline;
        side.asked = deadline.unwrap_or(u64::MAX);
        // One pending timer is enough: if the deadline moves to a later time, `timer` schedules it again when
        // it fires.
        if let Some(deadline) = deadline
            && side.timer.is_none_or(|at| at > deadline)
        {
            side.timer = Some(deadline);
            self.add(deadline, Scheduled::Timer { poller });
        }
    }

    /// Handles a timer that fires. Returns whether its poller takes a turn now.
    pub(crate) fn timer(&mut self, poller: u32) -> bool {
        let side = &mut self.sides[poller as usize];
        if side.timer != Some(self.now) {
            return false;
        }
        side.timer = None;
        let Some(deadline) = side.deadline.filter(|_| side.asleep) else { return false };
        if deadline > self.now {
            // the deadline has been postponed since
            side.timer = Some(deadline);
            self.add(deadline, Scheduled::Timer { poller });
            return false;
        }
        let delay = self.wake_delay();
        if delay > 1 {
            let side = &mut self.sides[poller as usize];
            side.asleep = false;
            let since = side.turns;
            self.add(self.now + delay, Scheduled::Turn { poller, since });
        }
        delay == 1
    }

    pub(crate) fn wake_delay(&mut self) -> u64 {
        if self.occurs(Track::Calls, Fault::WakeDelayed) {
            1 + u64::from(self.decider.draw(Track::Calls, 20_000))
        } else {
            1
        }
    }

    pub(crate) fn wake_peer(&mut self, peer: u32, at: u64) {
        let state = &mut self.peers[peer as usize];
        if state.is_over() || state.wakes <= at {
            return;
        }
        state.wakes = at;
        state.steps += 1;
        let since = state.steps;
        self.add(at, Scheduled::Peer { peer, since });
    }
}
